// SPDX-License-Identifier: GPL-2.0

//! An event that an interrupt tells of, and that somebody waits for, though not for ever.
//!
//! The kernel crate's [`Completion`](kernel::sync::Completion) has no timeout, and happens once.
//!
//! C header: [`include/linux/completion.h`](srctree/include/linux/completion.h)

use kernel::{
    bindings,
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

/// An event that may happen many times. Each is waited for once.
///
/// # Examples
///
/// ```
/// use kernel::{irq::{Handler, IrqReturn}, prelude::*, sync::Arc};
/// use phyr_driver::event::Event;
///
/// struct Interrupt(Arc<Event>);
///
/// impl Handler for Interrupt {
///     fn handle(&self) -> IrqReturn {
///         self.0.signal();
///         IrqReturn::Handled
///     }
/// }
///
/// fn transfer(done: &Event, start: impl FnOnce()) -> Result {
///     start();
///     done.wait(1000)
/// }
/// ```
///
/// # Invariants
///
/// `completion` is initialised.
#[pin_data]
pub struct Event {
    #[pin]
    completion: Opaque<bindings::completion>,
}

// SAFETY: a completion belongs to no thread.
unsafe impl Send for Event {}

// SAFETY: a completion has a lock of its own.
unsafe impl Sync for Event {}

impl Event {
    /// An event that has not happened.
    pub fn new() -> impl PinInit<Self> {
        // INVARIANT: it is initialised here.
        pin_init!(Self {
            completion <- Opaque::ffi_init(|completion| {
                // SAFETY: the memory is there, and does not move any more.
                unsafe { bindings::init_completion(completion) }
            }),
        })
    }

    /// It has happened; wakes one of those who wait, or the next one.
    ///
    /// Context: any.
    pub fn signal(&self) {
        // SAFETY: by the type invariant.
        unsafe { bindings::complete(self.completion.get()) };
    }

    /// Waits until it has happened once more than was waited for, or `timeout` milliseconds.
    ///
    /// Context: process context, sleeps; no signal ends it.
    ///
    /// # Errors
    ///
    /// - `ETIMEDOUT`: it has not happened in that time. It may still.
    pub fn wait(&self, timeout: Msecs) -> Result {
        fail::at(Point::wait_for_completion_timeout)?;
        // SAFETY: by the type invariant.
        let left = unsafe {
            bindings::wait_for_completion_timeout(self.completion.get(), msecs_to_jiffies(timeout))
        };
        if left == 0 {
            return Err(ETIMEDOUT);
        }
        Ok(())
    }
}

#[kunit_tests(phyr_event)]
mod tests {
    use super::*;

    #[test]
    fn each_is_waited_for_once() -> Result {
        let event = KBox::pin_init(Event::new(), GFP_KERNEL)?;
        assert_eq!(event.wait(1), Err(ETIMEDOUT));
        event.signal();
        event.signal();
        assert_eq!(event.wait(0), Ok(()));
        assert_eq!(event.wait(1000), Ok(()));
        assert_eq!(event.wait(1), Err(ETIMEDOUT));
        Ok(())
    }
}
