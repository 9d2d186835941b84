// SPDX-License-Identifier: GPL-2.0

//! Memory: bytes of a vector in the kernel's virtual memory (`vmalloc()`).

use super::traits::{
    check_range,
    Memory, //
};
use crate::{
    source::page::page_piece,
    types::Phyr, //
};
use core::ptr::NonNull;
use kernel::{
    alloc::allocator::Vmalloc,
    dma::DataDirection,
    page::{
        BorrowedPage,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// The bytes of a [`VVec<u8>`](VVec), in pages wherever in physical memory they are.
///
/// A type of its own, without a slice of the bytes: a slice promises that nobody writes them, and a
/// device does, also through an `Arc` that is shared. The bytes can be had again as a vector, with
/// [`VBytes::into_vec`], when the mapping has given the value back.
///
/// Capacity beyond the length is not mapped, but for the rest of the last page: an IOMMU maps whole
/// granules.
///
/// # Invariants
///
/// The rest of the page in which the last byte is holds zeros, or what a device has written there.
pub struct VBytes {
    bytes: VVec<u8>,
}

impl VBytes {
    /// Takes the vector `bytes`, and zeroes the rest of its last page.
    ///
    /// # Errors
    ///
    /// None are expected; those of [`Page::fill_zero_raw`](kernel::page::Page::fill_zero_raw).
    pub fn new(bytes: VVec<u8>) -> Result<Self> {
        let this = Self { bytes };
        let used = this.bytes.len() % PAGE_SIZE;
        if used != 0 {
            let last = page(&this.bytes, this.bytes.len() / PAGE_SIZE).ok_or(EINVAL)?;
            // By the page, not by the vector's address: its capacity may end before the page does.
            //
            // SAFETY: the page is the vector's alone, as `vmalloc()` gives out whole pages. The
            // vector is owned, so nobody accesses it meanwhile; its values end before.
            unsafe { last.fill_zero_raw(used, PAGE_SIZE - used) }?;
        }
        // INVARIANT: just zeroed; if nothing is used of the last page, there is no rest.
        Ok(this)
    }

    /// Returns the vector, with what a device has written to it.
    pub fn into_vec(self) -> VVec<u8> {
        self.bytes
    }
}

/// Returns the page of the bytes from `index * PAGE_SIZE` on, or `None` where there are none.
#[inline]
fn page(bytes: &VVec<u8>, index: usize) -> Option<BorrowedPage<'_>> {
    let offset = index.checked_mul(PAGE_SIZE)?;
    if offset >= bytes.len() {
        return None;
    }
    let start = NonNull::new(bytes.as_ptr().cast_mut())?;
    // SAFETY: the offset is within the vector, which has bytes, and so has an allocation.
    let start = unsafe { start.add(offset) };
    // SAFETY: the address is within the vector's allocation, which is of `Vmalloc` and neither
    // freed nor moved while the vector is borrowed.
    Some(unsafe { Vmalloc::to_page(start) })
}

// SAFETY:
// - The bytes of a vector are initialised, and by the type invariant the rest of their last page
//   holds nothing of others.
// - The allocation is owned by the value, does not move with it, and stays as it is: nothing here
//   takes the vector mutably. It begins with a page, and is of whole pages that are in no other.
// - Only this value gives access to it, by copies of raw pointers; there is no reference to the
//   bytes until `into_vec` consumes the value.
unsafe impl Memory for VBytes {
    type Direction = DataDirection;

    type Phyrs<'a> = VPieces<'a>;

    fn phyrs(&self) -> VPieces<'_> {
        VPieces {
            bytes: &self.bytes,
            index: 0,
        }
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        check_range(offset, to.len(), self.bytes.len())?;
        // SAFETY: the bytes are within the vector, which is borrowed; a device may write meanwhile,
        // and any byte is a `u8`.
        unsafe {
            self.bytes
                .as_ptr()
                .add(offset)
                .copy_to_nonoverlapping(to.as_mut_ptr(), to.len())
        };
        Ok(())
    }

    fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        check_range(offset, from.len(), self.bytes.len())?;
        // SAFETY: the bytes are within the vector, which is borrowed mutably.
        unsafe {
            self.bytes
                .as_mut_ptr()
                .add(offset)
                .copy_from_nonoverlapping(from.as_ptr(), from.len())
        };
        Ok(())
    }
}

/// The pieces of [`VBytes`], a page each at the most.
#[derive(Clone)]
pub struct VPieces<'a> {
    bytes: &'a VVec<u8>,
    index: usize,
}

impl Iterator for VPieces<'_> {
    type Item = Result<Phyr>;

    #[inline]
    fn next(&mut self) -> Option<Result<Phyr>> {
        let page = page(self.bytes, self.index)?;
        let len = PAGE_SIZE.min(self.bytes.len() - self.index * PAGE_SIZE);

        self.index += 1;
        // SAFETY: the page is valid, and the piece is within it.
        Some(unsafe { page_piece(page.as_ptr(), 0, len) })
    }
}
