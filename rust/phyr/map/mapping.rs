// SPDX-License-Identifier: GPL-2.0

//! A mapping that ends when it is dropped.
//!
//! [`Mapping`], of [`Mapper::map`], owns its memory. While it lasts the memory is the device's; the
//! CPU gets at it through [`Mapping::cpu`] only, which hands it over and back ([`CpuAccess`]). It
//! ends with [`Mapping::unmap`], which returns the memory, or when it is dropped; many of them end
//! with [`unmap_all`]. A library that keeps the memory itself maps it with [`Mapper::map_pinned`].
//!
//! A driver has to see to it that the device is done with the memory before it ends a mapping: the
//! addresses that it wrote into the device's registers are beyond what a type can guard. Behind an
//! IOMMU a late access then faults.

use super::{
    choose::Reach,
    diagnose::check_reach,
    dma_api::Space,
    state::{
        DmaVecs,
        Segment,
        Slot,
        State, //
    },
    unmap_batch::{
        IotlbGather,
        Unmapping, //
    }, //
};
use crate::{
    access::Access,
    mapper::Mapper,
    memory::{
        check_access,
        list_flags,
        segments,
        MapError,
        Memory,
        PageMemory,
        Vmap, //
    },
    pinned::Pinned,
    source::Source,
    space::{
        IovaSpace,
        Single, //
    }, //
};
use core::{
    num::NonZeroUsize,
    pin::pin, //
};
use kernel::{
    alloc::Flags,
    dma::DataDirection,
    prelude::*, //
};

/// Pinned memory that is mapped for a device, whoever keeps it. Dropping it unmaps it.
///
/// # Invariants
///
/// `state` is that of a mapping by `mapper`, with `slots`.
pub struct PinnedMapping<'bound> {
    mapper: Mapper<'bound>,
    state: State,
    slots: KVVec<Slot>,
}

/// Memory that is mapped for a device.
///
/// If it is leaked, the memory is never freed, and stays mapped for as long as the device has its
/// IOMMU domain.
///
/// # Invariants
///
/// `mapped` is a mapping of `memory`. It is declared first: it ends before the memory is freed.
pub struct Mapping<'bound, M: Memory> {
    pub(super) mapped: PinnedMapping<'bound>,
    pub(super) memory: M,
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
    /// `EINVAL` if `dir` is [`DataDirection::None`], `EACCES` if the device may not access the
    /// memory in that direction, and those of [`Mapper::map_into`] except `E2BIG`. The memory comes
    /// back.
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
        dir: M::Direction,
        flags: Flags,
    ) -> Result<Mapping<'bound, M>, MapError<M>> {
        let dir = dir.into();
        if let Err(error) = check_access(&memory, Access::of(dir)) {
            return Err(MapError::new(memory, error));
        }
        let source = segments(&memory, *self.limits());
        // SAFETY: by the contract of `Memory` it is of its kind, a device may access it with the
        // rights that were checked, and it stays where it is for as long as it exists, for ever if
        // it is leaked: with the mapping, which owns it.
        let pinned = unsafe { Pinned::new(source, dir, M::KIND) };
        match pinned.and_then(|pinned| self.map_pinned(&pinned, flags)) {
            // INVARIANT: just mapped so.
            Ok(mapped) => Ok(Mapping { mapped, memory }),
            Err(error) => Err(MapError::new(memory, error)),
        }
    }

    /// Maps `memory`, which the caller keeps, with slots of the mapping's own. Its source cuts it
    /// to the mapper's limits.
    ///
    /// Context: may sleep if `flags` allow it.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::map_into`] except `E2BIG`.
    pub fn map_pinned<S: Source>(
        &self,
        memory: &Pinned<S>,
        flags: Flags,
    ) -> Result<PinnedMapping<'bound>> {
        self.check_domain()?;
        self.check_reach(memory)?;
        // The DMA API can sync only what `dma_map_phys()` mapped. Where there is nothing to sync,
        // as for every device that packs, ranges are linked all the same.
        let reach = match self.reach() {
            Reach::Iommu { packs: false } => Reach::Direct,
            reach => reach,
        };
        let (mut slots, mut state) = (KVVec::new(), State::UNMAPPED);
        let target = self.target(Space::of(self), memory.attrs());
        let plan = target.plan(memory.phyrs())?;
        // One run needs no slots, if there is room for it.
        if let (Reach::Iommu { .. }, 1) = (reach, plan.runs) {
            let len = NonZeroUsize::new(usize::try_from(plan.bytes)?).ok_or(EINVAL)?;
            if target.run(memory.phyrs().joined(), len, &mut state)? {
                return Ok(self.mapped(state, slots));
            }
        }
        if plan.phyrs > 1 {
            slots.extend_with(plan.phyrs, Slot::EMPTY, list_flags(flags))?;
        }
        target.scattered(memory.phyrs(), || Ok(&mut slots), reach, &mut state)?;
        Ok(self.mapped(state, slots))
    }

    pub(super) fn mapped(&self, state: State, slots: KVVec<Slot>) -> PinnedMapping<'bound> {
        // INVARIANT: the callers have just mapped so.
        PinnedMapping {
            mapper: self.clone(),
            state,
            slots,
        }
    }

    /// Checks that the device reaches what is not the system's memory, and where nothing
    /// translates: the DMA API never copies it, and warns of what is out of reach.
    ///
    /// # Errors
    ///
    /// - `ERANGE`: it does not.
    /// - `ENOBUFS`: all that it sees is copied.
    /// - What the source of `memory` fails with.
    pub(super) fn check_reach<S: Source>(&self, memory: &Pinned<S>) -> Result {
        if !memory.attrs().is_mmio() || self.granule().is_some() {
            return Ok(());
        }
        for phyr in memory.phyrs() {
            check_reach(self, phyr?.phyr(), memory.attrs())?;
        }
        Ok(())
    }
}

impl PinnedMapping<'_> {
    /// Returns the ranges that the device sees.
    #[inline]
    pub fn dma_vecs(&self) -> DmaVecs<'_> {
        self.state.dma_vecs(&self.slots)
    }

    /// Returns the direction in which the memory is mapped.
    #[inline]
    pub fn direction(&self) -> DataDirection {
        self.state.attrs().direction()
    }

    /// Lets the CPU see what the device wrote: `dma_sync_single_for_cpu()` of each range that may
    /// need it.
    ///
    /// Context: any.
    pub fn sync_for_cpu(&self) {
        self.each_single(|space, single| space.sync_for_cpu(single));
    }

    /// Lets the device see what the CPU wrote: `dma_sync_single_for_device()` of each range that
    /// may need it.
    ///
    /// Context: any.
    pub fn sync_for_device(&self) {
        self.each_single(|space, single| space.sync_for_device(single));
    }

    /// Calls `f` for each range that was mapped by itself.
    fn each_single(&self, f: impl Fn(Space<'_>, &Single)) {
        let space = Space::of(&self.mapper);
        for slot in self.state.singles(&self.slots) {
            // SAFETY: by the type invariant it is mapped by this mapper; it is not ended here.
            if let Segment::Single(single) = unsafe { slot.reopen(self.state.attrs()) } {
                f(space, &single);
            }
        }
    }
}

impl InTurns for PinnedMapping<'_> {
    fn sync_for_cpu(&self) {
        self.sync_for_cpu();
    }

    fn sync_for_device(&self) {
        self.sync_for_device();
    }
}

impl Drop for PinnedMapping<'_> {
    fn drop(&mut self) {
        // SAFETY: by the type invariant; that the device is done is the driver's part.
        unsafe { self.mapper.unmap_from(self.state.take(), &self.slots) };
    }
}

impl<M: Memory> Mapping<'_, M> {
    /// Returns the ranges that the device sees.
    #[inline]
    pub fn dma_vecs(&self) -> DmaVecs<'_> {
        self.mapped.dma_vecs()
    }

    /// Returns the direction in which the memory is mapped.
    #[inline]
    pub fn direction(&self) -> DataDirection {
        self.mapped.direction()
    }

    /// Returns its length in bytes.
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
        CpuAccess::new(&self.mapped, &mut self.memory)
    }

    /// Ends the mapping and gives the memory back. The device must be done with it.
    ///
    /// Context: any, as far as dropping the slots allows (see `kvfree()`), unless it is the last of
    /// its mapper in a domain of the driver's own.
    pub fn unmap(self) -> M {
        let Self { mapped, memory } = self;
        drop(mapped);
        memory
    }
}

/// Ends all of `mappings`, and gives the memory back in their order. The device must be done with
/// it.
///
/// The IOTLB is flushed once for all that are next to each other and of one mapper, before the
/// first memory is given back. Where they cannot be flushed together each ends by itself, as
/// [`Mapping::unmap`].
///
/// Context: as [`Mapping::unmap`].
///
/// # Examples
///
/// ```
/// use kernel::prelude::*;
/// use phyr::{mapping::Mapping, memory::Pages, unmap_all, DataDirection, Mapper};
///
/// /// Receives into `nr` buffers, which the device fills as `start` says.
/// fn receive<'m>(
///     mapper: &Mapper<'m>,
///     nr: usize,
///     start: impl Fn(&Mapping<'m, Pages>),
/// ) -> Result<KVVec<Pages>> {
///     let mut mappings = KVVec::new();
///     for _ in 0..nr {
///         let pages = Pages::zeroed(4096, GFP_KERNEL)?;
///         let mapping = mapper.map(pages, DataDirection::FromDevice, GFP_KERNEL)?;
///         start(&mapping);
///         mappings.push(mapping, GFP_KERNEL)?;
///     }
///     // ... wait for the device ...
///     let mut received = KVVec::new();
///     for pages in unmap_all(mappings) {
///         received.push(pages, GFP_KERNEL)?;
///     }
///     Ok(received)
/// }
/// ```
pub fn unmap_all<'bound, M: Memory>(
    mut mappings: KVVec<Mapping<'bound, M>>,
) -> impl Iterator<Item = M> + use<'bound, M> {
    for alike in mappings.chunk_by_mut(|a, b| a.mapped.mapper.is_same(&b.mapped.mapper)) {
        unmap(alike);
    }
    // Nothing is left for any of them to end.
    mappings.into_iter().map(Mapping::unmap)
}

/// Ends mappings by one mapper, all but for their memory.
fn unmap<M: Memory>(mappings: &mut [Mapping<'_, M>]) {
    let Some(first) = mappings.first() else {
        return;
    };
    let (mapper, gather) = (first.mapped.mapper.clone(), pin!(IotlbGather::new()));
    let Some(mut unmapping) = Unmapping::new(&mapper, gather) else {
        // Each ends by itself, as the caller takes its memory.
        return;
    };
    for mapping in &mut *mappings {
        let PinnedMapping { state, slots, .. } = &mut mapping.mapped;
        // SAFETY: by the invariants of the mapping they are those of a mapping by this mapper. The
        // memory stays with the mapping, and the slots as they are; that the device is done is the
        // driver's part.
        let _ = unsafe { unmapping.unmap(state, || slots) };
    }
    let flushed = unmapping.flush();
    for mapping in mappings {
        let PinnedMapping { state, slots, .. } = &mut mapping.mapped;
        // SAFETY: it was unmapped so, just above.
        unsafe { flushed.free(state, || slots) };
    }
}

/// A mapping that the CPU and the device use in turns.
pub(crate) trait InTurns: Sync {
    /// Lets the CPU see what the device wrote.
    fn sync_for_cpu(&self);

    /// Lets the device see what the CPU wrote.
    fn sync_for_device(&self);
}

/// The CPU's turn with the memory of a mapping; see [`Mapping::cpu`] and
/// [`Linear::cpu`](crate::linear::Linear::cpu).
pub struct CpuAccess<'a, M: Memory> {
    mapped: &'a dyn InTurns,
    memory: &'a mut M,
}

impl<'a, M: Memory> CpuAccess<'a, M> {
    /// Gives the CPU its turn with `memory`, of which `mapped` is the mapping.
    pub(crate) fn new(mapped: &'a dyn InTurns, memory: &'a mut M) -> Self {
        mapped.sync_for_cpu();
        Self { mapped, memory }
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

    /// Maps the memory as one range of the kernel's address space; for what takes more than a few
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
        self.mapped.sync_for_device();
    }
}
