// SPDX-License-Identifier: GPL-2.0

//! Many pieces mapped with one flush of the IOTLB: `iommu_map_sg()`.
//!
//! An IOMMU that caches what is not mapped (in a guest, mostly) has to be told of pages that were
//! added. `iommu_map()` does so in each call, and `iommu_map_nosync()` is not exported to modules;
//! `iommu_map_sg()` does it once. Its list is scratch, and input only: pages and lengths.
//!
//! The pages are never looked at, and need not exist; where a page's number cannot be told from
//! its address alone (no `CONFIG_SPARSEMEM_VMEMMAP`), or the kernel checks it
//! (`CONFIG_DEBUG_VIRTUAL`), each piece is mapped by itself.

use super::paging::PagingDomain;
use kernel::{
    bindings::{
        self,
        scatterlist, //
    },
    error::to_result,
    iommu::pgtable::prot,
    prelude::*, //
};
use phyr::{
    bindings as helpers,
    fail::{
        self,
        Point, //
    }, //
};

/// Longest entry of a list, whose length has 32 bits: a page of any IOMMU's.
const MAX_LEN: usize = 1 << 30;

/// Memory can be named by pages that need not exist.
pub(super) const HAS_PAGES: bool = cfg!(CONFIG_SPARSEMEM_VMEMMAP) && !cfg!(CONFIG_DEBUG_VIRTUAL);

impl PagingDomain {
    /// Maps `pieces`, each an address and a length, one after the other at `iova`, and adds their
    /// lengths to `done` as it goes.
    ///
    /// As many as `list` has entries go in one call; with fewer than two entries, or for memory of
    /// a device, each piece is mapped by itself.
    ///
    /// # Errors
    ///
    /// Those of `pieces` and of the IOMMU's driver; then just `done` is mapped.
    ///
    /// # Safety
    ///
    /// - The device may access each piece as `prot` says until it is unmapped.
    /// - The IOVAs belong to the caller, and nothing is mapped there.
    /// - Addresses and lengths are multiples of the granule.
    pub(super) unsafe fn map_pieces(
        &self,
        iova: u64,
        pieces: impl Iterator<Item = Result<(u64, usize)>>,
        prot: i32,
        flags: bindings::gfp_t,
        list: &mut [scatterlist],
        done: &mut usize,
    ) -> Result {
        // CAST: bits.
        let is_mmio = prot as u32 & prot::MMIO != 0;
        if list.len() < 2 || is_mmio || !HAS_PAGES {
            for piece in pieces {
                let (paddr, len) = piece?;
                // CAST: a `usize` is at most 64 bits wide.
                let at = iova + *done as u64;
                // SAFETY: the caller promises that the device may access the piece, and that the
                // IOVAs from `iova` on are free, in whole granules; `done` bytes of them are used.
                unsafe { self.map(at, paddr, len, prot, flags) }?;
                *done += len;
            }
            return Ok(());
        }

        let (mut nr, mut bytes) = (0, 0);
        for piece in pieces {
            let (mut paddr, mut left) = piece?;
            while left != 0 {
                let len = left.min(MAX_LEN);
                if nr == list.len() {
                    // SAFETY: the entries are filled with pieces, which go after those that are
                    // mapped; the caller promises the rest.
                    unsafe { self.map_list(iova, list, bytes, prot, flags, done) }?;
                    (nr, bytes) = (0, 0);
                }
                let entry = list.get_mut(nr).ok_or(EINVAL)?;
                // SAFETY: the entry may be written.
                // CAST: at most `MAX_LEN`.
                unsafe { helpers::phyr_helper_sg_fill_phys(entry, paddr, len as u32) };
                nr += 1;
                bytes += len;
                // CAST: a `usize` is at most 64 bits wide.
                paddr += len as u64;
                left -= len;
            }
        }
        let filled = list.get_mut(..nr).ok_or(EINVAL)?;
        // SAFETY: these are filled with pieces, which go after those that are mapped; the caller
        // promises the rest.
        unsafe { self.map_list(iova, filled, bytes, prot, flags, done) }
    }

    /// Maps the entries of `list`, which have `bytes` bytes, `done` bytes after `iova`.
    ///
    /// # Safety
    ///
    /// - All entries are filled. The device may access them as `prot` says until they are unmapped.
    /// - The IOVAs from `done` bytes after `iova` on belong to the caller, and nothing is mapped
    ///   there.
    /// - Addresses and lengths are multiples of the granule.
    pub(super) unsafe fn map_list(
        &self,
        iova: u64,
        list: &mut [scatterlist],
        bytes: usize,
        prot: i32,
        flags: bindings::gfp_t,
        done: &mut usize,
    ) -> Result {
        if list.is_empty() {
            return Ok(());
        }
        // CAST: a `usize` has 64 bits, as an `unsigned long` has.
        let (at, nr) = (iova as usize + *done, u32::try_from(list.len())?);
        fail::at(Point::iommu_map_sg)?;
        // SAFETY: the domain is valid, and `nr` entries are filled. The caller promises that the
        // device may access them, and that the IOVAs are free, in whole granules.
        let mapped = unsafe {
            bindings::iommu_map_sg(self.as_ptr(), at, list.as_mut_ptr(), nr, prot, flags)
        };
        // CAST: an errno, or not negative.
        to_result(mapped.min(0) as i32)?;
        *done += bytes;
        Ok(())
    }
}
