// SPDX-License-Identifier: GPL-2.0

//! Many mappings ended with one flush of the IOTLB.
//!
//! After `iommu_unmap_fast()` a device may still access a page through the IOTLB. So the memory
//! goes to the [`Gather`], which lets go of it after the flush.

use super::{
    attach::AttachedDomain,
    mapping::Mapping,
    range::DomainRange, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};
use phyr::{
    bindings::phyr_helper_iotlb_gather_init,
    fail::{
        self,
        Omission, //
    },
    memory::{
        list_flags,
        Memory, //
    }, //
};

/// Memory that was unmapped and that a device may still access; dropping it flushes first.
///
/// If it is leaked, the memory is never freed.
///
/// # Invariants
///
/// - `gather` was initialised, and is used for `domain` only; it is in a box because it may point
///   to itself.
/// - `memory` is what was unmapped from `ranges` since the last flush.
pub struct Gather<'bound, M: Memory> {
    domain: Arc<AttachedDomain<'bound>>,
    gather: KBox<Opaque<bindings::iommu_iotlb_gather>>,
    ranges: KVVec<DomainRange<'bound>>,
    memory: KVVec<M>,
}

/// A mapping that a [`Gather`] did not take, with the error.
pub struct UnmapError<'bound, M: Memory> {
    /// The mapping, as it was.
    pub mapping: Mapping<'bound, M>,
    /// Reason why it was not taken.
    pub error: Error,
}

impl<M: Memory> From<UnmapError<'_, M>> for Error {
    fn from(failed: UnmapError<'_, M>) -> Self {
        failed.error
    }
}

// SAFETY: a list of what to flush belongs to no thread.
unsafe impl<M: Memory> Send for Gather<'_, M> {}

impl<'bound, M: Memory> Gather<'bound, M> {
    /// Makes room for `capacity` mappings of `domain`.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    pub(super) fn new(domain: &Arc<AttachedDomain<'bound>>, capacity: usize) -> Result<Self> {
        let gather = KBox::new(Opaque::uninit(), GFP_KERNEL)?;
        // SAFETY: the box may be written.
        unsafe { phyr_helper_iotlb_gather_init(gather.get()) };
        // INVARIANT: `gather` is initialised, and nothing was unmapped.
        Ok(Self {
            domain: domain.clone(),
            gather,
            ranges: KVVec::with_capacity(capacity, list_flags(GFP_KERNEL))?,
            memory: KVVec::with_capacity(capacity, list_flags(GFP_KERNEL))?,
        })
    }

    /// Unmaps `mapping`, but for the flush. The device must be done with it.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// The mapping comes back, as it was.
    ///
    /// - `E2BIG`: there is no room for more.
    /// - `EXDEV`: it is of another domain.
    pub fn unmap(&mut self, mapping: Mapping<'bound, M>) -> Result<(), UnmapError<'bound, M>> {
        let error = if !Arc::ptr_eq(&self.domain, mapping.domain()) {
            EXDEV
        } else if self.ranges.len() == self.ranges.capacity()
            || self.memory.len() == self.memory.capacity()
        {
            E2BIG
        } else {
            let (mut range, memory) = mapping.into_parts();
            // SAFETY: by the type invariant `gather` is initialised, and for this domain only.
            unsafe { range.unmap_fast(self.gather.get()) };
            // INVARIANT: `memory` was unmapped from `range`. There is room for both.
            let _ = self.ranges.push_within_capacity(range);
            let _ = self.memory.push_within_capacity(memory);
            return Ok(());
        };
        Err(UnmapError { mapping, error })
    }

    /// Flushes once, and gives back the memory of all, in the order in which it was unmapped.
    ///
    /// Context: process context, may sleep.
    pub fn flush(mut self) -> KVVec<M> {
        self.sync();
        core::mem::take(&mut self.memory)
    }

    /// Flushes, if there is something to flush, and frees the ranges.
    fn sync(&mut self) {
        if self.ranges.is_empty() {
            return;
        }
        if !fail::omits(Omission::iommu_iotlb_sync) {
            // SAFETY: by the type invariant `gather` is initialised, and for this domain only.
            unsafe { self.domain.paging.sync(self.gather.get()) };
        }
        self.ranges.clear();
    }
}

impl<M: Memory> Drop for Gather<'_, M> {
    fn drop(&mut self) {
        // Before the memory goes.
        self.sync();
    }
}
