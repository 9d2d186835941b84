// SPDX-License-Identifier: GPL-2.0

//! Memory that a mapping owns while the device may reach it.
//!
//! A mapping takes its memory by value. It gives it back when it is unmapped; should the mapping be
//! leaked, so is the memory, and the device never reaches memory that is in use for something else.

mod chunks;
mod vmap;

pub use self::{
    chunks::{
        ChunkPieces,
        Chunks, //
    },
    vmap::Vmap, //
};

#[doc(hidden)]
pub use self::vmap::{
    vmap_pages,
    vunmap_pages, //
};

use super::{
    bindings,
    fail::{
        self,
        Point, //
    },
    plan::Limits,
    source::{
        page_piece,
        Segments,
        Source, //
    },
    types::Phyr, //
};
use core::ops::{
    Deref,
    Range, //
};
use kernel::{
    alloc::Flags,
    page::{
        BorrowedPage,
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::Arc, //
};

/// Returns the flags with which a list is allocated, for a caller whose memory is to be allocated
/// with `flags`.
///
/// The length of a list can be any number of the caller's: what is longer than there can be is
/// `ENOMEM`, and nothing that the allocator warns of. A list is in no zone of memory that `flags`
/// may name, nor a compound page.
#[doc(hidden)]
pub fn list_flags(flags: Flags) -> Flags {
    (flags & (GFP_KERNEL_ACCOUNT | GFP_ATOMIC)) | __GFP_NOWARN
}

/// Returns what of `flags` is for pages: how to wait for them, whom they are charged to, and
/// whether the want of them is logged.
fn page_flags(flags: Flags) -> Flags {
    flags & (GFP_KERNEL_ACCOUNT | GFP_ATOMIC | __GFP_NOWARN | __GFP_HIGHMEM)
}

/// Refuses to allocate more pages than the machine has, for which others would be killed in vain.
///
/// # Errors
///
/// - `ENOMEM`: `nr` is more than that.
pub(crate) fn check_pages(nr: usize) -> Result {
    // SAFETY: always allowed.
    if nr > unsafe { bindings::phyr_helper_totalram_pages() } {
        return Err(ENOMEM);
    }
    Ok(())
}

/// For work that takes long, on behalf of the process that waits for it: lets others run, and asks
/// whether the process still waits.
///
/// Context: process context, may sleep.
///
/// # Errors
///
/// - `EINTR`: the process was killed.
pub fn unless_killed() -> Result {
    // SAFETY: the caller is in process context, and may sleep.
    if unsafe { bindings::phyr_helper_killed() } {
        return Err(EINTR);
    }
    Ok(())
}

/// Returns how many bytes could be allocated without swapping, by the kernel's estimate: for a
/// driver that can do with less when there is little.
///
/// C: `si_mem_available`.
pub fn available() -> usize {
    // SAFETY: Always allowed.
    let pages = unsafe { kernel::bindings::si_mem_available() };
    // CAST: It is not negative.
    (pages.max(0) as usize).saturating_mul(PAGE_SIZE)
}

/// What memory is, which the DMA API has to know when a mapping is made and when it ends.
///
/// A mapping is of one kind: a [`Memory`] has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The system's own, in pages that the kernel manages.
    System,
    /// A device's: registers or memory behind a BAR (`DMA_ATTR_MMIO`). It is never cached, and
    /// never bounced.
    Mmio,
}

/// Memory that can be mapped for a device.
///
/// # Safety
///
/// - The memory is of the kind [`Memory::KIND`], and initialised: it holds nothing that a device or
///   whoever reads it must not see.
/// - The memory that [`Memory::phyrs`] yields is the same every time, and stays allocated and in
///   place until the value is dropped, even if the value is moved, and for ever if it is leaked.
/// - A device may read and write all of it: nothing else lies in it, and no safe code accesses it
///   but through this value.
pub unsafe trait Memory: Send + 'static {
    /// What all of the memory is.
    const KIND: Kind = Kind::System;

    /// The source of [`Memory::phyrs`].
    type Phyrs<'a>: Source + Clone;

    /// Where the memory is, in order.
    fn phyrs(&self) -> Self::Phyrs<'_>;

    /// Its length in bytes.
    fn len(&self) -> usize;

    /// Whether there is none of it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies from the memory at `offset` to `to`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the memory ends before.
    fn read(&self, offset: usize, to: &mut [u8]) -> Result;

    /// Copies `from` to the memory at `offset`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the memory ends before.
    fn write(&mut self, offset: usize, from: &[u8]) -> Result;
}

/// Memory that is whole pages of the kernel, which can be mapped elsewhere, too: into the kernel's
/// address space, or a user's.
///
/// # Safety
///
/// - Page `n` is where the bytes from `n * PAGE_SIZE` on are; the length is a multiple of the page
///   size.
/// - The pages are the same every time, for as long as the value exists, even if it is moved.
/// - They hold nothing that user space must not see.
pub unsafe trait PageMemory: Memory + Sync {
    /// Page `index`, or `None` where there is none.
    fn page(&self, index: usize) -> Option<BorrowedPage<'_>>;
}

/// Pages of order 0, wherever in physical memory they are, and the part of them that is used.
///
/// # Invariants
///
/// `offset` is within the first page, and the last of the `len` bytes behind it is in the last.
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

    /// The `len` bytes that begin `offset` bytes into the first of `pages`, which are zeroed.
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

/// Calls `f` for each piece of at most a page in `len` bytes that begin `pos` bytes into the first
/// of the pages that `page` gives by their index: the page, the offset in it, and the range of the
/// bytes in the `len`.
fn pieces<P: Deref<Target = Page>>(
    mut pos: usize,
    len: usize,
    page: impl Fn(usize) -> Option<P>,
    mut f: impl FnMut(&Page, usize, Range<usize>) -> Result,
) -> Result {
    let mut done = 0;
    while done < len {
        let page = page(pos / PAGE_SIZE).ok_or(EINVAL)?;
        let nr = (PAGE_SIZE - pos % PAGE_SIZE).min(len - done);
        f(&page, pos % PAGE_SIZE, done..done + nr)?;
        pos += nr;
        done += nr;
    }
    Ok(())
}

/// Copies to `to` what begins `pos` bytes into the first of the pages that `page` gives.
///
/// # Safety
///
/// Nothing else in the kernel writes to the pages meanwhile. A device or user space may: then the
/// bytes are any, which a `u8` may be.
unsafe fn read_pages<P: Deref<Target = Page>>(
    pos: usize,
    to: &mut [u8],
    page: impl Fn(usize) -> Option<P>,
) -> Result {
    pieces(pos, to.len(), page, |page, start, range| {
        let to = to.get_mut(range).ok_or(EINVAL)?;
        // SAFETY: `to` may be written; the rest by the requirements of this function.
        unsafe { page.read_raw(to.as_mut_ptr(), start, to.len()) }
    })
}

/// Copies `from` to where `pos` bytes into the first of the pages that `page` gives are.
///
/// # Safety
///
/// Nothing else in the kernel accesses the pages meanwhile.
unsafe fn write_pages<P: Deref<Target = Page>>(
    pos: usize,
    from: &[u8],
    page: impl Fn(usize) -> Option<P>,
) -> Result {
    pieces(pos, from.len(), page, |page, start, range| {
        let from = from.get(range).ok_or(EINVAL)?;
        // SAFETY: `from` may be read; the rest by the requirements of this function.
        unsafe { page.write_raw(from.as_ptr(), start, from.len()) }
    })
}

/// Checks that `len` bytes at `offset` are within the first `all`.
fn check_range(offset: usize, len: usize, all: usize) -> Result {
    if offset.checked_add(len).is_none_or(|end| end > all) {
        return Err(EINVAL);
    }
    Ok(())
}

// SAFETY: the pages are owned by the value and do not move with it; they are whole pages of order
// 0, to which only this value gives access.
unsafe impl Memory for Pages {
    type Phyrs<'a> = PagePieces<'a>;

    fn phyrs(&self) -> PagePieces<'_> {
        PagePieces {
            pages: self.pages.iter(),
            offset: self.offset,
            left: self.len,
        }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        check_range(offset, to.len(), self.len)?;
        // SAFETY: only this value gives access to the pages, and it is borrowed.
        unsafe { read_pages(self.offset + offset, to, |at| self.pages.get(at)) }
    }

    fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        check_range(offset, from.len(), self.len)?;
        // SAFETY: only this value gives access to the pages, and it is borrowed mutably.
        unsafe { write_pages(self.offset + offset, from, |at| self.pages.get(at)) }
    }
}

/// The pieces of [`Pages`], a page each at the most.
#[derive(Clone)]
pub struct PagePieces<'a> {
    pages: core::slice::Iter<'a, Page>,
    offset: usize,
    left: usize,
}

impl Iterator for PagePieces<'_> {
    type Item = Result<Phyr>;

    #[inline]
    fn next(&mut self) -> Option<Result<Phyr>> {
        if self.left == 0 {
            return None;
        }
        let page = self.pages.next()?;
        let (offset, len) = (self.offset, self.left.min(PAGE_SIZE - self.offset));

        self.offset = 0;
        self.left -= len;
        // SAFETY: the page is valid, and by the type invariant of `Pages` the piece is within it.
        // CAST: less than a page.
        Some(unsafe { page_piece(page.as_ptr(), offset as u64, len) })
    }
}

// SAFETY: each element keeps its own memory in place, as its own implementation promises; moving
// the vector does not even move the elements.
unsafe impl<M: Memory> Memory for KVVec<M> {
    const KIND: Kind = M::KIND;

    type Phyrs<'a> = Chain<'a, M>;

    fn phyrs(&self) -> Chain<'_, M> {
        Chain {
            elements: self.iter(),
            current: None,
        }
    }

    // Memory can be in it more than once, by an `Arc`, so that the sum is not bounded by what there
    // is of it. What is cut off here cannot be mapped: adding it up, `map` fails with `EOVERFLOW`.
    fn len(&self) -> usize {
        self.iter()
            .fold(0, |sum, element| sum.saturating_add(element.len()))
    }

    fn read(&self, mut offset: usize, mut to: &mut [u8]) -> Result {
        check_range(offset, to.len(), Memory::len(self))?;
        for element in self {
            let nr = element.len().saturating_sub(offset).min(to.len());
            let (head, tail) = to.split_at_mut_checked(nr).ok_or(EINVAL)?;
            if nr != 0 {
                element.read(offset, head)?;
            }
            to = tail;
            offset = offset.saturating_sub(element.len());
        }
        Ok(())
    }

    fn write(&mut self, mut offset: usize, mut from: &[u8]) -> Result {
        check_range(offset, from.len(), Memory::len(self))?;
        for element in self {
            let nr = element.len().saturating_sub(offset).min(from.len());
            let (head, tail) = from.split_at_checked(nr).ok_or(EINVAL)?;
            if nr != 0 {
                element.write(offset, head)?;
            }
            from = tail;
            offset = offset.saturating_sub(element.len());
        }
        Ok(())
    }
}

// SAFETY: the memory stays where it is as long as any of the references is there, and no safe code
// gets at it but through one of them, none of which writes.
unsafe impl<M: Memory + Sync> Memory for Arc<M> {
    const KIND: Kind = M::KIND;

    type Phyrs<'a> = M::Phyrs<'a>;

    fn phyrs(&self) -> M::Phyrs<'_> {
        M::phyrs(self)
    }

    fn len(&self) -> usize {
        M::len(self)
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        M::read(self, offset, to)
    }

    /// # Errors
    ///
    /// - `EBUSY`: always; the memory is shared.
    fn write(&mut self, _offset: usize, _from: &[u8]) -> Result {
        Err(EBUSY)
    }
}

/// The pieces of several [`Memory`]s, one behind the other.
pub struct Chain<'a, M: Memory> {
    elements: core::slice::Iter<'a, M>,
    current: Option<M::Phyrs<'a>>,
}

impl<M: Memory> Clone for Chain<'_, M> {
    fn clone(&self) -> Self {
        Self {
            elements: self.elements.clone(),
            current: self.current.clone(),
        }
    }
}

impl<M: Memory> Iterator for Chain<'_, M> {
    type Item = Result<Phyr>;

    fn next(&mut self) -> Option<Result<Phyr>> {
        loop {
            if let Some(phyr) = self.current.as_mut().and_then(Iterator::next) {
                return Some(phyr);
            }
            self.current = Some(self.elements.next()?.phyrs());
        }
    }
}

/// The phyrs of `memory`, joined and cut to `limits`.
pub fn segments<M: Memory>(memory: &M, limits: Limits) -> Segments<M::Phyrs<'_>> {
    Segments::new(memory.phyrs(), limits)
}
