// SPDX-License-Identifier: GPL-2.0

//! The reservation lock of a dma-buf, what it guards, and what is waited for.
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
    task::MAX_SCHEDULE_TIMEOUT,
    time::msecs_to_jiffies,
    types::Opaque, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    memory::unless_killed, //
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

/// What ends a wait before its time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Any signal.
    UntilSignal,
    /// A signal that kills the process.
    UntilKilled,
    /// Nothing.
    Endless,
}

/// How often a wait for fences looks whether the process was killed: C has one that any signal
/// ends, and one that none does.
const LOOK_MS: u32 = 100;

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

    /// Waits for fences: `dma_resv_wait_timeout()`. With the lock held there are no new ones.
    ///
    /// # Errors
    ///
    /// - `ERESTARTSYS`: a signal came, see `patience`.
    /// - `EINTR`: the process was killed, see `patience`.
    pub(super) fn wait(&self, fences: Fences, patience: Patience) -> Result {
        let usage = match fences {
            Fences::Before { write: false } => bindings::dma_resv_usage_DMA_RESV_USAGE_WRITE,
            Fences::Before { write: true } => bindings::dma_resv_usage_DMA_RESV_USAGE_READ,
            Fences::All => bindings::dma_resv_usage_DMA_RESV_USAGE_BOOKKEEP,
        };
        let interruptible = patience == Patience::UntilSignal;
        if patience != Patience::Endless {
            fail::at(Point::dma_resv_wait_timeout)?;
        }
        let timeout = if patience == Patience::UntilKilled {
            msecs_to_jiffies(LOOK_MS)
        } else {
            MAX_SCHEDULE_TIMEOUT.unsigned_abs()
        };
        loop {
            // SAFETY: the reservation object is valid as long as the dma-buf is.
            let left = unsafe {
                bindings::dma_resv_wait_timeout(self.resv(), usage, interruptible, timeout)
            };
            if left != 0 {
                // CAST: an errno fits; what is not negative is not looked at.
                return to_result(left.min(0) as i32);
            }
            if patience == Patience::UntilKilled {
                unless_killed()?;
            }
        }
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

/// Something that happens once, and may be waited for.
///
/// The kernel's own `Completion` cannot be waited for until the process is killed.
#[pin_data]
pub(super) struct Once {
    #[pin]
    done: Opaque<bindings::completion>,
}

// SAFETY: a completion may be used from any thread.
unsafe impl Send for Once {}

// SAFETY: as above, and from several at once.
unsafe impl Sync for Once {}

impl Once {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            done <- Opaque::ffi_init(|slot: *mut bindings::completion| {
                // SAFETY: it may be written.
                unsafe { bindings::init_completion(slot) };
            }),
        })
    }

    /// It has happened.
    pub(super) fn set(&self) {
        // SAFETY: it is initialized.
        unsafe { bindings::complete_all(self.done.get()) };
    }

    /// Waits until it has happened.
    ///
    /// # Errors
    ///
    /// - `EINTR`: a signal came, see `patience`.
    pub(super) fn wait(&self, patience: Patience) -> Result {
        match patience {
            Patience::UntilSignal => fail::at(Point::wait_for_completion_interruptible)?,
            Patience::UntilKilled => fail::at(Point::wait_for_completion_killable)?,
            Patience::Endless => {}
        }
        let done = self.done.get();
        // SAFETY: it is initialized.
        let ret = unsafe {
            match patience {
                Patience::UntilSignal => bindings::wait_for_completion_interruptible(done),
                Patience::UntilKilled => bindings::wait_for_completion_killable(done),
                Patience::Endless => {
                    bindings::wait_for_completion(done);
                    0
                }
            }
        };
        to_result(ret).map_err(|_| EINTR)
    }
}
