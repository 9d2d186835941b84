// SPDX-License-Identifier: GPL-2.0

//! A range of IOVAs in a domain, and what is mapped at its beginning.

use super::{
    attach::AttachedDomain,
    error::DomainError,
    iova_tree::Owner, //
};
use core::mem;
use kernel::{
    bindings::{
        self,
        scatterlist, //
    },
    prelude::*,
    sync::Arc, //
};

/// An allocated range of IOVAs. Dropping it unmaps what it has mapped, and frees the range.
///
/// If it is leaked, all of that stays until the domain is freed.
///
/// # Invariants
///
/// - `iova` is where a range was allocated in `domain`, which is freed by this only.
/// - The first `mapped` bytes of it are mapped by this. The owner of the range maps nothing there,
///   and has unmapped what it has mapped through it by the time this is dropped.
pub(super) struct DomainRange<'bound> {
    domain: Arc<AttachedDomain<'bound>>,
    iova: u64,
    mapped: usize,
    /// The IOMMU's driver did not unmap all of it: the range is never freed.
    is_lost: bool,
}

impl<'bound> DomainRange<'bound> {
    /// Allocates `len` bytes at a multiple of `align`.
    ///
    /// # Errors
    ///
    /// Those of [`IovaTree::alloc`](super::iova_tree::IovaTree::alloc).
    pub(super) fn new(
        domain: &Arc<AttachedDomain<'bound>>,
        len: u64,
        align: u64,
        owner: Owner,
    ) -> Result<Self, DomainError> {
        let iova = domain.iovas.alloc(len, align, owner)?;
        Ok(Self::allocated(domain, iova))
    }

    /// Allocates `len` bytes for a mapping, aligned to the largest size of page that fits in them,
    /// or where no range is left for that to the next smaller one.
    ///
    /// # Errors
    ///
    /// Those of [`IovaTree::alloc`](super::iova_tree::IovaTree::alloc).
    pub(super) fn for_pages(
        domain: &Arc<AttachedDomain<'bound>>,
        len: u64,
    ) -> Result<Self, DomainError> {
        // The sizes that fit: `len` is not zero.
        let mut sizes = domain.paging.page_sizes() & (u64::MAX >> len.leading_zeros());
        while sizes != 0 {
            let largest = 1 << sizes.ilog2();
            match Self::new(domain, len, largest, Owner::Mapping) {
                Err(DomainError::NoSpace) => sizes &= !largest,
                range => return range,
            }
        }
        Err(DomainError::NoSpace)
    }

    /// Allocates `len` bytes for a mapping at `iova`.
    ///
    /// # Errors
    ///
    /// Those of [`IovaTree::alloc_at`](super::iova_tree::IovaTree::alloc_at).
    pub(super) fn at(
        domain: &Arc<AttachedDomain<'bound>>,
        iova: u64,
        len: u64,
    ) -> Result<Self, DomainError> {
        domain.iovas.alloc_at(iova, len, Owner::Mapping)?;
        Ok(Self::allocated(domain, iova))
    }

    /// Returns the range that was just allocated at `iova`.
    fn allocated(domain: &Arc<AttachedDomain<'bound>>, iova: u64) -> Self {
        // INVARIANT: nothing is mapped.
        Self {
            domain: domain.clone(),
            iova,
            mapped: 0,
            is_lost: false,
        }
    }

    pub(super) fn domain(&self) -> &Arc<AttachedDomain<'bound>> {
        &self.domain
    }

    /// Returns the first IOVA.
    pub(super) fn iova(&self) -> u64 {
        self.iova
    }

    /// Returns how many bytes are mapped from there on.
    pub(super) fn mapped(&self) -> usize {
        self.mapped
    }

    /// Maps `pieces`, each an address and a length, at the beginning. `list` is scratch, see
    /// [`PagingDomain::map_pieces`](super::paging::PagingDomain::map_pieces).
    ///
    /// # Errors
    ///
    /// Those of `pieces` and of the IOMMU's driver. Pieces mapped by then are unmapped when this is
    /// dropped.
    ///
    /// # Safety
    ///
    /// - Nothing is mapped yet.
    /// - The device may access each piece as `prot` says until this has unmapped it.
    /// - The pieces are in whole granules, and not longer than the range.
    pub(super) unsafe fn map(
        &mut self,
        pieces: impl Iterator<Item = Result<(u64, usize)>>,
        prot: i32,
        list: &mut [scatterlist],
    ) -> Result {
        let flags = bindings::GFP_KERNEL_ACCOUNT;
        // SAFETY: the range is allocated to this, and the caller promises that the pieces fit, that
        // they are in whole granules, and that the device may access them.
        // INVARIANT: `mapped` counts what is mapped.
        unsafe {
            self.domain
                .paging
                .map_pieces(self.iova, pieces, prot, flags, list, &mut self.mapped)
        }
    }

    /// Unmaps what is mapped, but for the flush. The range is freed only when this is dropped,
    /// which must be after the flush.
    ///
    /// # Safety
    ///
    /// `gather` is initialised, and used for this domain only.
    pub(super) unsafe fn unmap_fast(&mut self, gather: *mut bindings::iommu_iotlb_gather) {
        let len = mem::take(&mut self.mapped);
        let domain = self.domain.paging.as_ptr();
        // SAFETY: by the type invariant `len` bytes are mapped at `iova` by this. The caller
        // promises that `gather` is for this domain.
        // CAST: an `unsigned long` has 64 bits, as `phyr` asks of the kernel.
        let unmapped =
            unsafe { bindings::iommu_unmap_fast(domain, self.iova as usize, len, gather) };
        self.is_lost = !self.domain.all_unmapped(self.iova, len, unmapped);
    }
}

impl Drop for DomainRange<'_> {
    fn drop(&mut self) {
        let (iova, len) = (self.iova, self.mapped);
        if len != 0 {
            // SAFETY: by the type invariant this has mapped `len` bytes at `iova`.
            let unmapped = unsafe { self.domain.paging.unmap(iova, len) };
            self.is_lost = !self.domain.all_unmapped(iova, len, unmapped);
        }
        if !self.is_lost {
            self.domain.iovas.free(iova);
        }
    }
}
