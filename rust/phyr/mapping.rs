// SPDX-License-Identifier: GPL-2.0

//! A mapping that owns its memory.
//!
//! Begins with [`Mapper::map`]. While it lasts the memory is the device's; the CPU gets at it
//! through [`Mapping::cpu`] only, which hands it over and back. It ends with [`Mapping::unmap`],
//! which returns the memory, or when it is dropped.
//!
//! A driver has to see to it that the device is done with the memory before it ends a mapping: the
//! addresses that it wrote into the device's registers are beyond what a type can guard. Behind an
//! IOMMU a late access then faults.

use super::{
    linear,
    mapper::Mapper,
    memory::{
        list_flags,
        segments,
        Kind,
        Memory,
        PageMemory,
        Vmap, //
    },
    not_mapped::NotMapped,
    ops::{
        self,
        Mode, //
    },
    source::Source,
    state::{
        DmaVecs,
        Slot,
        State, //
    },
    types::Granule, //
};
use core::{
    mem::ManuallyDrop,
    ptr, //
};
use kernel::{
    dma::DataDirection,
    prelude::*, //
};

/// Memory that is mapped for a device.
///
/// If it is leaked, the memory is never freed, and stays mapped for as long as the device has its
/// IOMMU domain.
///
/// # Invariants
///
/// `state` is that of a mapping of `memory` by `mapper`, with `slots`.
pub struct Mapping<'bound, M: Memory> {
    mapper: Mapper<'bound>,
    state: State,
    slots: KVVec<Slot>,
    memory: M,
}

impl<'bound> Mapper<'bound> {
    /// Maps `memory`, which the mapping owns from now on.
    ///
    /// This is for buffers that live for a while. It allocates 16 bytes a segment if there is more
    /// than one; a path that must not allocate sets its slots aside beforehand, as the block layer
    /// of this project does for its requests.
    ///
    /// Context: may sleep if `flags` allow it.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::map_into`] except `E2BIG`. The memory comes back.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::prelude::*;
    /// use phyr::{memory::Pages, DataDirection, DmaVec, Mapper};
    ///
    /// fn receive(mapper: &Mapper<'_>, start: impl Fn(DmaVec)) -> Result {
    ///     let pages = Pages::zeroed(65536, GFP_KERNEL)?;
    ///     let mut mapping = mapper.map(pages, DataDirection::FromDevice, GFP_KERNEL)?;
    ///     mapping.dma_vecs().for_each(start);
    ///     // ... wait for the device ...
    ///     let mut header = [0; 16];
    ///     mapping.cpu().read(0, &mut header)?;
    ///     Ok(())
    /// }
    /// ```
    pub fn map<M: Memory>(
        &self,
        memory: M,
        dir: DataDirection,
        flags: kernel::alloc::Flags,
    ) -> Result<Mapping<'bound, M>, NotMapped<M>> {
        // SAFETY: the mapping owns `memory`, and writes it only through its guard.
        match unsafe { self.map_memory(&memory, dir, flags) } {
            // INVARIANT: just mapped so.
            Ok((state, slots)) => Ok(Mapping {
                mapper: self.clone(),
                state,
                slots,
                memory,
            }),
            Err(reason) => Err(NotMapped::new(memory, reason)),
        }
    }

    /// Maps `memory`, to which the CPU will want access, with slots of the mapping's own.
    ///
    /// Context: may sleep if `flags` allow it.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::map`].
    ///
    /// # Safety
    ///
    /// Until the mapping has ended by [`Mapper::unmap_from`] `memory` exists, the device may access
    /// it in the direction `dir`, and the slots are not written.
    #[doc(hidden)]
    pub unsafe fn map_memory<M: Memory>(
        &self,
        memory: &M,
        dir: DataDirection,
        flags: kernel::alloc::Flags,
    ) -> Result<(State, KVVec<Slot>)> {
        self.check_domain()?;
        let mode = Mode::new(dir, M::KIND)?;
        let source = || segments(memory, *self.limits());
        // The DMA API can sync only what `dma_map_phys()` mapped. Where there is nothing to sync,
        // as for every device that packs, ranges are linked all the same.
        let granule = self.granule().filter(|_| self.packs());
        self.check_kind::<M, _>(source(), mode)?;
        let look = self.look(source(), granule.unwrap_or(Granule::ONE))?;
        if let (Some(granule), Some(len)) = (granule, look.run) {
            // SAFETY: by the contract of `Memory` it is of its kind, and stays where it is for as
            // long as it exists; the rest by the requirements of this function.
            if let Some(state) = unsafe { self.map_run(source(), len, granule, mode) }? {
                return Ok((state, KVVec::new()));
            }
        }
        let mut slots = KVVec::new();
        if look.phyrs > 1 {
            slots.extend_with(look.phyrs, Slot::EMPTY, list_flags(flags))?;
        }
        // SAFETY: as above.
        let state = unsafe { self.map_source(source(), mode, &mut slots, granule) }?;
        Ok((state, slots))
    }
}

impl Mapper<'_> {
    /// Checks that the device reaches what is not the system's memory, and where nothing
    /// translates: the DMA API never copies it, and warns of what is out of reach.
    ///
    /// # Errors
    ///
    /// - `ERANGE`: it does not.
    /// - `ENOBUFS`: all that it sees is copied.
    /// - What `source` fails with.
    pub(crate) fn check_kind<M: Memory, S: Source>(&self, source: S, mode: Mode) -> Result {
        if M::KIND == Kind::System || self.granule().is_some() {
            return Ok(());
        }
        for phyr in source {
            let phyr = phyr?;
            ops::check_reach(self, phyr.paddr(), phyr.len(), mode)?;
        }
        Ok(())
    }
}

impl<'bound, M: Memory> Mapping<'bound, M> {
    /// # Safety
    ///
    /// The arguments are those of a mapping, as the type invariant says.
    pub(crate) unsafe fn from_parts(
        mapper: Mapper<'bound>,
        state: State,
        slots: KVVec<Slot>,
        memory: M,
    ) -> Self {
        // INVARIANT: by the safety requirements.
        Self {
            mapper,
            state,
            slots,
            memory,
        }
    }

    /// The ranges that the device sees.
    #[inline]
    pub fn dma_vecs(&self) -> DmaVecs<'_> {
        self.state.dma_vecs(&self.slots)
    }

    /// In which direction the memory is mapped.
    #[inline]
    pub fn direction(&self) -> DataDirection {
        self.state.mode().direction()
    }

    /// Its length in bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Hands the memory over to the CPU until the returned guard is dropped.
    ///
    /// The device must not access it meanwhile: the driver has it wait. Calls
    /// `dma_sync_single_for_cpu()` now, and `dma_sync_single_for_device()` in the end, where the
    /// device is one that needs it.
    ///
    /// Context: any.
    pub fn cpu(&mut self) -> CpuAccess<'_, M> {
        // SAFETY: by the type invariant.
        unsafe { CpuAccess::scatter(&self.mapper, &self.state, &self.slots, &mut self.memory) }
    }

    /// Ends the mapping and gives the memory back. The device must be done with it.
    ///
    /// Context: any, as far as dropping the slots allows (see `kvfree()`), unless it is the last of
    /// its mapper in a domain of the driver's own.
    pub fn unmap(self) -> M {
        let mut this = ManuallyDrop::new(self);

        this.end();
        // SAFETY: `this` is not used again, nor dropped; each field is taken out once.
        let (memory, slots, mapper) = unsafe {
            (
                ptr::read(&this.memory),
                ptr::read(&this.slots),
                ptr::read(&this.mapper),
            )
        };
        drop((slots, mapper));
        memory
    }

    /// Unmaps; may be called again.
    fn end(&mut self) {
        // SAFETY: by the type invariant; that the device is done is the driver's part.
        unsafe { self.mapper.unmap_from(self.state.take(), &self.slots) };
    }
}

impl<M: Memory> Drop for Mapping<'_, M> {
    fn drop(&mut self) {
        self.end();
    }
}

/// The CPU's turn with the memory of a mapping; see [`Mapping::cpu`] and
/// [`Linear::cpu`](crate::linear::Linear::cpu).
///
/// # Invariants
///
/// `mapped` is a mapping of `memory` by `mapper`.
pub struct CpuAccess<'a, M: Memory> {
    mapper: &'a Mapper<'a>,
    mapped: Mapped<'a>,
    memory: &'a mut M,
}

/// What the memory has to be handed back to.
enum Mapped<'a> {
    Scatter(&'a State, &'a [Slot]),
    Linear(&'a linear::Mapped),
}

impl<'a, M: Memory> CpuAccess<'a, M> {
    /// # Safety
    ///
    /// `state`, with `slots`, is that of a mapping of `memory` by `mapper`.
    unsafe fn scatter(
        mapper: &'a Mapper<'a>,
        state: &'a State,
        slots: &'a [Slot],
        memory: &'a mut M,
    ) -> Self {
        // SAFETY: by the requirements of this function.
        unsafe { mapper.sync_for_cpu(state, slots) };
        // INVARIANT: as above.
        Self {
            mapper,
            mapped: Mapped::Scatter(state, slots),
            memory,
        }
    }

    /// # Safety
    ///
    /// `mapped` is that of a mapping of `memory` by `mapper`.
    pub(crate) unsafe fn linear(
        mapper: &'a Mapper<'a>,
        mapped: &'a linear::Mapped,
        memory: &'a mut M,
    ) -> Self {
        if let Some((addr, len, mode)) = mapped.single() {
            // SAFETY: by the requirements of this function.
            unsafe { ops::sync_for_cpu(mapper, addr, len, mode) };
        }
        // INVARIANT: by the requirements of this function.
        Self {
            mapper,
            mapped: Mapped::Linear(mapped),
            memory,
        }
    }

    /// Copies from the memory at `offset` to `to`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the memory ends before.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.memory.read(offset, to)
    }

    /// Copies `from` to the memory at `offset`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the memory ends before.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.memory.write(offset, from)
    }

    /// The memory as one range of the kernel's address space; for what takes more than a few
    /// accesses.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory, or no room in the address space.
    pub fn vmap(&mut self) -> Result<Vmap<'_>>
    where
        M: PageMemory,
    {
        Vmap::new(self.memory)
    }
}

impl<M: Memory> Drop for CpuAccess<'_, M> {
    fn drop(&mut self) {
        // SAFETY: by the type invariant.
        unsafe {
            match self.mapped {
                Mapped::Scatter(state, slots) => self.mapper.sync_for_device(state, slots),
                Mapped::Linear(mapped) => {
                    if let Some((addr, len, mode)) = mapped.single() {
                        ops::sync_for_device(self.mapper, addr, len, mode);
                    }
                }
            }
        }
    }
}
