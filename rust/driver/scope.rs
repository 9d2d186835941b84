// SPDX-License-Identifier: GPL-2.0

//! The time for which a driver is bound, with a list of what is torn down at its end.
//!
//! An interrupt handler, a disk or a character device is called from outside until it is
//! unregistered. It may borrow only what lives as long, and it must be unregistered even if its
//! owner was leaked: `mem::forget` is safe. A lifetime alone guarantees neither. That of
//! `&'a Device<Bound>` is covariant, so any shorter borrow passes for it, and a lifetime does not
//! make anybody drop a value.
//!
//! A [`Scope`] guarantees both:
//!
//! ```text
//!   begin          'b begins; a list of registrations, empty
//!     |  f(Scope<'b>, ..)      'b is chosen by the library and invariant: what lives for 'b cannot
//!     |                        borrow from the function that registers it
//!     |- Vectors::request()       each registration goes to the end of the list,
//!     |- GenDiskBuilder::build()  and leaves it when its owner is dropped
//!     v
//!   end            what is still in the list is dropped, the newest first; 'b ends
//! ```
//!
//! There are two kinds:
//!
//! - That of a driver's binding, passed to [`pci::Driver::probe`](crate::pci::Driver::probe). It
//!   ends when the device is unbound: after the driver's data was dropped, and before the first of
//!   the device's managed resources (devres) is released.
//! - That of a call, [`scope()`], which ends when the call returns, as with [`std::thread::scope`].
//!
//! [`std::thread::scope`]: https://doc.rust-lang.org/std/thread/fn.scope.html

use super::list::{
    Entry,
    List, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};

/// The time until the end of a binding, or of a call of [`scope()`].
///
/// `'b` is invariant, so that neither a shorter nor a longer time passes for it. A scope is copied
/// freely.
///
/// # Examples
///
/// ```
/// use kernel::{device::{Bound, Device}, prelude::*};
/// use phyr_driver::scope::{scope, Scope};
///
/// struct Callback<'b>(&'b Device<Bound>);
///
/// impl Drop for Callback<'_> {
///     fn drop(&mut self) {
///         dev_info!(self.0, "unregistered, also if it was leaked\n");
///     }
/// }
///
/// fn leak<'b>(scope: Scope<'b>) -> Result {
///     let registration = scope.register(Callback(scope.device()))?;
///     core::mem::forget(registration);
///     Ok(())
/// }
///
/// fn run(dev: &Device<Bound>) -> Result {
///     scope(dev, |scope| leak(scope))
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Scope<'b> {
    list: &'b List,
    dev: &'b Device<Bound>,
    /// Neither covariant nor contravariant.
    _brand: PhantomData<fn(&'b ()) -> &'b ()>,
}

impl<'b> Scope<'b> {
    /// Returns the device, which is bound until the scope ends.
    #[inline]
    pub fn device(self) -> &'b Device<Bound> {
        self.dev
    }

    /// Registers `value` without an owner: it is dropped when the scope ends.
    ///
    /// A [`ScopeGuard`](kernel::types::ScopeGuard) makes that a function that is called then, as
    /// with C's `devm_add_action_or_reset()`.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the scope is ending; the value has been dropped.
    /// - `ENOMEM`: no memory; the value has been dropped.
    pub fn keep<T: Send + 'b>(self, value: T) -> Result {
        self.list.add(value, GFP_KERNEL).map(|_| ())
    }

    /// Registers `value`, which is dropped when the returned [`Registration`] is, or else when the
    /// scope ends.
    ///
    /// Context: process context, may sleep. The value may be dropped by the thread that unbinds
    /// the device.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the scope is ending; the value has been dropped.
    /// - `ENOMEM`: no memory; the value has been dropped.
    pub fn register<T: Send + 'b>(self, value: T) -> Result<Registration<'b, T>> {
        register(self.list, value)
    }

    /// Registers the value that `make` makes, as [`Scope::register`] does. The scope does not begin
    /// to end meanwhile: what was registered before the value is there while it is made, and also
    /// while it is dropped because it cannot be registered any more.
    ///
    /// Context: process context, may sleep. `make` must not wait for the end of the scope.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the scope is ending; `make` was not called, or its value has been dropped.
    /// - `ENOMEM`: no memory; the value has been dropped.
    /// - Those of `make`.
    pub(crate) fn register_with<T: Send + 'b>(
        self,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Registration<'b, T>> {
        let _making = self.list.begin()?;
        self.register(make()?)
    }

    /// Makes the scope of a list.
    ///
    /// # Safety
    ///
    /// - `list` is valid, and `dev` bound to the driver that this is for, until the list was
    ///   [closed](List::close).
    /// - The list is closed before the first of the device's managed resources is released.
    /// - `'b` is chosen by nobody but the caller, who uses nothing of that lifetime after closing
    ///   the list.
    pub(crate) unsafe fn new(list: NonNull<List>, dev: &Device<Bound>) -> Self {
        // SAFETY: the caller promises that `list` is valid, and `dev` bound, until the list was
        // closed, and to use nothing of the lifetime `'b` after that.
        unsafe {
            Self {
                list: list.as_ref(),
                dev: NonNull::from(dev).as_ref(),
                _brand: PhantomData,
            }
        }
    }
}

/// Calls `f` with a scope that ends when `f` has returned.
///
/// The result of `f` cannot refer to the scope. Values that were registered in it and are not
/// dropped by then are dropped now, the newest first, also where `f` has leaked the owner.
///
/// Context: process context, may sleep.
///
/// # Errors
///
/// - `ENOMEM`: no memory; `f` was not called.
/// - Those of `f`.
pub fn scope<R>(dev: &Device<Bound>, f: impl for<'b> FnOnce(Scope<'b>) -> Result<R>) -> Result<R> {
    let list = List::new()?;
    // SAFETY: `list` is a local variable, and `dev` is borrowed, until the list was closed by the
    // next statement. `f` takes any lifetime, and so knows none that is longer; its result has no
    // such lifetime.
    let result = f(unsafe { Scope::new(NonNull::from(&*list), dev) });
    list.close();
    result
}

/// Registers `value` in `list`, which is closed before `'b` ends.
fn register<'b, T: Send + 'b>(list: &'b List, value: T) -> Result<Registration<'b, T>> {
    let entry = list.add(value, GFP_KERNEL)?;
    // INVARIANT: `add()` has put it into the list.
    Ok(Registration {
        entry: NonNull::from(&*entry),
        list,
        _value: PhantomData,
    })
}

/// Owner of a value that is registered in a scope.
///
/// The value is dropped with this, or else when the scope ends: leaking this is harmless.
///
/// The value itself cannot be reached. A reference to it could be taken out of a leaked
/// `Registration` and be used until the scope ends, by something that is torn down after the value.
/// If others need a part of the value, it shares that with them in an
/// [`Arc`](kernel::sync::Arc).
///
/// # Invariants
///
/// `entry` was added to `list`, and has no other owner.
pub struct Registration<'b, T> {
    entry: NonNull<Entry>,
    list: &'b List,
    /// The value may hold what lives for `'b`: neither a longer nor a shorter lifetime passes for
    /// those in `T`.
    _value: PhantomData<&'b mut T>,
}

// SAFETY: `T` may be sent, and the list has a lock.
unsafe impl<T: Send> Send for Registration<'_, T> {}

// SAFETY: a shared reference gives access to nothing.
unsafe impl<T> Sync for Registration<'_, T> {}

impl<T> Drop for Registration<'_, T> {
    fn drop(&mut self) {
        // SAFETY: by the type invariants `entry` was added to `list`, and this is its only owner.
        // It is valid: the list was not closed yet, as it is borrowed until then.
        unsafe { self.list.end(self.entry) };
    }
}

#[kunit_tests(phyr_driver_scope)]
mod tests {
    use super::*;
    use kernel::sync::atomic::{
        ordering::Relaxed,
        Atomic, //
    };

    /// Writes down when it is dropped.
    struct Note<'a>(&'a Atomic<i32>, &'a Atomic<i32>);

    impl Drop for Note<'_> {
        fn drop(&mut self) {
            self.1.store(self.0.fetch_add(1, Relaxed) + 1, Relaxed);
        }
    }

    /// Runs `f` with a list and its lifetime, and closes it.
    fn with_list(f: impl for<'b> FnOnce(&'b List) -> Result) -> Result {
        let list = List::new()?;
        let result = f(&list);
        list.close();
        result
    }

    static COUNT: Atomic<i32> = Atomic::new(0);
    static DROPPED: [Atomic<i32>; 4] = [const { Atomic::new(0) }; 4];

    fn dropped() -> [i32; 4] {
        [0, 1, 2, 3].map(|nr: usize| DROPPED[nr].load(Relaxed))
    }

    #[test]
    fn what_is_leaked_ends_with_the_scope_the_newest_first() -> Result {
        COUNT.store(0, Relaxed);
        DROPPED.iter().for_each(|d| d.store(0, Relaxed));
        with_list(|list| {
            core::mem::forget(register(list, Note(&COUNT, &DROPPED[0]))?);
            let early = register(list, Note(&COUNT, &DROPPED[1]))?;
            core::mem::forget(register(list, Note(&COUNT, &DROPPED[2]))?);
            // An entry of which another is a part.
            let part = register(list, Note(&COUNT, &DROPPED[3]))?;
            core::mem::forget(register(list, part)?);
            assert_eq!(dropped(), [0, 0, 0, 0]);
            drop(early);
            assert_eq!(dropped(), [0, 1, 0, 0]);
            Ok(())
        })?;
        assert_eq!(dropped(), [4, 1, 3, 2]);
        Ok(())
    }

    #[test]
    fn nothing_is_registered_after_the_end() -> Result {
        COUNT.store(0, Relaxed);
        let list = List::new()?;
        list.close();
        let late = register(&list, Note(&COUNT, &DROPPED[0]));
        assert_eq!(late.err(), Some(ENODEV));
        assert_eq!(COUNT.load(Relaxed), 1);
        Ok(())
    }
}
