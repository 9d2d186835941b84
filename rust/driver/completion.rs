// SPDX-License-Identifier: GPL-2.0

//! Completions, with waits that a time-out or a signal ends.
//!
//! C header: [`include/linux/completion.h`](srctree/include/linux/completion.h)

use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    time::{
        msecs_to_jiffies,
        Msecs, //
    },
    types::Opaque, //
};
use phyr::fail::{
    self,
    Point, //
};

/// Signals that end a wait early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Any signal: `TASK_INTERRUPTIBLE`.
    Interruptible,
    /// A signal that kills the process: `TASK_KILLABLE`.
    Killable,
    /// No signal: `TASK_UNINTERRUPTIBLE`.
    Uninterruptible,
}

/// A [`kernel::sync::Completion`] that adds waking a single waiter, a time-out, and waits that a
/// signal ends.
///
/// It is not built on that type, which gives no access to its `struct completion`.
///
/// # Examples
///
/// ```
/// use kernel::{irq::{Handler, IrqReturn}, prelude::*, sync::Arc};
/// use phyr_driver::completion::Completion;
///
/// struct Interrupt(Arc<Completion>);
///
/// impl Handler for Interrupt {
///     fn handle(&self) -> IrqReturn {
///         self.0.complete();
///         IrqReturn::Handled
///     }
/// }
///
/// fn transfer(done: &Completion, start: impl FnOnce()) -> Result {
///     start();
///     done.wait_timeout(1000)
/// }
/// ```
///
/// # Invariants
///
/// `inner` is initialised.
#[pin_data]
pub struct Completion {
    #[pin]
    inner: Opaque<bindings::completion>,
}

// SAFETY: a `struct completion` belongs to no thread.
unsafe impl Send for Completion {}

// SAFETY: a `struct completion` has a lock of its own.
unsafe impl Sync for Completion {}

impl Completion {
    /// Returns an initialiser of a completion that is not complete.
    pub fn new() -> impl PinInit<Self> {
        // INVARIANT: `init_completion()` initialises it.
        pin_init!(Self {
            inner <- Opaque::ffi_init(|inner| {
                // SAFETY: `inner` may be written, and stays where it is.
                unsafe { bindings::init_completion(inner) }
            }),
        })
    }

    /// Completes it for one waiter: for one that waits now, or else for the next one.
    ///
    /// Context: any.
    pub fn complete(&self) {
        // SAFETY: `inner` is initialised by the type invariants.
        unsafe { bindings::complete(self.inner.get()) };
    }

    /// Completes it for all waiters, now and later.
    ///
    /// Context: any.
    pub fn complete_all(&self) {
        // SAFETY: `inner` is initialised by the type invariants.
        unsafe { bindings::complete_all(self.inner.get()) };
    }

    /// Waits until it is complete. Consumes one [`complete`](Self::complete).
    ///
    /// Context: process context, sleeps.
    ///
    /// # Errors
    ///
    /// - `EINTR`: a signal came that ends this kind of wait.
    pub fn wait(&self, wait: Wait) -> Result {
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

    /// Waits until it is complete, for at most `timeout` milliseconds. No signal ends the wait.
    /// Consumes one [`complete`](Self::complete).
    ///
    /// Context: process context, sleeps.
    ///
    /// # Errors
    ///
    /// - `ETIMEDOUT`: it is not complete yet. It can still be completed.
    pub fn wait_timeout(&self, timeout: Msecs) -> Result {
        fail::at(Point::wait_for_completion_timeout)?;
        // SAFETY: `inner` is initialised by the type invariants.
        let left = unsafe {
            bindings::wait_for_completion_timeout(self.inner.get(), msecs_to_jiffies(timeout))
        };
        if left == 0 {
            return Err(ETIMEDOUT);
        }
        Ok(())
    }
}

#[kunit_tests(phyr_driver_completion)]
mod tests {
    use super::*;

    #[test]
    fn each_is_waited_for_once() -> Result {
        let done = KBox::pin_init(Completion::new(), GFP_KERNEL)?;
        assert_eq!(done.wait_timeout(1), Err(ETIMEDOUT));
        done.complete();
        done.complete();
        assert_eq!(done.wait_timeout(0), Ok(()));
        assert_eq!(done.wait_timeout(1000), Ok(()));
        assert_eq!(done.wait_timeout(1), Err(ETIMEDOUT));
        Ok(())
    }
}
