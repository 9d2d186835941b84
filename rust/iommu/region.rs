// SPDX-License-Identifier: GPL-2.0

//! A region of a domain's IOVAs for a mapper, which maps and unmaps all the time: the I/O path.
//!
//! The domain's own ranges are allocated under a mutex, in a tree that allocates memory. A
//! [`Mapper`](phyr::Mapper) in a domain is given one of them when it is made, and allocates from
//! that in any context, with a cache for each CPU: [`IovaAllocator`].

use super::{
    attach::AttachedDomain,
    error::DomainError,
    iova_allocator::IovaAllocator,
    iova_tree::Owner,
    map_sg::HAS_PAGES,
    paging::PagingDomain,
    range::DomainRange, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*,
    sync::Arc, //
};
use phyr::{
    space::{
        Iova,
        IovaSpace,
        LinkTarget,
        SgList,
        Single, //
    },
    Access,
    DmaAddr,
    Granule,
    MapAttrs,
    PhysAddr,
    PinnedPhyr, //
};

/// A region of a domain's IOVAs, for one mapper and what it has mapped.
///
/// # Invariants
///
/// - `range` has `len` bytes, a power of two, at a multiple of that, and maps nothing by itself.
/// - `iovas` allocates granules from the first of `range` on.
pub(super) struct IovaRegion<'bound> {
    // Dropped first: nothing allocates from the range any more when it is freed.
    iovas: IovaAllocator,
    range: DomainRange<'bound>,
    len: u64,
}

impl<'bound> IovaRegion<'bound> {
    /// Allocates `len` bytes of `domain`, rounded up to a power of two.
    ///
    /// # Errors
    ///
    /// - [`DomainError::Empty`], [`DomainError::Overflow`]: there is no such length.
    /// - [`DomainError::NoSpace`], [`DomainError::NoMemory`]: no range is free, or no memory.
    /// - [`DomainError::Failed`] with `EOPNOTSUPP`: the granule is larger than a page.
    pub(super) fn new(
        domain: &Arc<AttachedDomain<'bound>>,
        len: usize,
    ) -> Result<Self, DomainError> {
        if len == 0 {
            return Err(DomainError::Empty);
        }
        // `alloc_iova_fast()` aligns a range to its length, rounded up to a power of two; the
        // longest range is the whole region.
        // CAST: a `usize` is at most 64 bits wide.
        let len = (len as u64).max(domain.granule.size());
        let len = len
            .checked_next_power_of_two()
            .ok_or(DomainError::Overflow)?;
        let range = DomainRange::new(domain, len, len, Owner::Mapper)?;
        // INVARIANT: `range` is aligned to its length, and has mapped nothing.
        Ok(Self {
            iovas: IovaAllocator::new(domain.granule, range.iova())?,
            range,
            len,
        })
    }

    fn paging(&self) -> &PagingDomain {
        &self.range.domain().paging
    }

    fn granule(&self) -> Granule {
        self.range.domain().granule
    }

    /// Returns the length of the granules in which `len` bytes at `addr` are.
    fn len_around(&self, addr: u64, len: usize) -> Option<usize> {
        let granule = self.granule();
        // CAST: a `usize` has 64 bits, as `phyr` asks of the kernel.
        let len = granule.align_up(granule.offset(addr).checked_add(len as u64)?)?;
        Some(len as usize)
    }

    /// Allocates IOVAs for `len` bytes, not zero, that begin as far into a granule as `paddr` does.
    fn alloc_iova(&self, paddr: PhysAddr, len: usize) -> Option<DmaAddr> {
        let granule = self.granule();
        let paddr = paddr.into_raw();
        // CAST: granules are counted in an `unsigned long`, which has 64 bits.
        let granules = granule.number(self.len_around(paddr, len)? as u64) as usize;
        let first = self.iovas.alloc(granules, granule.number(self.last()))?;
        Some(DmaAddr::from_raw(
            first * granule.size() + granule.offset(paddr),
        ))
    }

    /// Frees the IOVAs of `len` bytes at `addr`.
    ///
    /// # Safety
    ///
    /// [`IovaRegion::alloc_iova`] has returned `addr` for that length. Nothing is mapped there, and
    /// the IOVAs are not used any more.
    unsafe fn free_iova(&self, addr: DmaAddr, len: usize) {
        let granule = self.granule();
        let addr = addr.into_raw();
        if let Some(len) = self.len_around(addr, len) {
            // CAST: granules are counted in an `unsigned long`, which has 64 bits.
            let granules = granule.number(len as u64) as usize;
            // SAFETY: `alloc_iova` has returned `addr` for `len` bytes, and the caller promises
            // that they are not used any more.
            unsafe { self.iovas.free(granule.number(addr), granules) };
        }
    }

    /// Returns the reason why `alloc_iova` failed: want of IOVAs, or of memory if it succeeds now.
    #[cold]
    #[inline(never)]
    fn alloc_error(&self, paddr: PhysAddr, len: usize) -> Error {
        // CAST: a `usize` is at most 64 bits wide.
        if len as u64 > self.len {
            return EFBIG;
        }
        match self.alloc_iova(paddr, len) {
            Some(addr) => {
                // SAFETY: the IOVAs were just allocated for that, and nothing is mapped there.
                unsafe { self.free_iova(addr, len) };
                ENOMEM
            }
            None => ENOSPC,
        }
    }

    /// Maps the granules of `phyr` at those of `addr`.
    ///
    /// # Safety
    ///
    /// The granules of `addr` are allocated, and nothing is mapped there. `addr` begins as far into
    /// a granule as `phyr` does.
    unsafe fn map(&self, addr: DmaAddr, phyr: PinnedPhyr, attrs: MapAttrs) -> Result {
        let (granule, addr) = (self.granule(), addr.into_raw());
        let (paddr, len) = (phyr.phyr().paddr().into_raw(), phyr.phyr().len());
        let len = self.len_around(addr, len).ok_or(EOVERFLOW)?;
        // SAFETY: by the invariant of `PinnedPhyr` the device may access its granules; the caller
        // promises that those of `addr` are allocated, and empty. Atomic, as the DMA API is.
        unsafe {
            self.paging().map(
                granule.align_down(addr),
                granule.align_down(paddr),
                len,
                Access::of(attrs.direction()).prot(attrs.is_mmio()),
                bindings::GFP_ATOMIC,
            )
        }
    }

    /// Unmaps the granules of `len` bytes at `addr`, and flushes the IOTLB. Returns whether all of
    /// them were mapped.
    ///
    /// # Safety
    ///
    /// These granules were mapped by this, and what is in them is not used any more.
    #[must_use]
    unsafe fn unmap(&self, addr: DmaAddr, len: usize) -> bool {
        let addr = addr.into_raw();
        let Some(len) = self.len_around(addr, len) else {
            return false;
        };
        let iova = self.granule().align_down(addr);
        // SAFETY: the caller promises that this has mapped these granules.
        let unmapped = unsafe { self.paging().unmap(iova, len) };
        self.range.domain().all_unmapped(iova, len, unmapped)
    }

    /// Unmaps the first `linked` of `len` bytes at `addr`, and frees the IOVAs of all, unless
    /// something is left there.
    ///
    /// # Safety
    ///
    /// [`IovaRegion::alloc_iova`] has returned `addr` for `len` bytes, of which just the first
    /// `linked` are mapped. None of them is used any more.
    unsafe fn unmap_and_free(&self, addr: DmaAddr, len: usize, linked: usize) {
        // SAFETY: the caller promises that just `linked` bytes are mapped, in IOVAs that are
        // allocated and not used any more.
        unsafe {
            if linked == 0 || self.unmap(addr, linked) {
                self.free_iova(addr, len);
            }
        }
    }
}

// SAFETY:
// - `iovas` allocates each granule once until it is freed, which is when a range is destroyed or a
//   single one unmapped, in a range of the domain that belongs to this region only.
// - The device is in the domain, and reaches through these IOVAs what was linked or mapped, and no
//   other memory. When `iommu_unmap()` returns it has flushed the IOTLB.
// - All that is mapped is in the page table of the one domain, which it holds, by whole granules.
unsafe impl IovaSpace for IovaRegion<'_> {
    fn first(&self) -> u64 {
        self.range.iova()
    }

    fn last(&self) -> u64 {
        self.range.iova() + (self.len - 1)
    }

    fn max_len(&self) -> u64 {
        self.len
    }

    fn alloc(&self, start: PhysAddr, len: usize) -> Option<(DmaAddr, u64)> {
        // CAST: a `usize` is at most 64 bits wide.
        Some((self.alloc_iova(start, len)?, len as u64))
    }

    fn link(&self, to: LinkTarget<'_>, phyr: PinnedPhyr) -> Result {
        // SAFETY: the range of `to` is allocated, with room for `phyr` after what is linked.
        unsafe { self.map(to.addr(), phyr, to.attrs()) }
    }

    fn links_lists(&self) -> bool {
        HAS_PAGES
    }

    fn link_list(&self, to: &Iova, list: &mut SgList) -> Result {
        // CAST: a `usize` is at most 64 bits wide.
        let addr = to.addr().advanced(to.linked() as u64).into_raw();
        let (iova, prot) = (
            self.granule().align_down(addr),
            Access::of(to.attrs().direction()).prot(false),
        );
        let bytes = list.bytes();
        // SAFETY: `SgList` holds granules of pinned memory, which the device may access. Those of
        // `to` are allocated, and empty after what is linked. Atomic, as the DMA API is.
        unsafe {
            self.paging().map_list(
                iova,
                list.entries(),
                bytes,
                prot,
                bindings::GFP_ATOMIC,
                &mut 0,
            )
        }
    }

    fn sync(&self, _iova: &mut Iova) -> Result {
        // `iommu_map()` has flushed what has to be.
        Ok(())
    }

    fn unlink(&self, iova: &mut Iova, to: usize) {
        // CAST: a `usize` is at most 64 bits wide.
        let addr = iova.addr().advanced(to as u64);
        // SAFETY: by the invariant of `Iova` these bytes are linked.
        let _ = unsafe { self.unmap(addr, iova.linked() - to) };
    }

    fn destroy(&self, iova: Iova) {
        // CAST: the size is that of `alloc`, a `usize`.
        let len = iova.size() as usize;
        // SAFETY: by the invariant of `Iova` just `linked` bytes are mapped in what was allocated.
        unsafe { self.unmap_and_free(iova.addr(), len, iova.linked()) };
    }

    fn domain(&self) -> Option<NonNull<bindings::iommu_domain>> {
        NonNull::new(self.paging().as_ptr())
    }

    fn free(&self, iova: Iova) {
        // CAST: the size is that of `alloc`, a `usize`.
        // SAFETY: by the invariant of `Iova` it was allocated, and nothing is mapped there.
        unsafe { self.free_iova(iova.addr(), iova.size() as usize) };
    }

    fn map_phys(&self, phyr: PinnedPhyr, attrs: MapAttrs) -> Result<DmaAddr> {
        let (paddr, len) = (phyr.phyr().paddr(), phyr.phyr().len());
        let addr = self.alloc_iova(paddr, len);
        let addr = addr.ok_or_else(|| self.alloc_error(paddr, len))?;
        // SAFETY: the range was allocated for `phyr`, and is empty.
        unsafe { self.map(addr, phyr, attrs) }.inspect_err(|_| {
            // SAFETY: the range was allocated above, and nothing was mapped.
            unsafe { self.free_iova(addr, len) };
        })?;
        Ok(addr)
    }

    fn unmap_phys(&self, single: Single) {
        let (addr, len) = (single.addr(), single.len());
        // SAFETY: by the invariant of `Single` all of it is mapped, by `map_phys`.
        unsafe { self.unmap_and_free(addr, len, len) };
    }
}
