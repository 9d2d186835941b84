// SPDX-License-Identifier: GPL-2.0

//! The allocator of IOVAs that the DMA API uses: for any context, with a cache for each CPU.
//!
//! C header: [`include/linux/iova.h`](srctree/include/linux/iova.h)

use crate::bindings as helpers;
use kernel::{
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    types::Opaque, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    Granule, //
};

/// Allocator of granules, `struct iova_domain`. All are free when it is dropped.
///
/// # Invariants
///
/// It is initialised, and a reference to the cache of IOVAs is held for it.
pub(super) struct IovaAllocator(KBox<Opaque<helpers::iova_domain>>);

// SAFETY: any thread may use the allocator, and drop it.
unsafe impl Send for IovaAllocator {}

// SAFETY: the allocator has a lock of its own.
unsafe impl Sync for IovaAllocator {}

impl IovaAllocator {
    /// Makes an allocator of granules from `first`, which is not zero, on.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: it takes no granules larger than a page.
    /// - `ENOMEM`: no memory.
    pub(super) fn new(granule: Granule, first: u64) -> Result<Self> {
        // CAST: granules are counted in an `unsigned long`, which has 64 bits.
        let (size, first) = (granule.size() as usize, granule.number(first) as usize);
        if size > PAGE_SIZE {
            return Err(EOPNOTSUPP);
        }
        let iovas = KBox::new(Opaque::uninit(), GFP_KERNEL)?;
        fail::at(Point::iova_cache_get)?;
        // SAFETY: this is process context.
        to_result(unsafe { helpers::iova_cache_get() })?;
        let result = fail::at(Point::iova_domain_init_rcaches).and_then(|()| {
            // SAFETY: the box may be written, and what is in it stays there; a granule is a power
            // of two.
            to_result(unsafe {
                helpers::init_iova_domain(iovas.get(), size, first);
                helpers::iova_domain_init_rcaches(iovas.get())
            })
        });
        if let Err(e) = result {
            // SAFETY: the reference was taken above. Nothing was allocated, so that there is no
            // `iova_domain` to put.
            unsafe { helpers::iova_cache_put() };
            return Err(e);
        }
        // INVARIANT: just initialised, with a reference to the cache.
        Ok(Self(iovas))
    }

    /// Allocates `granules`, none of them above `last`. Returns the number of the first.
    pub(super) fn alloc(&self, granules: usize, last: u64) -> Option<u64> {
        fail::at(Point::alloc_iova_fast).ok()?;
        // SAFETY: by the type invariant it is initialised.
        // CAST: granules are counted in an `unsigned long`, which has 64 bits.
        let first =
            unsafe { helpers::alloc_iova_fast(self.0.get(), granules, last as usize, true) };
        (first != 0).then_some(first as u64)
    }

    /// Frees `granules` from `first` on.
    ///
    /// # Safety
    ///
    /// [`IovaAllocator::alloc`] has returned `first` for `granules`, which are not used any more.
    pub(super) unsafe fn free(&self, first: u64, granules: usize) {
        // SAFETY: by the type invariant it is initialised, and the caller promises that the
        // granules are allocated.
        // CAST: granules are counted in an `unsigned long`, which has 64 bits.
        unsafe { helpers::free_iova_fast(self.0.get(), first as usize, granules) };
    }
}

impl Drop for IovaAllocator {
    fn drop(&mut self) {
        // SAFETY: by the type invariant it is initialised, and the reference is its own.
        unsafe {
            helpers::put_iova_domain(self.0.get());
            helpers::iova_cache_put();
        }
    }
}
