// SPDX-License-Identifier: GPL-2.0

//! Memory that a mapping owns: what a new kind of it implements.

use crate::{
    access::{
        Access,
        Direction, //
    },
    attrs::MemoryKind,
    limits::Limits,
    source::segments::Segments,
    types::Phyr, //
};
use core::ops::{
    Deref,
    Range, //
};
use kernel::{
    page::{
        BorrowedPage,
        Page,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// Memory that can be mapped for a device.
///
/// # Safety
///
/// - The memory is of the kind [`Memory::KIND`], and initialised: it holds nothing that a device or
///   whoever reads it must not see.
/// - The memory that [`Memory::phyrs`] yields is the same every time, and stays allocated and in
///   place until the value is dropped, even if the value is moved, and for ever if it is leaked.
/// - A device may access all of it with the rights [`Memory::access`]: nothing else lies in it, and
///   no safe code accesses it but through this value.
/// - An IOMMU maps whole granules, so the same holds for the rest of its first and of its last
///   page: nothing of others lies there, and nothing is left of earlier users. Memory of
///   `kmalloc()` is excepted, as in C: a trusted device may see the kernel's objects around it. For
///   other devices the DMA API copies such parts, and a domain of the driver's own takes whole
///   granules, or is refused with `EACCES`.
/// - A device may write it at any time while a mapping owns the value, and others may have a shared
///   reference to it then (an `Arc`): a shared reference gives out no reference to the bytes, such
///   as a slice, and [`Memory::read`] copies through raw pointers.
pub unsafe trait Memory: Send + 'static {
    /// The kind of all of the memory.
    const KIND: MemoryKind = MemoryKind::System;

    /// The directions in which the memory can be mapped: [`DataDirection`](crate::DataDirection),
    /// or [`ToDevice`](crate::ToDevice) if no device may write memory of this kind.
    type Direction: Direction;

    /// The iterator of [`Memory::phyrs`].
    type Phyrs<'a>: Iterator<Item = Result<Phyr>> + Clone;

    /// Returns the memory as phyrs, in order.
    fn phyrs(&self) -> Self::Phyrs<'_>;

    /// Returns its length in bytes.
    fn len(&self) -> usize;

    /// Returns whether there is none of it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the rights of a device to the memory. They are the same every time.
    ///
    /// A kind of memory of which some is read-only, and which is not known before the program runs,
    /// has [`DataDirection`](crate::DataDirection) for its [`Memory::Direction`], and returns here
    /// what is true of the value.
    fn access(&self) -> Access {
        Self::Direction::ACCESS
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
    /// Returns page `index`, or `None` where there is none.
    fn page(&self, index: usize) -> Option<BorrowedPage<'_>>;
}

/// Returns the phyrs of `memory`, joined and cut to `limits`.
pub fn segments<M: Memory>(memory: &M, limits: Limits) -> Segments<M::Phyrs<'_>> {
    Segments::new(memory.phyrs(), limits)
}

/// Checks that a device may have the rights `access` to `memory`.
///
/// # Errors
///
/// - `EACCES`: it may not.
#[doc(hidden)]
#[inline]
pub fn check_access<M: Memory>(memory: &M, access: Access) -> Result {
    if !memory.access().contains(access) {
        return Err(EACCES);
    }
    Ok(())
}

/// Checks that `len` bytes at `offset` are within the first `all`.
pub(super) fn check_range(offset: usize, len: usize, all: usize) -> Result {
    if offset.checked_add(len).is_none_or(|end| end > all) {
        return Err(EINVAL);
    }
    Ok(())
}

/// The bytes that are left of a list of pages, cut at pages.
///
/// # Invariants
///
/// `offset` is within a page.
#[derive(Clone)]
pub(super) struct PagedBytes {
    offset: usize,
    left: usize,
}

impl PagedBytes {
    /// Returns `len` bytes, which begin `offset` bytes into the first page, and within it.
    #[inline]
    pub(super) fn new(offset: usize, len: usize) -> Self {
        // INVARIANT: the remainder is within a page.
        Self {
            offset: offset % PAGE_SIZE,
            left: len,
        }
    }

    /// Takes what is left of the next page: the offset in it, and the number of bytes. There is
    /// nothing of a page when all was taken.
    #[inline]
    pub(super) fn next_piece(&mut self) -> Option<(usize, usize)> {
        if self.left == 0 {
            return None;
        }
        let (offset, len) = (self.offset, self.left.min(PAGE_SIZE - self.offset));

        self.offset = 0;
        self.left -= len;
        Some((offset, len))
    }
}

/// Calls `f` for each piece of at most a page in `len` bytes that begin `pos` bytes into the first
/// of the pages that `page` gives by their index: the page, the offset in it, and the range of the
/// bytes in the `len`.
pub(super) fn each_page<P: Deref<Target = Page>>(
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
