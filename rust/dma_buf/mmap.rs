// SPDX-License-Identifier: GPL-2.0

//! Mapping the pages of a buffer into user space: `mmap()`.

use crate::bindings as helpers;
use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    Phyr, //
};

/// A part of a user mapping that is to be filled, from a place in the buffer on.
///
/// # Invariants
///
/// `vma` is being set up by `mmap()` of a buffer of pages. Nothing is mapped yet in `[addr, end)`,
/// which is part of it.
pub(crate) struct UserRange {
    vma: *mut bindings::vm_area_struct,
    addr: usize,
    end: usize,
    /// Bytes of the buffer that come before.
    skip: usize,
}

impl UserRange {
    /// Returns all of `vma`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: it is private: a copy on write of memory that devices write makes no sense.
    ///
    /// # Safety
    ///
    /// `vma` is being set up by `mmap()` of a buffer of pages.
    pub(crate) unsafe fn new(vma: *mut bindings::vm_area_struct) -> Result<Self> {
        // SAFETY: The caller is in `mmap()`, which owns `vma` exclusively.
        unsafe {
            if !helpers::phyr_dma_buf_helper_vma_is_shared(vma) {
                return Err(EINVAL);
            }
            // INVARIANT: The caller sets `vma` up, in which nothing is mapped yet.
            Ok(Self {
                vma,
                addr: (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_start,
                end: (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_end,
                skip: (*vma).vm_pgoff.checked_mul(PAGE_SIZE).ok_or(EINVAL)?,
            })
        }
    }

    /// Returns whether all of it is mapped.
    pub(crate) fn is_full(&self) -> bool {
        self.addr == self.end
    }

    /// Maps the part of `phyr`, the next of the buffer, that belongs here: `remap_pfn_range()`.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no page table.
    ///
    /// # Safety
    ///
    /// `phyr` is whole pages of the buffer that is being mapped.
    pub(crate) unsafe fn fill(&mut self, phyr: Phyr) -> Result {
        let skipped = self.skip.min(phyr.len());
        self.skip -= skipped;
        let len = (phyr.len() - skipped).min(self.end - self.addr);
        if len == 0 {
            return Ok(());
        }
        // CAST: A `usize` is at most 64 bits wide.
        let pfn = (phyr.paddr().into_raw() + skipped as u64) / PAGE_SIZE as u64;
        fail::at(Point::remap_pfn_range)?;
        // SAFETY: `[addr, addr + len)` is part of `vma`, in which nothing is mapped there yet, by
        // the type invariants. The caller passes pages of the buffer, and the user mapping holds
        // the buffer's file, which keeps them.
        // CAST: A frame number fits in an `unsigned long`.
        to_result(unsafe {
            let prot = (*self.vma).vm_page_prot;
            bindings::remap_pfn_range(self.vma, self.addr, pfn as usize, len, prot)
        })?;
        // INVARIANT: The first `len` bytes have just been mapped.
        self.addr += len;
        Ok(())
    }
}
