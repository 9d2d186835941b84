// SPDX-License-Identifier: GPL-2.0

//! A mapping of a buffer for the device of one importer.
//!
//! One range if it can be, which takes a few words however long the buffer is; else scattered.

use core::{
    mem::ManuallyDrop,
    ptr, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    page::PAGE_SIZE,
    prelude::*,
    ptr::Alignment,
    sync::aref::ARef, //
};
use phyr::{
    linear,
    memory::{
        segments,
        Kind,
        Memory, //
    },
    plan::Limits,
    raw,
    DataDirection,
    DmaAddr,
    DmaVec,
    Mapper,
    Slot,
    State, //
};

/// Memory of a buffer that is mapped for a device; dropping it unmaps it.
///
/// # Invariants
///
/// `made` is that of a mapping by `mapper`. The mapper is for the device that `_device` keeps.
pub(super) struct Mapped {
    made: ManuallyDrop<Made>,
    mapper: Mapper<'static>,
    _device: ARef<Device>,
}

/// How a mapping was made.
enum Made {
    /// As one range of an IOMMU, or of memory that is contiguous. There is nothing to sync.
    Linear(linear::Mapped),
    /// As several, or by mappings that have to be synced.
    Scatter(State, KVVec<Slot>),
    /// Not at all: these are addresses on a bus.
    Bus(KVVec<DmaVec>),
}

// SAFETY: a mapping has no thread.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps all of `memory`; or, if there is a `bus_offset`, works out where it is on the bus.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the device has no DMA mask, or its limits do not even allow a page.
    /// - Those of [`Mapper::map_into`] except `E2BIG`.
    ///
    /// # Safety
    ///
    /// - `memory` outlives the returned value, and DMA of `device` may be mapped for as long.
    /// - `dir` is a direction in which the device may access it.
    pub(super) unsafe fn new<M: Memory>(
        device: &Device,
        memory: &M,
        dir: DataDirection,
        bus_offset: Option<u64>,
    ) -> Result<Self> {
        let device = ARef::from(device);
        // SAFETY: `device` is kept for as long as the mapper is; that DMA may be mapped, which is
        // what being bound stands for here, is a requirement of this function.
        let bound = unsafe { &*ptr::from_ref(&*device).cast::<Device<Bound>>() };
        let mapper = mapper(bound)?;

        let made = match bus_offset {
            Some(offset) => on_bus(memory, offset)?,
            // SAFETY: by the requirements of this function.
            None => unsafe { map(&mapper, memory, dir) }?,
        };
        // INVARIANT: just mapped so.
        Ok(Self {
            made: ManuallyDrop::new(made),
            mapper,
            _device: device,
        })
    }

    /// The device that the memory is mapped for.
    pub(super) fn device(&self) -> &Device<Bound> {
        self.mapper.device()
    }

    /// The ranges that the device sees.
    pub(super) fn dma_vecs(&self) -> impl Iterator<Item = DmaVec> + '_ {
        let (one, many, bus): (_, _, &[DmaVec]) = match &*self.made {
            Made::Linear(state) => (Some(state.dma_vec()), None, &[]),
            Made::Scatter(state, slots) => (None, Some(state.dma_vecs(slots)), &[]),
            Made::Bus(vecs) => (None, None, vecs),
        };
        let mapped = Iterator::chain(one.into_iter(), many.into_iter().flatten());
        Iterator::chain(mapped, bus.iter().copied())
    }

    /// Lets the CPU see what the device wrote.
    pub(super) fn sync_for_cpu(&self) {
        if let Made::Scatter(state, slots) = &*self.made {
            // SAFETY: by the type invariant this is mapped.
            unsafe { self.mapper.sync_for_cpu(state, slots) };
        }
    }

    /// Lets the device see what the CPU wrote.
    pub(super) fn sync_for_device(&self) {
        if let Made::Scatter(state, slots) = &*self.made {
            // SAFETY: by the type invariant this is mapped.
            unsafe { self.mapper.sync_for_device(state, slots) };
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the value is not used again.
        let made = unsafe { ManuallyDrop::take(&mut self.made) };
        // SAFETY: by the type invariant. Who ends the mapping, which is what an importer asks
        // for, has seen to it that the device is done.
        unsafe {
            match made {
                Made::Linear(state) => self.mapper.unmap_linear(state),
                Made::Scatter(state, slots) => self.mapper.unmap_from(state, &slots),
                Made::Bus(_) => {}
            }
        }
    }
}

/// Maps all of `memory`.
///
/// # Safety
///
/// That of [`Mapped::new`], for the mapper's device.
unsafe fn map<M: Memory>(mapper: &Mapper<'_>, memory: &M, dir: DataDirection) -> Result<Made> {
    // A range that was linked cannot be synced. Where the device is coherent it need not be, unless
    // it is bounced; nor has memory of a device ever to be.
    if mapper.is_coherent() || M::KIND == Kind::Mmio {
        let align = Alignment::new::<1>();
        // SAFETY: by the contract of `Memory` it yields the same every time, and is of its kind;
        // the rest by the requirements of this function.
        let state = unsafe { mapper.linear_into(|| memory.phyrs(), M::KIND, dir, align) };
        if let Ok(state) = state {
            return Ok(Made::Linear(state));
        }
    }
    // SAFETY: by the requirements of this function; the slots go with the state.
    let (state, slots) = unsafe { mapper.map_memory(memory, dir, GFP_KERNEL) }?;
    Ok(Made::Scatter(state, slots))
}

/// Where `memory` is on a bus on which addresses are `offset` more than for the CPU.
fn on_bus<M: Memory>(memory: &M, offset: u64) -> Result<Made> {
    let mut vecs = KVVec::new();
    for phyr in segments(memory, Limits::NONE) {
        let phyr = phyr?;
        let addr = DmaAddr::from_raw(phyr.paddr().into_raw().wrapping_add(offset));
        vecs.push(DmaVec::new(addr, phyr.len()), GFP_KERNEL)?;
    }
    Ok(Made::Bus(vecs))
}

/// The mapper of an importer's device. Ranges are made as long as they can be: what the device's
/// limits say is for the entries of the table, which are cut afterwards.
fn mapper(dev: &'static Device<Bound>) -> Result<Mapper<'static>> {
    // SAFETY: `dev` is a valid device.
    if unsafe { (*raw::device(dev)).dma_mask.is_null() } {
        return Err(EINVAL);
    }
    let mapper = Mapper::new(dev, Limits::NONE)?;
    let max = mapper.max_mapping_size();
    if max == usize::MAX {
        return Ok(mapper);
    }
    // Bounced: what one bounce buffer holds, in whole pages.
    // CAST: a `usize` is at most 64 bits wide.
    let max = (max & !(PAGE_SIZE - 1)) as u64;
    Mapper::new(dev, Limits::NONE.with_max_segment(max).ok_or(EINVAL)?)
}
