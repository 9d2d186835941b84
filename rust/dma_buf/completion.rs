// SPDX-License-Identifier: GPL-2.0

//! Completions that are waited for until a signal comes.
//!
//! C header: [`include/linux/completion.h`](srctree/include/linux/completion.h)

use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    types::Opaque, //
};
use phyr::fail::{
    self,
    Point, //
};

/// Signals that end a wait early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Any signal.
    Interruptible,
    /// A signal that kills the process.
    Killable,
    /// None.
    Uninterruptible,
}

/// A [`kernel::sync::Completion`] that adds waits that a signal ends.
///
/// # Invariants
///
/// `inner` is initialised.
#[pin_data]
pub(crate) struct Completion {
    #[pin]
    inner: Opaque<bindings::completion>,
}

// SAFETY: a `struct completion` belongs to no thread.
unsafe impl Send for Completion {}

// SAFETY: a `struct completion` has a lock of its own.
unsafe impl Sync for Completion {}

impl Completion {
    /// Returns an initialiser of a completion that is not complete.
    pub(crate) fn new() -> impl PinInit<Self> {
        // INVARIANT: `init_completion()` initialises it.
        pin_init!(Self {
            inner <- Opaque::ffi_init(|inner| {
                // SAFETY: `inner` may be written, and stays where it is.
                unsafe { bindings::init_completion(inner) }
            }),
        })
    }

    /// Completes it for all waiters, now and later.
    ///
    /// Context: any.
    pub(crate) fn complete_all(&self) {
        // SAFETY: `inner` is initialised by the type invariants.
        unsafe { bindings::complete_all(self.inner.get()) };
    }

    /// Waits until it is complete.
    ///
    /// Context: process context, sleeps.
    ///
    /// # Errors
    ///
    /// - `EINTR`: a signal came that ends this kind of wait.
    pub(crate) fn wait(&self, wait: Wait) -> Result {
        let inner = self.inner.get();
        let error = match wait {
            Wait::Interruptible => {
                fail::at(Point::wait_for_completion_interruptible)?;
                // SAFETY: `inner` is initialised by the type invariants.
                unsafe { bindings::wait_for_completion_interruptible(inner) }
            }
            Wait::Killable => {
                fail::at(Point::wait_for_completion_killable)?;
                // SAFETY: `inner` is initialised by the type invariants.
                unsafe { bindings::wait_for_completion_killable(inner) }
            }
            Wait::Uninterruptible => {
                // SAFETY: `inner` is initialised by the type invariants.
                unsafe { bindings::wait_for_completion(inner) };
                0
            }
        };
        // C returns `ERESTARTSYS`, which is for system calls that can be restarted.
        to_result(error).map_err(|_| EINTR)
    }
}
