// SPDX-License-Identifier: GPL-2.0

//! A mapping of a buffer for the device of one importer.

use crate::{
    memory::{
        segments,
        Memory, //
    },
    plan::Limits,
    raw,
    state::DmaVecs,
    DataDirection,
    Mapper,
    Slot,
    State, //
};
use core::ptr;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};

/// Memory of a buffer that is mapped for a device; dropping it unmaps it.
///
/// # Invariants
///
/// `state` is that of a mapping by `mapper`, with `slots`. The mapper is for the device that
/// `_device` keeps.
pub(super) struct Mapped {
    state: State,
    slots: KVVec<Slot>,
    mapper: Mapper<'static>,
    _device: ARef<Device>,
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

        let nr = segments(memory, *mapper.limits()).count();
        let mut slots = KVVec::new();
        if nr > 1 {
            slots.extend_with(nr, Slot::EMPTY, GFP_KERNEL)?;
        }
        let source = segments(memory, *mapper.limits());
        // SAFETY: by the requirements of this function; the slots are the new value's own.
        let state = unsafe { mapper.map_kind(source, M::KIND, dir, &mut slots) }?;

        // INVARIANT: just mapped so.
        Ok(Self {
            state,
            slots,
            mapper,
            _device: device,
        })
    }

    /// The device that the memory is mapped for.
    pub(super) fn device(&self) -> &Device<Bound> {
        self.mapper.device()
    }

    /// The ranges that the device sees.
    pub(super) fn dma_vecs(&self) -> DmaVecs<'_> {
        self.state.dma_vecs(&self.slots)
    }

    /// Lets the CPU see what the device wrote.
    pub(super) fn sync_for_cpu(&self) {
        self.mapper.sync_for_cpu(&self.state, &self.slots);
    }

    /// Lets the device see what the CPU wrote.
    pub(super) fn sync_for_device(&self) {
        self.mapper.sync_for_device(&self.state, &self.slots);
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: by the type invariant. Who ends the mapping, which is what an importer asks
        // for, has seen to it that the device is done.
        unsafe { self.mapper.unmap_from(self.state.take(), &self.slots) };
    }
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
