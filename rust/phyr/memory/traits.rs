// SPDX-License-Identifier: GPL-2.0

//! Memory that a mapping owns: what a new kind of it implements, and what is made of others: shared
//! memory, which nobody writes (`Arc`), and several pieces, one after the other (`KVVec`).

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
use core::{
    fmt,
    ops::{
        Deref,
        Range, //
    }, //
};
use kernel::{
    page::{
        BorrowedPage,
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::Arc, //
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
///   no safe code accesses it but through this value, or by copies of raw pointers if it is memory
///   of a program, which others can pin, too.
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

/// The error of a mapping that was not made, and the value that was to be mapped.
///
/// With `?` it becomes the errno of the error, and the value is dropped.
pub struct MapError<M, E = Error> {
    /// The value, as it was.
    pub value: M,
    /// The reason.
    pub error: E,
}

impl<M, E> MapError<M, E> {
    #[inline]
    #[doc(hidden)]
    pub fn new(value: M, error: E) -> Self {
        Self { value, error }
    }
}

impl<M, E: fmt::Debug> fmt::Debug for MapError<M, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<M, E: Into<Error>> From<MapError<M, E>> for Error {
    fn from(failed: MapError<M, E>) -> Self {
        failed.error.into()
    }
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

/// Memory that is copied by the page.
///
/// # Safety
///
/// The memory begins [`Paged::start`] bytes into page 0 and goes on in those that follow, which can
/// be written if [`Memory::access`] has that right.
pub(super) unsafe trait Paged: Memory + Sized {
    /// Returns the offset of the memory in page 0.
    fn start(&self) -> usize;

    /// Returns page `index`, or `None` where there is none.
    fn nth_page(&self, index: usize) -> Option<impl Deref<Target = Page> + '_>;

    /// Copies as [`Memory::read`] does.
    fn read_pages(&self, offset: usize, to: &mut [u8]) -> Result {
        self.each_page(offset, to.len(), |page, start, range| {
            let to = to.get_mut(range).ok_or(EINVAL)?;
            // SAFETY: `to` may be written. By the contract of `Memory` no safe code has a reference
            // to the page's bytes. Those who may write meanwhile (a device, a program, a value that
            // has pinned the same memory of a program) do so by copies, and any byte is a `u8`.
            unsafe { page.read_raw(to.as_mut_ptr(), start, to.len()) }
        })
    }

    /// Copies as [`Memory::write`] does; fails with `EACCES` if the memory is read-only.
    fn write_pages(&mut self, offset: usize, from: &[u8]) -> Result {
        check_access(self, Access::WRITE)?;
        self.each_page(offset, from.len(), |page, start, range| {
            let from = from.get(range).ok_or(EINVAL)?;
            // SAFETY: `from` may be read, and by the contract of this trait the page be written. By
            // that of `Memory` no safe code has a reference to its bytes; see `read_pages`.
            unsafe { page.write_raw(from.as_ptr(), start, from.len()) }
        })
    }

    /// Calls `f` for each page of the `len` bytes at `offset`, with the offset in it, and the range
    /// of the bytes in the `len`.
    fn each_page(
        &self,
        offset: usize,
        len: usize,
        mut f: impl FnMut(&Page, usize, Range<usize>) -> Result,
    ) -> Result {
        check_range(offset, len, self.len())?;
        let (mut pos, mut done) = (self.start() + offset, 0);
        while done < len {
            let page = self.nth_page(pos / PAGE_SIZE).ok_or(EINVAL)?;
            let nr = (PAGE_SIZE - pos % PAGE_SIZE).min(len - done);
            f(&page, pos % PAGE_SIZE, done..done + nr)?;
            pos += nr;
            done += nr;
        }
        Ok(())
    }
}

// SAFETY: the memory stays where it is as long as any of the references is there, and no safe code
// gets at it but through one of them, none of which writes. A shared reference gives out no
// reference to the bytes, as `M` promises, so a device may write them.
unsafe impl<M: Memory + Sync> Memory for Arc<M> {
    const KIND: MemoryKind = M::KIND;

    type Direction = M::Direction;

    type Phyrs<'a> = M::Phyrs<'a>;

    fn phyrs(&self) -> M::Phyrs<'_> {
        M::phyrs(self)
    }

    fn len(&self) -> usize {
        M::len(self)
    }

    fn access(&self) -> Access {
        M::access(self)
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

// SAFETY: each element keeps its own memory in place, as its own implementation promises; moving
// the vector does not even move the elements.
unsafe impl<M: Memory> Memory for KVVec<M> {
    const KIND: MemoryKind = M::KIND;

    type Direction = M::Direction;

    type Phyrs<'a> = Chain<'a, M>;

    fn phyrs(&self) -> Chain<'_, M> {
        Chain {
            elements: self.iter(),
            current: None,
        }
    }

    // Memory can be in it more than once, by an `Arc`, so that the sum is not bounded by what there
    // is of it. A list that is cut off here cannot be mapped: adding it up, `map` fails with
    // `EOVERFLOW`.
    fn len(&self) -> usize {
        self.iter()
            .fold(0, |sum, element| sum.saturating_add(element.len()))
    }

    fn access(&self) -> Access {
        self.iter().fold(M::Direction::ACCESS, |access, element| {
            access.common(element.access())
        })
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

/// The pieces of several [`Memory`]s, one after the other.
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
