// SPDX-License-Identifier: GPL-2.0

//! Many mappings ended with one flush of the IOTLB.
//!
//! After `iommu_unmap_fast()` a device may still get at a page through its IOTLB. So the memory
//! goes to the [`Gather`], which lets it go when the flush is over.

use super::{
    Domain,
    Mapping, //
};
use crate::bindings as helpers;
use kernel::{
    bindings,
    prelude::*,
    types::Opaque, //
};
use phyr::{
    memory::{
        list_flags,
        Memory, //
    }, //
};

/// Memory that was unmapped and that a device may still get at; dropping it flushes first.
///
/// If it is leaked, the memory is never freed.
///
/// # Invariants
///
/// - `gather` was initialised and has been given to `iommu_unmap_fast()` of `domain` only; it is
///   in a box because it may point to itself.
/// - `memory` is what was unmapped since the last flush, at `places`, which are as many.
pub struct Gather<'bound, M: Memory> {
    domain: Domain<'bound>,
    gather: KBox<Opaque<bindings::iommu_iotlb_gather>>,
    places: KVVec<(u64, usize, usize)>,
    memory: KVVec<M>,
}

/// A mapping that a [`Gather`] did not take, and why.
pub struct NotUnmapped<'bound, M: Memory> {
    /// The mapping, as it was.
    pub mapping: Mapping<'bound, M>,
    /// Why.
    pub reason: Error,
}

// SAFETY: a list of what to flush has no thread.
unsafe impl<M: Memory> Send for Gather<'_, M> {}

impl<'bound> Domain<'bound> {
    /// Makes room to end `capacity` mappings with one flush.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    pub fn gather<M: Memory>(&self, capacity: usize) -> Result<Gather<'bound, M>> {
        let gather = KBox::new(Opaque::uninit(), GFP_KERNEL)?;
        // SAFETY: it may be written.
        unsafe { helpers::phyr_iommu_helper_iotlb_gather_init(gather.get()) };
        // INVARIANT: just initialised, and nothing was unmapped.
        Ok(Gather {
            domain: self.clone(),
            gather,
            places: KVVec::with_capacity(capacity, list_flags(GFP_KERNEL))?,
            memory: KVVec::with_capacity(capacity, list_flags(GFP_KERNEL))?,
        })
    }
}

impl<'bound, M: Memory> Gather<'bound, M> {
    /// Ends `mapping`, but for the flush. The device must be done with it.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// The mapping comes back, as it was.
    ///
    /// - `E2BIG`: there is no room for more.
    /// - `EXDEV`: it is of another domain.
    pub fn unmap(&mut self, mapping: Mapping<'bound, M>) -> Result<(), NotUnmapped<'bound, M>> {
        let reason = if !self.domain.is_same(mapping.domain()) {
            EXDEV
        } else if self.places.len() == self.places.capacity() {
            E2BIG
        } else {
            let (_, iova, len, memory) = mapping.into_parts();
            let (domain, gather) = (self.domain.0.raw.as_ptr(), self.gather.get());
            let unmapped = self.domain.0.space.locked(|| {
                // SAFETY: by the invariant of `Mapping` this is mapped, and by that of this type
                // `gather` is for this domain; that the device is done is the driver's part.
                // CAST: an `unsigned long` has 64 bits, as `phyr` asks of the kernel.
                unsafe { bindings::iommu_unmap_fast(domain, iova as usize, len, gather) }
            });
            // INVARIANT: just unmapped. There is room for both.
            let _ = self.places.push_within_capacity((iova, len, unmapped));
            let _ = self.memory.push_within_capacity(memory);
            return Ok(());
        };
        Err(NotUnmapped { mapping, reason })
    }

    /// Flushes once, and gives back the memory of all, in the order in which it was unmapped.
    ///
    /// Context: process context, may sleep.
    pub fn flush(mut self) -> KVVec<M> {
        self.sync();
        core::mem::take(&mut self.memory)
    }

    /// Flushes, if there is something to flush; the room may be used again afterwards.
    fn sync(&mut self) {
        if self.places.is_empty() {
            return;
        }
        // SAFETY: by the type invariant.
        unsafe {
            helpers::phyr_iommu_helper_iotlb_sync(self.domain.0.raw.as_ptr(), self.gather.get());
        }
        let domain = &self.domain.0;
        for (iova, len, unmapped) in self.places.drain_all() {
            if domain.was_all(iova, len, unmapped) {
                domain.space.give_back(iova);
            }
        }
    }
}

impl<M: Memory> Drop for Gather<'_, M> {
    fn drop(&mut self) {
        // Before the memory goes.
        self.sync();
    }
}
