// SPDX-License-Identifier: GPL-2.0

//! A gate: many go through it at the same time; closing it waits until the last has left.
//!
//! Who is inside is counted for each CPU, so that those who go in and out on different CPUs share
//! no cache line.
//!
//! C header: [`include/linux/percpu-refcount.h`](srctree/include/linux/percpu-refcount.h)

use super::bindings as own;
use core::ptr;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::{
        atomic::{
            ordering,
            Atomic, //
        },
        Completion, //
    },
    types::Opaque, //
};
use phyr::{
    fail::{
        self,
        Point, //
    }, //
};

/// A gate that is open until it is closed, for good. Dropping it closes it, and so may sleep.
///
/// # Invariants
///
/// `count` is a percpu reference that was made with one reference of its own, which is given up by
/// whoever sets `closed`. Its release completes `empty`.
#[pin_data(PinnedDrop)]
pub struct Gate {
    closed: Atomic<bool>,
    #[pin]
    empty: Completion,
    #[pin]
    count: Opaque<bindings::percpu_ref>,
}

// SAFETY: a percpu reference belongs to no thread.
unsafe impl Send for Gate {}

// SAFETY: what is done to a percpu reference by reference is atomic.
unsafe impl Sync for Gate {}

impl Gate {
    /// An open gate.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    pub fn new() -> impl PinInit<Self, Error> {
        // INVARIANT: the count starts with one reference; nobody closed it.
        try_pin_init!(Self {
            closed: Atomic::new(false),
            empty <- Completion::new(),
            // The last field: what comes after would have to undo it.
            count <- Opaque::try_ffi_init(|count| {
                fail::at(Point::percpu_ref_init)?;
                // SAFETY: the memory is there, and does not move any more.
                to_result(unsafe {
                    bindings::percpu_ref_init(
                        count,
                        Some(Self::release),
                        0,
                        // Some are as many as user space likes.
                        bindings::GFP_KERNEL_ACCOUNT,
                    )
                })
            }),
        })
    }

    /// # Safety
    ///
    /// `count` is that of a [`Gate`], which has just been left by the last.
    unsafe extern "C" fn release(count: *mut bindings::percpu_ref) {
        let offset = core::mem::offset_of!(Self, count);
        // SAFETY: by the safety requirements this is the field of a gate, which lives: who frees it
        // waits for what comes next.
        let gate = unsafe { &*count.byte_sub(offset).cast::<Self>() };
        gate.empty.complete_all();
    }

    /// Goes in, unless the gate is closed; says whether it did. [`Gate::leave`] goes out.
    ///
    /// Context: any.
    #[inline]
    #[must_use]
    pub fn enter(&self) -> bool {
        fail::at(Point::percpu_ref_tryget_live).is_ok()
            // SAFETY: by the type invariants.
            && unsafe { own::phyr_driver_helper_percpu_ref_tryget_live(self.count.get()) }
    }

    /// Goes out. Nobody may refer to the gate any more on behalf of having been inside.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// `gate` is valid, and one [`Gate::enter`] that returned `true` is undone by this.
    #[inline]
    pub unsafe fn leave(gate: *const Self) {
        // A place, not a reference: the gate can be gone before this returns.
        //
        // SAFETY: by the safety requirements.
        let count = unsafe { Opaque::cast_into(&raw const (*gate).count) };
        // SAFETY: as above.
        unsafe { own::phyr_driver_helper_percpu_ref_put(count) };
    }

    /// Whether nobody gets in any more.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(ordering::Relaxed)
    }

    /// Lets nobody in any more, soon.
    ///
    /// Context: any.
    pub fn shut(&self) {
        if !self.closed.xchg(true, ordering::Full) {
            // SAFETY: by the type invariants the count's own reference is there, and it is we who
            // give it up.
            unsafe { bindings::percpu_ref_kill_and_confirm(self.count.get(), None) };
        }
    }

    /// Lets nobody in any more, and waits until all have left. Another call waits, too.
    ///
    /// Context: sleeps. Not from the inside.
    pub fn close(&self) {
        self.shut();
        self.empty.wait_for_completion();
    }
}

#[pinned_drop]
impl PinnedDrop for Gate {
    fn drop(self: Pin<&mut Self>) {
        self.close();
        // SAFETY: by the type invariants it was initialised, and it has been released.
        unsafe { bindings::percpu_ref_exit(self.count.get()) };
    }
}

/// Somebody inside of a gate that is borrowed.
pub(crate) struct Inside<'a>(&'a Gate);

impl<'a> Inside<'a> {
    pub(crate) fn new(gate: &'a Gate) -> Option<Self> {
        // Not `then_some`: a value that is made and not given out would leave when it is dropped.
        gate.enter().then(|| Self(gate))
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // SAFETY: `new` entered it.
        unsafe { Gate::leave(ptr::from_ref(self.0)) };
    }
}

#[kunit_tests(phyr_gate)]
mod tests {
    use super::*;
    use kernel::sync::Arc;

    #[test]
    fn lets_in_until_it_is_closed() -> Result {
        let gate = Arc::pin_init(Gate::new(), GFP_KERNEL)?;
        let (first, second) = (Inside::new(&gate), Inside::new(&gate));
        assert!(first.is_some() && second.is_some());
        assert!(!gate.is_closed());
        drop(first);
        gate.shut();
        // Who is not let in has nothing to leave: the second is still counted.
        assert!(Inside::new(&gate).is_none());
        assert!(Inside::new(&gate).is_none());
        drop(second);
        gate.close();
        assert!(gate.is_closed());
        assert!(Inside::new(&gate).is_none());
        // Again, and once more as it is dropped.
        gate.close();
        Ok(())
    }

    #[test]
    fn can_be_dropped_open() -> Result {
        drop(Arc::pin_init(Gate::new(), GFP_KERNEL)?);
        Ok(())
    }
}
