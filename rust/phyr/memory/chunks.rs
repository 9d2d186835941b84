// SPDX-License-Identifier: GPL-2.0

//! Chunks of pages, in whatever order: memory for buffers that others map, too.

use super::{
    alloc::{
        check_pages,
        list_flags,
        page_flags,
        unless_killed, //
    },
    traits::{
        Memory,
        PageMemory,
        Paged, //
    }, //
};
use crate::{
    bindings,
    fail::{
        self,
        Point, //
    },
    raw,
    source::page::page_piece,
    types::{
        Phyr,
        PhysAddr, //
    }, //
};
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    dma::DataDirection,
    page::{
        BorrowedPage,
        Page,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// Zeroed chunks of physically contiguous pages, all of the same order: folios.
///
/// The chunks are in memory wherever the allocator found them, and in the buffer in the order that
/// [`Chunks::swap`] gives them.
///
/// # Invariants
///
/// Each chunk is `1 << order` pages that the value owns. `len` is a multiple of the page size, and
/// its last byte is in the last chunk.
pub struct Chunks {
    chunks: KVVec<NonNull<kernel::bindings::page>>,
    order: u32,
    len: usize,
}

// SAFETY: pages have no thread.
unsafe impl Send for Chunks {}

// SAFETY: a shared reference allows to read them only.
unsafe impl Sync for Chunks {}

impl Chunks {
    /// The largest order that there is: `MAX_PAGE_ORDER`, mostly chunks of 4 MiB.
    pub const MAX_ORDER: u32 = kernel::bindings::MAX_PAGE_ORDER;

    /// Allocates `len` bytes in chunks of `1 << order` pages.
    ///
    /// Of `flags` counts what says how to wait, whom to charge, and whether to log a failure.
    ///
    /// Context: may sleep if `flags` allow it.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `len` is zero or not in whole pages, or `order` is over [`Chunks::MAX_ORDER`].
    /// - `ENOMEM`: no memory; or more than the machine has, which is refused before anything is
    ///   allocated.
    pub fn zeroed(len: usize, order: u32, flags: kernel::alloc::Flags) -> Result<Self> {
        Self::collect(len, order, page_flags(flags), false)
    }

    /// Allocates memory for a process that may ask for any length, as [`Chunks::zeroed`] does: it
    /// is accounted to the memory cgroup of the process, no process is killed to make room for it,
    /// and the allocation ends early when the process is killed itself.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `len` is zero or not in whole pages, or `order` is over [`Chunks::MAX_ORDER`].
    /// - `ENOMEM`: no memory, over the limit of the cgroup, or more than half of the machine's,
    ///   which is refused before anything is allocated.
    /// - `EINTR`: the process was killed.
    pub fn for_user(len: usize, order: u32) -> Result<Self> {
        // SAFETY: always allowed.
        let memory = unsafe { bindings::phyr_helper_totalram_pages() };
        if len / PAGE_SIZE > memory / 2 {
            return Err(ENOMEM);
        }
        Self::collect(len, order, GFP_KERNEL_ACCOUNT | __GFP_NOWARN, true)
    }

    /// Allocates chunks of `1 << order` zeroed pages, `for_user` as [`Chunks::for_user`] says.
    fn collect(
        len: usize,
        order: u32,
        flags: kernel::alloc::Flags,
        for_user: bool,
    ) -> Result<Self> {
        if len == 0 || len % PAGE_SIZE != 0 || order > Self::MAX_ORDER {
            return Err(EINVAL);
        }
        check_pages(len / PAGE_SIZE)?;
        let nr = len.div_ceil(PAGE_SIZE << order);
        let mut this = Self {
            chunks: KVVec::with_capacity(nr, list_flags(flags))?,
            order,
            len,
        };
        for _ in 0..nr {
            if for_user {
                unless_killed()?;
            }
            fail::at(Point::alloc_pages)?;
            // SAFETY: always allowed; that it may sleep is in the flags.
            let chunk =
                unsafe { bindings::phyr_helper_alloc_chunk(raw::gfp(flags), order, for_user) };
            let chunk = NonNull::new(chunk).ok_or(ENOMEM)?;
            // INVARIANT: the chunk is just allocated; there is room for `nr` of them, so that none
            // is lost.
            let _ = this.chunks.push_within_capacity(chunk);
        }
        Ok(this)
    }

    /// Returns the number of chunks.
    pub fn count(&self) -> usize {
        self.chunks.len()
    }

    /// Returns the order of the chunks: each is `PAGE_SIZE << order` bytes, though of the last not
    /// all may be in use.
    pub fn order(&self) -> u32 {
        self.order
    }

    /// Returns the physical address of a chunk.
    pub fn paddr(&self, index: usize) -> Option<PhysAddr> {
        let chunk = self.chunks.get(index)?;
        // SAFETY: by the type invariant it is a page of the value's.
        let paddr = unsafe { bindings::phyr_helper_page_to_phys(chunk.as_ptr()) };
        Some(PhysAddr::from_raw(paddr))
    }

    /// Lets two chunks change places in the buffer. Nothing happens if there is no such chunk.
    pub fn swap(&mut self, a: usize, b: usize) {
        if a < self.chunks.len() && b < self.chunks.len() {
            self.chunks.swap(a, b);
        }
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            // SAFETY: by the type invariant the value owns it.
            unsafe { kernel::bindings::__free_pages(chunk.as_ptr(), self.order) };
        }
    }
}

// SAFETY: the pages are owned by the value and do not move with it; they are whole pages, zeroed,
// to which only this value gives access, by copies of raw pointers.
unsafe impl Memory for Chunks {
    type Direction = DataDirection;

    type Phyrs<'a> = ChunkPieces<'a>;

    fn phyrs(&self) -> ChunkPieces<'_> {
        ChunkPieces {
            chunks: self.chunks.iter(),
            size: PAGE_SIZE << self.order,
            left: self.len,
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

// SAFETY: the pages are owned by the value, in this order.
unsafe impl Paged for Chunks {
    fn start(&self) -> usize {
        0
    }

    fn nth_page(&self, index: usize) -> Option<impl Deref<Target = Page> + '_> {
        self.page(index)
    }
}

// SAFETY: the pages were zeroed, are those that `phyrs` names, in that order, and are owned by the
// value.
unsafe impl PageMemory for Chunks {
    fn page(&self, index: usize) -> Option<BorrowedPage<'_>> {
        if index >= self.len / PAGE_SIZE {
            return None;
        }
        let chunk = self.chunks.get(index >> self.order)?;
        // SAFETY: by the type invariant the chunk has that many pages, whose `struct page`s are
        // one after the other.
        let page = unsafe { chunk.add(index & ((1 << self.order) - 1)) };
        // SAFETY: it is a page of the value, which is borrowed.
        Some(unsafe { BorrowedPage::from_raw(page) })
    }
}

/// The pieces of [`Chunks`], a chunk each at the most.
#[derive(Clone)]
pub struct ChunkPieces<'a> {
    chunks: core::slice::Iter<'a, NonNull<kernel::bindings::page>>,
    size: usize,
    left: usize,
}

impl Iterator for ChunkPieces<'_> {
    type Item = Result<Phyr>;

    #[inline]
    fn next(&mut self) -> Option<Result<Phyr>> {
        let len = self.left.min(self.size);
        if len == 0 {
            return None;
        }
        let chunk = self.chunks.next()?;

        self.left -= len;
        // SAFETY: by the type invariant of `Chunks` the chunk is valid and has that many bytes.
        Some(unsafe { page_piece(chunk.as_ptr(), 0, len) })
    }
}
