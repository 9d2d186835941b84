// SPDX-License-Identifier: GPL-2.0

//! The reservation lock of a dma-buf, and what it guards.
//!
//! C header: [`include/linux/dma-resv.h`](srctree/include/linux/dma-resv.h)

use super::DmaBuf;
use core::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ptr, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    task::MAX_SCHEDULE_TIMEOUT, //
};

/// Proof that the reservation lock of `buf` is held. Dropping it gives the lock back.
pub(super) struct Reserved<'a> {
    buf: &'a DmaBuf,
}

/// Which fences to wait for.
#[derive(Clone, Copy)]
pub(super) enum Fences {
    /// What an access has to wait for by the rules of implicit synchronisation: a read waits for
    /// writes, a write for reads, too.
    Before { write: bool },
    /// All that there are.
    All,
}

impl DmaBuf {
    fn resv(&self) -> *mut bindings::dma_resv {
        // SAFETY: the dma-buf is valid, and the field is never written.
        unsafe { (*self.as_raw()).resv }
    }

    /// Takes the reservation lock.
    ///
    /// Context: may sleep; the lock is not held by this thread.
    pub(super) fn reserve(&self) -> Reserved<'_> {
        // SAFETY: the reservation object is valid as long as the dma-buf is. Without an acquire
        // context the lock is simply waited for.
        unsafe { bindings::dma_resv_lock(self.resv(), ptr::null_mut()) };
        Reserved { buf: self }
    }

    /// For callbacks for which C has taken the lock, and will give it back.
    ///
    /// # Safety
    ///
    /// The reservation lock is held by this thread for as long as the returned value is there, and
    /// nothing that it guards is borrowed.
    pub(super) unsafe fn reserved(&self) -> ManuallyDrop<Reserved<'_>> {
        ManuallyDrop::new(Reserved { buf: self })
    }
}

impl Reserved<'_> {
    /// Tells the importers that their mappings must go: `dma_buf_invalidate_mappings()`.
    ///
    /// They may call back to unmap: nothing that the lock guards may be borrowed meanwhile, which
    /// is why this takes it.
    pub(super) fn invalidate_mappings(&mut self) {
        // SAFETY: the lock is held.
        unsafe { bindings::dma_buf_invalidate_mappings(self.buf.as_raw()) };
    }

    /// Waits for fences: `dma_resv_wait_timeout()`.
    ///
    /// # Errors
    ///
    /// - `ERESTARTSYS`: a signal came, if `interruptible`.
    pub(super) fn wait(&self, fences: Fences, interruptible: bool) -> Result {
        let usage = match fences {
            Fences::Before { write: false } => bindings::dma_resv_usage_DMA_RESV_USAGE_WRITE,
            Fences::Before { write: true } => bindings::dma_resv_usage_DMA_RESV_USAGE_READ,
            Fences::All => bindings::dma_resv_usage_DMA_RESV_USAGE_BOOKKEEP,
        };
        let timeout = MAX_SCHEDULE_TIMEOUT.unsigned_abs();
        // SAFETY: the reservation object is valid as long as the dma-buf is.
        let left = unsafe {
            bindings::dma_resv_wait_timeout(self.buf.resv(), usage, interruptible, timeout)
        };
        // CAST: an errno fits; what is not negative is not looked at.
        to_result(left.min(0) as i32)
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        // SAFETY: the lock is held by this thread.
        unsafe { bindings::dma_resv_unlock(self.buf.resv()) };
    }
}

/// A value that the reservation lock of one dma-buf guards.
pub(super) struct ByResv<T>(UnsafeCell<T>);

// SAFETY: the value is reached with the lock held only, see `ByResv::get`.
unsafe impl<T: Send> Sync for ByResv<T> {}

impl<T> ByResv<T> {
    pub(super) fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// # Safety
    ///
    /// `lock` is that of the dma-buf which guards this value, always of the same.
    pub(super) unsafe fn get<'a>(&'a self, _lock: &'a mut Reserved<'_>) -> &'a mut T {
        // SAFETY: the lock is held, and is borrowed mutably for as long as the reference lives.
        unsafe { &mut *self.0.get() }
    }

    /// The value, of which nobody else has a reference.
    pub(super) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}
