// SPDX-License-Identifier: GPL-2.0

//! A count of users that can be killed and drained: a percpu_ref, and a completion for its last
//! user.
//!
//! Users are counted on each CPU, so that those on different CPUs share no cache line.
//!
//! ```text
//!   tryget() -> UserGuard     any number of users at the same time
//!   kill()                    tryget() fails from now on, or soon
//!   drain()                   kills, and waits until the last guard is dropped
//! ```
//!
//! C header: [`include/linux/percpu-refcount.h`](srctree/include/linux/percpu-refcount.h)

use super::bindings as helpers;
use core::{
    mem::offset_of,
    ptr, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::{
        atomic::{
            ordering,
            Atomic, //
        },
        rcu,
        Completion, //
    },
    types::Opaque, //
};
use phyr::fail::{
    self,
    Point, //
};

/// A count of users, which is killed once, for good. Dropping it drains it, and so may sleep.
///
/// # Invariants
///
/// `count` is a percpu_ref that was made with one reference, which is given up by whoever sets
/// `dying`. Its release completes `ended`.
#[pin_data(PinnedDrop)]
pub struct Users {
    dying: Atomic<bool>,
    #[pin]
    ended: Completion,
    #[pin]
    count: Opaque<bindings::percpu_ref>,
}

// SAFETY: a percpu_ref belongs to no thread.
unsafe impl Send for Users {}

// SAFETY: all that is done to a percpu_ref through a shared reference is atomic.
unsafe impl Sync for Users {}

impl Users {
    /// Returns an initialiser of a count without users.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    pub fn new() -> impl PinInit<Self, Error> {
        // INVARIANT: `percpu_ref_init()` makes the one reference; nobody has set `dying`.
        try_pin_init!(Self {
            dying: Atomic::new(false),
            ended <- Completion::new(),
            // The last field: if a later one failed it would have to be undone.
            count <- Opaque::try_ffi_init(|count| {
                fail::at(Point::percpu_ref_init)?;
                // SAFETY: `count` may be written, and stays where it is.
                to_result(unsafe {
                    bindings::percpu_ref_init(
                        count,
                        Some(Self::release),
                        0,
                        // User space can make many, such as by registering buffers.
                        bindings::GFP_KERNEL_ACCOUNT,
                    )
                })
            }),
        })
    }

    /// # Safety
    ///
    /// `count` is the field of a [`Users`], and has just lost its last reference.
    unsafe extern "C" fn release(count: *mut bindings::percpu_ref) {
        let offset = offset_of!(Self, count);
        // SAFETY: `count` is the field of a `Users`. That is still there: whoever frees it waits
        // for `ended` first, which is completed below.
        let users = unsafe { &*count.byte_sub(offset).cast::<Self>() };
        users.ended.complete_all();
    }

    /// Adds a user until the guard is dropped. Returns `None` if the count was killed.
    ///
    /// A guard that is leaked makes [`Users::drain`] wait until [`Users::put`] is called for it.
    ///
    /// Context: any.
    #[inline]
    pub fn tryget(&self) -> Option<UserGuard<'_>> {
        fail::at(Point::percpu_ref_tryget_live).ok()?;
        // SAFETY: `count` is initialised by the type invariants.
        let live = unsafe { helpers::phyr_driver_helper_percpu_ref_tryget_live(self.count.get()) };
        // Not `then_some()`, which would make a guard, and drop it, where there is no user.
        live.then(|| UserGuard(self))
    }

    /// Adds a user as [`Users::tryget`] does, in a critical section that the caller is in already.
    ///
    /// Context: any.
    #[inline]
    pub fn tryget_rcu(&self, _rcu: &rcu::Guard) -> Option<UserGuard<'_>> {
        fail::at(Point::percpu_ref_tryget_live).ok()?;
        let count = self.count.get();
        // SAFETY: `count` is initialised by the type invariants, and `_rcu` is a critical section.
        let live = unsafe { helpers::phyr_driver_helper_percpu_ref_tryget_live_rcu(count) };
        live.then(|| UserGuard(self))
    }

    /// Removes a user whose guard was leaked. `users` may be freed by the time this returns.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// `users` is valid, and one guard that [`Users::tryget`] has returned for it was leaked with
    /// [`core::mem::forget`] for this call.
    #[inline]
    pub unsafe fn put(users: *const Self) {
        // A place, not a reference, which would have to be valid until this returns.
        //
        // SAFETY: the caller promises that `users` is valid.
        let count = unsafe { Opaque::cast_into(&raw const (*users).count) };
        // SAFETY: `count` is initialised by the type invariants. The reference that this gives up
        // is that of the guard which the caller has leaked.
        unsafe { helpers::phyr_driver_helper_percpu_ref_put(count) };
    }

    /// Returns whether [`Users::kill`] was called.
    #[inline]
    pub fn is_dying(&self) -> bool {
        self.dying.load(ordering::Relaxed)
    }

    /// Makes [`Users::tryget`] fail, on other CPUs within a grace period of RCU.
    ///
    /// Context: any.
    pub fn kill(&self) {
        if !self.dying.xchg(true, ordering::Full) {
            // SAFETY: `dying` was false until now: by the type invariants the first reference is
            // there, and this call is the one that gives it up.
            unsafe { bindings::percpu_ref_kill_and_confirm(self.count.get(), None) };
        }
    }

    /// Kills the count, and waits until it has no users; also if it was killed before.
    ///
    /// Context: process context, sleeps. The caller must not have a [`UserGuard`] of it.
    pub fn drain(&self) {
        self.kill();
        self.ended.wait_for_completion();
    }
}

#[pinned_drop]
impl PinnedDrop for Users {
    fn drop(self: Pin<&mut Self>) {
        self.drain();
        // SAFETY: `count` is initialised by the type invariants, and `drain()` has waited for its
        // release.
        unsafe { bindings::percpu_ref_exit(self.count.get()) };
    }
}

/// A user of a [`Users`], until it is dropped.
pub struct UserGuard<'a>(&'a Users);

impl Drop for UserGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the count is borrowed, and so valid. `tryget()` made this guard, which is
        // not used again.
        unsafe { Users::put(ptr::from_ref(self.0)) };
    }
}

#[kunit_tests(phyr_driver_users)]
mod tests {
    use super::*;
    use kernel::sync::Arc;

    #[test]
    fn lets_in_until_it_is_closed() -> Result {
        let users = Arc::pin_init(Users::new(), GFP_KERNEL)?;
        let (first, second) = (users.tryget(), users.tryget());
        assert!(first.is_some() && second.is_some());
        assert!(!users.is_dying());
        drop(first);
        users.kill();
        // A failed `tryget()` has nothing to put: the second user is still counted.
        assert!(users.tryget().is_none());
        assert!(users.tryget().is_none());
        drop(second);
        users.drain();
        assert!(users.is_dying());
        assert!(users.tryget().is_none());
        // Again, and once more as it is dropped.
        users.drain();
        Ok(())
    }

    #[test]
    fn can_be_dropped_open() -> Result {
        drop(Arc::pin_init(Users::new(), GFP_KERNEL)?);
        Ok(())
    }
}
