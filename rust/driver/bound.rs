// SPDX-License-Identifier: GPL-2.0

//! Values that are dropped before their scope ends, even if they are leaked.
//!
//! A lifetime keeps a value from being used after the driver's binding to the device has ended. It
//! does not see to it that the value is dropped: `mem::forget` is safe. Where something outside
//! keeps calling into a value until it is dropped (an interrupt handler, a disk), that is not
//! enough. [`Guarded`] drops its value when it is dropped itself, or else when its
//! [`Scope`] ends.

use super::scope::{
    Registered,
    Scope, //
};
use core::marker::PhantomData;
use kernel::prelude::*;

/// A value that is dropped at the latest when its scope ends.
///
/// The value cannot be got at. A reference to it could be taken out of a leaked `Guarded` and live
/// until the scope ends, in something that is torn down after the value is. What others need of the
/// value belongs in a [`kernel::sync::Arc`] of which the value holds a share.
pub struct Guarded<'b, T> {
    _registered: Registered<'b>,
    /// The value may hold what lives for `'b`: it must neither be sent to a longer nor taken for a
    /// shorter life.
    _value: PhantomData<&'b mut T>,
}

// SAFETY: a `Guarded` owns a `T`, which may be sent; the scope's list has a lock.
unsafe impl<T: Send> Send for Guarded<'_, T> {}

// SAFETY: nothing can be done with a shared reference.
unsafe impl<T> Sync for Guarded<'_, T> {}

impl<'b, T: Send + 'b> Guarded<'b, T> {
    /// Registers `value` in `scope`.
    ///
    /// Context: process context, may sleep. The value may be dropped by the thread that unbinds
    /// the device.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory; the value has been dropped.
    pub fn new(scope: Scope<'b>, value: T) -> Result<Self> {
        Ok(Self {
            _registered: scope.register(value)?,
            _value: PhantomData,
        })
    }
}
