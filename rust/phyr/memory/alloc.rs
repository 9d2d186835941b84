// SPDX-License-Identifier: GPL-2.0

//! Allocation of memory that can be mapped: flags, and what is refused beforehand.

use crate::bindings;
use kernel::{
    alloc::Flags,
    page::PAGE_SIZE,
    prelude::*, //
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
pub(super) fn page_flags(flags: Flags) -> Flags {
    flags & (GFP_KERNEL_ACCOUNT | GFP_ATOMIC | __GFP_NOWARN | __GFP_HIGHMEM)
}

/// Refuses to allocate more pages than the machine has: the OOM killer could not make room.
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

/// Lets others run, and checks that the process still waits: for work that takes long, on behalf of
/// that process.
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
