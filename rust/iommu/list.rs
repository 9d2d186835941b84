// SPDX-License-Identifier: GPL-2.0

//! Many pieces mapped with one flush: `iommu_map_sg()`.
//!
//! An IOMMU that caches what is not there (in a guest, mostly) is to be told of pages that were
//! added. `iommu_map()` does that in each call, and the variant that leaves it out is not exported;
//! for a list it is done once. The list is scratch, and input only: pages and lengths.
//!
//! The pages are never looked at, and need not exist; where a page's number cannot be told from
//! its address alone (no `CONFIG_SPARSEMEM_VMEMMAP`), or the kernel minds
//! (`CONFIG_DEBUG_VIRTUAL`), each piece is mapped by itself.

use super::domain::Inner;
use crate::bindings as helpers;
use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};
use phyr::{
    fail::{
        self,
        Point, //
    }, //
};

/// An entry of a list.
pub(super) type Entry = bindings::scatterlist;

/// The longest piece of an entry, whose length has 32 bits: a page of any IOMMU's.
const MAX_LEN: usize = 1 << 30;

impl Inner<'_> {
    /// Maps `pieces`, each an address and a length, one behind the other at `iova`, and adds their
    /// lengths to `done` as it goes. As many as `list` has entries go in one call; with less than
    /// two, or memory of a device, each by itself.
    ///
    /// # Errors
    ///
    /// What `pieces` or the IOMMU's driver fail with; then just `done` is mapped.
    ///
    /// # Safety
    ///
    /// Those of [`Inner::map_piece`], for each piece.
    pub(super) unsafe fn map_pieces(
        &self,
        iova: u64,
        pieces: impl Iterator<Item = Result<(u64, usize)>>,
        prot: i32,
        flags: bindings::gfp_t,
        list: &mut [Entry],
        done: &mut usize,
    ) -> Result {
        // CAST: bits.
        let is_mmio = prot as u32 & bindings::IOMMU_MMIO != 0;
        let has_pages = cfg!(CONFIG_SPARSEMEM_VMEMMAP) && !cfg!(CONFIG_DEBUG_VIRTUAL);
        if list.len() < 2 || is_mmio || !has_pages {
            for piece in pieces {
                let (paddr, len) = piece?;
                // CAST: a `usize` is at most 64 bits wide.
                let at = iova + *done as u64;
                // SAFETY: by the requirements of this function.
                unsafe { self.map_piece(at, paddr, len, prot, flags) }?;
                *done += len;
            }
            return Ok(());
        }

        // CAST: cut to what fits; a list is not that long.
        let room = list.len().min(u32::MAX as usize);
        // SAFETY: the list has at least so many entries.
        unsafe { bindings::sg_init_table(list.as_mut_ptr(), room as u32) };
        let (mut nr, mut bytes) = (0, 0);
        for piece in pieces {
            let (mut paddr, mut left) = piece?;
            while left != 0 {
                let len = left.min(MAX_LEN);
                if nr == room {
                    // SAFETY: by the requirements of this function; the entries are filled.
                    unsafe { self.map_list(iova, list, nr, bytes, prot, flags, done) }?;
                    (nr, bytes) = (0, 0);
                }
                let entry = list.get_mut(nr).ok_or(EINVAL)?;
                // SAFETY: the entry is initialised.
                // CAST: at most `MAX_LEN`.
                unsafe { helpers::phyr_iommu_helper_sg_fill_phys(entry, paddr, len as u32) };
                nr += 1;
                bytes += len;
                // CAST: as above.
                paddr += len as u64;
                left -= len;
            }
        }
        // SAFETY: as above.
        unsafe { self.map_list(iova, list, nr, bytes, prot, flags, done) }
    }

    /// Maps the first `nr` entries of `list`, which have `bytes` bytes, behind `done`.
    ///
    /// # Safety
    ///
    /// Those of [`Inner::map_pieces`], for what the entries hold.
    #[expect(clippy::too_many_arguments)]
    unsafe fn map_list(
        &self,
        iova: u64,
        list: &mut [Entry],
        nr: usize,
        bytes: usize,
        prot: i32,
        flags: bindings::gfp_t,
        done: &mut usize,
    ) -> Result {
        if nr == 0 {
            return Ok(());
        }
        // CAST: a `usize` is at most 64 bits wide, and has as many as an `unsigned long`; a list is
        // not longer than 32 bits tell.
        let (at, nr) = (iova as usize + *done, nr as u32);
        fail::at(Point::iommu_map_sg)?;
        // SAFETY: by the requirements of this function.
        let mapped = unsafe {
            bindings::iommu_map_sg(self.raw.as_ptr(), at, list.as_mut_ptr(), nr, prot, flags)
        };
        // CAST: an errno, or not negative.
        to_result(mapped.min(0) as i32)?;
        *done += bytes;
        Ok(())
    }
}
