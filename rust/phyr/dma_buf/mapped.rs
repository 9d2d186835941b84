// SPDX-License-Identifier: GPL-2.0

//! A mapping of a buffer for the device of one importer.
//!
//! One range if it can be, which takes a few words however long the buffer is; else scattered.

use crate::{
    linear,
    memory::{
        segments,
        Memory, //
    },
    plan::Limits,
    raw,
    DataDirection,
    DmaVec,
    Mapper,
    Slot,
    State, //
};
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
}

// SAFETY: a mapping has no thread.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps all of `memory`.
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
    ) -> Result<Self> {
        let device = ARef::from(device);
        // SAFETY: `device` is kept for as long as the mapper is; that DMA may be mapped, which is
        // what being bound stands for here, is a requirement of this function.
        let bound = unsafe { &*ptr::from_ref(&*device).cast::<Device<Bound>>() };
        let mapper = mapper(bound)?;

        // INVARIANT: just mapped so.
        Ok(Self {
            // SAFETY: by the requirements of this function.
            made: ManuallyDrop::new(unsafe { map(&mapper, memory, dir) }?),
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
        let (one, many) = match &*self.made {
            Made::Linear(state) => (Some(state.dma_vec()), None),
            Made::Scatter(state, slots) => (None, Some(state.dma_vecs(slots))),
        };
        Iterator::chain(one.into_iter(), many.into_iter().flatten())
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
    // A range that was linked cannot be synced, and one that is not bounced need not be, where
    // the device is coherent.
    if mapper.is_coherent() {
        let align = Alignment::new::<1>();
        // SAFETY: by the contract of `Memory` it yields the same every time, and is of its kind;
        // the rest by the requirements of this function.
        let state = unsafe { mapper.linear_into(|| memory.phyrs(), M::KIND, dir, align) };
        if let Ok(state) = state {
            return Ok(Made::Linear(state));
        }
    }
    let nr = segments(memory, *mapper.limits()).count();
    let mut slots = KVVec::new();
    if nr > 1 {
        slots.extend_with(nr, Slot::EMPTY, GFP_KERNEL)?;
    }
    let source = segments(memory, *mapper.limits());
    // SAFETY: by the requirements of this function; the slots go with the state.
    let state = unsafe { mapper.map_kind(source, M::KIND, dir, &mut slots) }?;
    Ok(Made::Scatter(state, slots))
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
