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
/// The length of a list can be any number of the caller's. With these flags the allocator fails for
/// one that is too long, and does not warn. Zones of memory and compound pages that `flags` may ask
/// for are not for lists.
#[doc(hidden)]
pub fn list_flags(flags: Flags) -> Flags {
    (flags & (GFP_KERNEL_ACCOUNT | GFP_ATOMIC)) | __GFP_NOWARN
}

/// Returns those of `flags` that count for pages: how to wait for them, whom they are charged to,
/// and whether a failure is logged.
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

/// Reschedules if needed, and checks that the process was not killed: for a long loop on behalf of
/// a process.
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

/// Returns the bytes that could be allocated without swapping, by the kernel's estimate: for a
/// driver that can make do with less.
///
/// C: `si_mem_available`.
pub fn available() -> usize {
    // SAFETY: Always allowed.
    let pages = unsafe { kernel::bindings::si_mem_available() };
    // CAST: It is not negative.
    (pages.max(0) as usize).saturating_mul(PAGE_SIZE)
}
