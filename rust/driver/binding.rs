// SPDX-License-Identifier: GPL-2.0

//! The bound device, for objects that may outlive the binding.
//!
//! A file can be open for longer than the driver is bound. Its operations use the bound device
//! inside of [`Binding::with`], for which unbinding waits.
//!
//! A [`Devres`](kernel::devres::Devres) would end too late for that: managed resources are released
//! one after the other, so a user could still be handed the device when some are gone, or register
//! one that nobody releases. A [`Scope`] ends before all of them.

use super::{
    scope::{
        Registration,
        Scope, //
    },
    users::Users, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// A device, which can be used as a bound one for as long as its driver is bound.
///
/// # Examples
///
/// ```
/// use kernel::prelude::*;
/// use phyr_driver::binding::Binding;
///
/// /// Of a file that may be open for longer than the driver is bound.
/// fn ioctl(binding: &Binding) -> Result {
///     binding.with(|dev| {
///         dev_info!(dev, "still here\n");
///         Ok(())
///     })
/// }
/// ```
///
/// # Invariants
///
/// `users` is drained before the scope ends for which this was made.
#[pin_data]
pub struct Binding {
    device: ARef<Device>,
    #[pin]
    users: Users,
}

impl Binding {
    /// Makes the binding of a scope's device, and the value that ends it.
    ///
    /// It ends when that value is dropped, or else with the scope.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the scope is ending.
    /// - `ENOMEM`: no memory.
    pub fn new(scope: Scope<'_>) -> Result<(Arc<Self>, BindingOwner<'_>)> {
        let binding = Arc::pin_init(
            try_pin_init!(Self {
                device: (&**scope.device()).into(),
                users <- Users::new(),
            }? Error),
            GFP_KERNEL,
        )?;
        // INVARIANT: `BindingEnd` drains the users at the end of the scope, or before. If it cannot
        // be registered they are drained already.
        let owner = scope.register(BindingEnd(binding.clone()))?;
        Ok((binding, owner))
    }

    /// Calls `f` with the device, which stays bound until it returns.
    ///
    /// Context: that of `f`; the end of the binding waits for it.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the driver is not bound any more.
    /// - Those of `f`.
    pub fn with<R>(&self, f: impl FnOnce(&Device<Bound>) -> Result<R>) -> Result<R> {
        let _user = self.users.tryget().ok_or(ENODEV)?;
        // SAFETY: the device is bound until the scope ends. By the type invariants that comes after
        // `users` was drained, which waits for `_user`.
        f(unsafe { self.device.as_bound() })
    }

    /// Returns whether the binding is ending, or has ended.
    pub fn is_over(&self) -> bool {
        self.users.is_dying()
    }
}

/// Ends a [`Binding`] when it is dropped, or else with the scope. Waits for those in
/// [`Binding::with`].
pub type BindingOwner<'b> = Registration<'b, BindingEnd>;

/// The value behind a [`BindingOwner`].
pub struct BindingEnd(Arc<Binding>);

impl Drop for BindingEnd {
    fn drop(&mut self) {
        self.0.users.drain();
    }
}
