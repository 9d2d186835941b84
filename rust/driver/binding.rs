// SPDX-License-Identifier: GPL-2.0

//! The driver's binding to its device, for those who have no lifetime to tell of it.
//!
//! A file can be open for longer than the driver is bound. What its operations need of the bound
//! device they do inside of [`Binding::with`], for which unbinding waits.
//!
//! The device's managed resources (devres) are too late to end that, as they are released one after
//! the other, the newest first: who is handed the device meanwhile could use one that is gone, or
//! register one that nobody releases. A [`Scope`] ends before all that.

use super::{
    bound::Guarded,
    gate::{
        Gate,
        Inside, //
    },
    scope::Scope, //
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

/// Tells whether the driver is bound to its device, and keeps it so for the time of a call.
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
/// The gate is closed before the scope ends for which this was made.
#[pin_data]
pub struct Binding {
    device: ARef<Device>,
    #[pin]
    gate: Gate,
}

impl Binding {
    /// Makes the binding of a scope's device, and the value that ends it.
    ///
    /// It ends when that value is dropped, or else with the scope, also if the value is leaked.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    pub fn new(scope: Scope<'_>) -> Result<(Arc<Self>, BindingOwner<'_>)> {
        let binding = Arc::pin_init(
            try_pin_init!(Self {
                device: (&**scope.device()).into(),
                gate <- Gate::new(),
            }? Error),
            GFP_KERNEL,
        )?;
        // INVARIANT: the guard closes the gate at the end of the scope, or before. If it cannot be
        // made the gate is closed already.
        let owner = BindingOwner {
            _end: Guarded::new(scope, End(binding.clone()))?,
        };
        Ok((binding, owner))
    }

    /// Calls `f` with the device, which stays bound until it returns.
    ///
    /// Context: as `f`; the driver may wait for it as it unbinds.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the driver is not bound any more.
    /// - Those of `f`.
    pub fn with<R>(&self, f: impl FnOnce(&Device<Bound>) -> Result<R>) -> Result<R> {
        let _inside = Inside::new(&self.gate).ok_or(ENODEV)?;
        // SAFETY: by the type invariants the gate is closed, which waits for us, before the scope
        // ends, during all of which the device is bound.
        f(unsafe { self.device.as_bound() })
    }

    /// Returns whether the driver is not bound any more.
    pub fn is_over(&self) -> bool {
        self.gate.is_closed()
    }
}

/// Ends a binding when it is dropped.
struct End(Arc<Binding>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.gate.close();
    }
}

/// Ends a [`Binding`] when it is dropped, which waits for those in [`Binding::with`].
pub struct BindingOwner<'b> {
    _end: Guarded<'b, End>,
}
