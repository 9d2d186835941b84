// SPDX-License-Identifier: GPL-2.0

//! Scattered pages as one range of the kernel's address space.
//!
//! C: `vmap()` ([`mm/vmalloc.c`](srctree/mm/vmalloc.c)).

use super::{
    alloc::list_flags,
    traits::{
        check_range,
        PageMemory, //
    }, //
};
use crate::{
    bindings,
    fail::{
        self,
        Point, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::{
        copy_nonoverlapping,
        NonNull, //
    }, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// Memory that is mapped into the kernel's address space, until this is dropped.
///
/// Dropping it may sleep, and must not be done in an interrupt.
///
/// # Invariants
///
/// `addr` is what `vmap_pages` returned for a memory of `len` bytes, which nothing else in the
/// kernel accesses for `'a`.
pub struct Vmap<'a> {
    addr: NonNull<u8>,
    len: usize,
    _memory: PhantomData<&'a mut ()>,
}

// SAFETY: the range is the same for every thread.
unsafe impl Send for Vmap<'_> {}

impl<'a> Vmap<'a> {
    /// Maps all of `memory`.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// Those of [`vmap_pages`].
    pub(crate) fn new<M: PageMemory>(memory: &'a mut M) -> Result<Self> {
        // INVARIANT: just mapped so, and the memory is borrowed mutably.
        Ok(Self {
            addr: vmap_pages(memory)?,
            len: memory.len(),
            _memory: PhantomData,
        })
    }

    /// Returns its address, for use until this is dropped.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.addr
    }

    /// Returns its length in bytes.
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies from `offset` to `to`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the memory ends before.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        check_range(offset, to.len(), self.len)?;
        // SAFETY: by the type invariant the range is mapped, and the bytes are within it. A device
        // or user space may write meanwhile; any byte is a `u8`.
        unsafe { copy_nonoverlapping(self.addr.as_ptr().add(offset), to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// Copies `from` to `offset`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the memory ends before.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        check_range(offset, from.len(), self.len)?;
        // SAFETY: by the type invariant the range is mapped, and the bytes are within it; it is
        // borrowed mutably.
        unsafe { copy_nonoverlapping(from.as_ptr(), self.addr.as_ptr().add(offset), from.len()) };
        Ok(())
    }
}

impl Drop for Vmap<'_> {
    fn drop(&mut self) {
        // SAFETY: by the type invariant `vmap_pages` has returned it; nobody uses it any more.
        unsafe { bindings::phyr_helper_vunmap(self.addr.as_ptr().cast()) };
    }
}

/// Maps all of `memory` into the kernel's address space, and returns its address there.
///
/// Context: may sleep.
///
/// # Errors
///
/// - `EINVAL`: more pages than `vmap()` can count.
/// - `ENOMEM`: no memory, or no address space.
pub fn vmap_pages<M: PageMemory>(memory: &M) -> Result<NonNull<u8>> {
    let nr = memory.len() / PAGE_SIZE;
    let count = u32::try_from(nr)?;
    let mut pages = KVVec::with_capacity(nr, list_flags(GFP_KERNEL))?;
    for at in 0..nr {
        let page = memory.page(at).ok_or(EINVAL)?;
        // There is room for `nr` of them.
        let _ = pages.push_within_capacity(page.as_ptr());
    }
    fail::at(Point::vmap)?;
    // SAFETY: these are `nr` pages. The user of the range keeps them.
    let addr = unsafe { bindings::phyr_helper_vmap(pages.as_mut_ptr(), count) };
    NonNull::new(addr.cast()).ok_or(ENOMEM)
}
