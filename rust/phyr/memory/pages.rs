// SPDX-License-Identifier: GPL-2.0

//! Memory: pages of order 0.

use super::{
    alloc::{
        check_pages,
        list_flags,
        page_flags, //
    },
    traits::{
        Memory,
        Paged,
        PagedBytes, //
    }, //
};
use crate::{
    fail::{
        self,
        Point, //
    },
    source::page::page_piece,
    types::Phyr, //
};
use core::ops::Deref;
use kernel::{
    alloc::Flags,
    dma::DataDirection,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// Pages of order 0, wherever in physical memory they are, and the part of them that is used.
///
/// # Invariants
///
/// `offset` is within the first page, and the last of the `len` bytes from there on in the last.
pub struct Pages {
    pages: KVVec<Page>,
    offset: usize,
    len: usize,
}

impl Pages {
    /// Allocates `len` bytes of zeroed pages.
    ///
    /// Of `flags` counts what says how to wait, whom to charge, and whether to log a failure.
    ///
    /// Context: may sleep if `flags` allow it.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `len` is zero.
    /// - `ENOMEM`: no memory; or more than the machine has, which is refused before anything is
    ///   allocated.
    pub fn zeroed(len: usize, flags: Flags) -> Result<Self> {
        let nr = len.div_ceil(PAGE_SIZE);
        check_pages(nr)?;
        let mut pages = KVVec::with_capacity(nr, list_flags(flags))?;
        for _ in 0..nr {
            fail::at(Point::alloc_pages)?;
            let page = Page::alloc_page(page_flags(flags))?;
            // There is room for `nr` of them.
            let _ = pages.push_within_capacity(page);
        }
        Self::new(pages, 0, len)
    }

    /// Takes the `len` bytes that begin `offset` bytes into the first of `pages`, and zeroes the
    /// pages.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `len` is zero, `offset` is not within the first page, or the pages are more or
    ///   fewer than that.
    pub fn new(pages: KVVec<Page>, offset: usize, len: usize) -> Result<Self> {
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        if len == 0 || offset >= PAGE_SIZE || end.div_ceil(PAGE_SIZE) != pages.len() {
            return Err(EINVAL);
        }
        for page in &pages {
            // SAFETY: the page is owned, and nobody else accesses it.
            unsafe { page.fill_zero_raw(0, PAGE_SIZE) }?;
        }
        // INVARIANT: just checked.
        Ok(Self { pages, offset, len })
    }
}

// SAFETY: the pages are owned by the value and do not move with it; they are whole pages of order
// 0, zeroed, to which only this value gives access, by copies of raw pointers.
unsafe impl Memory for Pages {
    type Direction = DataDirection;

    type Phyrs<'a> = PagePieces<'a>;

    fn phyrs(&self) -> PagePieces<'_> {
        PagePieces {
            pages: self.pages.iter(),
            rest: PagedBytes::new(self.offset, self.len),
        }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.read_pages(offset, to)
    }

    fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.write_pages(offset, from)
    }
}

// SAFETY: the memory begins `offset` bytes into its first page; the pages are owned by the value.
unsafe impl Paged for Pages {
    fn start(&self) -> usize {
        self.offset
    }

    fn nth_page(&self, index: usize) -> Option<impl Deref<Target = Page> + '_> {
        self.pages.get(index)
    }
}

/// The pieces of [`Pages`], a page each at the most.
#[derive(Clone)]
pub struct PagePieces<'a> {
    pages: core::slice::Iter<'a, Page>,
    rest: PagedBytes,
}

impl Iterator for PagePieces<'_> {
    type Item = Result<Phyr>;

    #[inline]
    fn next(&mut self) -> Option<Result<Phyr>> {
        let (offset, len) = self.rest.next_piece()?;
        let page = self.pages.next()?;
        // SAFETY: the page is valid, and by the type invariant of `Pages` the piece is within it.
        // CAST: less than a page.
        Some(unsafe { page_piece(page.as_ptr(), offset as u64, len) })
    }
}
