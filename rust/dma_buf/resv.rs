// SPDX-License-Identifier: GPL-2.0

//! The reservation object of a dma-buf: its lock, what the lock guards, and its fences.
//!
//! C header: [`include/linux/dma-resv.h`](srctree/include/linux/dma-resv.h)

use crate::dma_buf::DmaBuf;
use core::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ptr, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    task::MAX_SCHEDULE_TIMEOUT,
    time::msecs_to_jiffies, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    memory::unless_killed, //
};
use phyr_driver::completion::Wait;

/// The lock of the reservation object of `buf`, held by this thread. Dropping it unlocks.
pub(crate) struct ResvGuard<'a> {
    buf: &'a DmaBuf,
}

/// Fences to wait for.
#[derive(Clone, Copy)]
pub(crate) enum Fences {
    /// Those that an access has to wait for by the rules of implicit synchronisation: a read waits
    /// for writes, a write for reads, too.
    Before { write: bool },
    /// All that there are.
    All,
}

/// Interval at which a killable wait for fences checks for a signal, in milliseconds. C has only
/// waits that any signal ends, and waits that none does.
const KILL_CHECK_MS: u32 = 100;

impl DmaBuf {
    fn resv(&self) -> *mut bindings::dma_resv {
        // SAFETY: The dma-buf is valid, and the field is never written.
        unsafe { (*self.as_raw()).resv }
    }

    /// Locks the reservation object: `dma_resv_lock()`.
    ///
    /// Context: may sleep; this thread does not hold the lock.
    pub(crate) fn lock_resv(&self) -> ResvGuard<'_> {
        // SAFETY: The reservation object is valid as long as the dma-buf is. Without an acquire
        // context C waits for the lock.
        unsafe { bindings::dma_resv_lock(self.resv(), ptr::null_mut()) };
        ResvGuard { buf: self }
    }

    /// Returns a guard of the lock that C holds around a callback. It does not unlock.
    ///
    /// # Safety
    ///
    /// This thread holds the lock for as long as the returned value lives, and nothing that the
    /// lock guards is borrowed.
    pub(crate) unsafe fn resv_locked_by_c(&self) -> ManuallyDrop<ResvGuard<'_>> {
        ManuallyDrop::new(ResvGuard { buf: self })
    }

    /// Waits for fences: `dma_resv_wait_timeout()`. While the lock is held no new ones are added.
    ///
    /// # Errors
    ///
    /// - `ERESTARTSYS`: a signal ended an interruptible wait.
    /// - `EINTR`: the process was killed during a killable wait.
    pub(crate) fn wait_fences(&self, fences: Fences, wait: Wait) -> Result {
        let usage = match fences {
            Fences::Before { write: false } => bindings::dma_resv_usage_DMA_RESV_USAGE_WRITE,
            Fences::Before { write: true } => bindings::dma_resv_usage_DMA_RESV_USAGE_READ,
            Fences::All => bindings::dma_resv_usage_DMA_RESV_USAGE_BOOKKEEP,
        };
        let interruptible = wait == Wait::Interruptible;
        if wait != Wait::Uninterruptible {
            fail::at(Point::dma_resv_wait_timeout)?;
        }
        let timeout = match wait {
            Wait::Killable => msecs_to_jiffies(KILL_CHECK_MS),
            _ => MAX_SCHEDULE_TIMEOUT.unsigned_abs(),
        };
        loop {
            // SAFETY: The reservation object is valid as long as the dma-buf is.
            let left = unsafe {
                bindings::dma_resv_wait_timeout(self.resv(), usage, interruptible, timeout)
            };
            if left != 0 {
                // CAST: An errno fits in an `i32`; other values are mapped to zero.
                return to_result(left.min(0) as i32);
            }
            if wait == Wait::Killable {
                unless_killed()?;
            }
        }
    }
}

impl ResvGuard<'_> {
    /// Tells all importers to end their mappings: `dma_buf_invalidate_mappings()`.
    ///
    /// They may call back to unmap, which is why this borrows the guard mutably: nothing that the
    /// lock guards is borrowed meanwhile.
    pub(crate) fn invalidate_mappings(&mut self) {
        // SAFETY: The dma-buf is valid, and `self` holds its lock.
        unsafe { bindings::dma_buf_invalidate_mappings(self.buf.as_raw()) };
    }
}

impl Drop for ResvGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: This thread holds the lock, which `lock_resv` took.
        unsafe { bindings::dma_resv_unlock(self.buf.resv()) };
    }
}

/// A value that the reservation lock of one dma-buf guards.
pub(crate) struct LockedByResv<T>(UnsafeCell<T>);

// SAFETY: The value is accessed only with the lock held, or by the one owner: see `access_mut` and
// `get_mut`.
unsafe impl<T: Send> Sync for LockedByResv<T> {}

impl<T> LockedByResv<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Returns the value.
    ///
    /// # Safety
    ///
    /// `_lock` is that of the dma-buf that guards this value, the same one in every call.
    pub(crate) unsafe fn access_mut<'a>(&'a self, _lock: &'a mut ResvGuard<'_>) -> &'a mut T {
        // SAFETY: The caller passes the lock that guards the value, and the guard is borrowed
        // mutably for as long as the returned reference lives.
        unsafe { &mut *self.0.get() }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}
