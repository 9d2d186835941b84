// SPDX-License-Identifier: GPL-2.0

//! The driver's binding to its device, for those who have no lifetime to tell of it.
//!
//! A file can be open for longer than the driver is bound. What its operations need of the bound
//! device they do inside of [`Binding::with`], for which unbinding waits.

use super::gate::{
    Gate,
    Inside, //
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
use phyr::bound::Guarded;

/// Whether the driver is bound to its device.
///
/// # Examples
///
/// ```
/// use kernel::prelude::*;
/// use phyr_blk::Binding;
///
/// /// Of a file that may be open for longer than the driver is bound.
/// fn ioctl(binding: &Binding) -> Result {
///     binding.with(|dev| {
///         dev_info!(dev, "still here\n");
///         Ok(())
///     })
/// }
/// ```
#[pin_data]
pub struct Binding {
    device: ARef<Device>,
    #[pin]
    gate: Gate,
}

impl Binding {
    /// The binding to `device`, and the value that ends it.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    pub fn new<'bound>(device: &'bound Device<Bound>) -> Result<(Arc<Self>, BindingOwner<'bound>)> {
        let binding = Arc::pin_init(
            try_pin_init!(Self {
                device: (&**device).into(),
                gate <- Gate::new(),
            }? Error),
            GFP_KERNEL,
        )?;
        let end = End(binding.clone());
        // SAFETY: the value refers to nothing.
        let owner = BindingOwner(unsafe { Guarded::new(device, end) }?);
        Ok((binding, owner))
    }

    /// Calls `f` with the device, which stays bound until it returns.
    ///
    /// Context: as `f`; the driver may wait for it as it unbinds.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the driver is not bound any more.
    /// - What `f` returns.
    pub fn with<R>(&self, f: impl FnOnce(&Device<Bound>) -> Result<R>) -> Result<R> {
        let _inside = Inside::new(&self.gate).ok_or(ENODEV)?;
        // SAFETY: the end of the binding closes the gate, and so waits for us, before the device is
        // unbound: at the latest when its resources are released.
        f(unsafe { self.device.as_bound() })
    }

    /// Whether the driver is not bound any more.
    pub fn is_over(&self) -> bool {
        self.gate.is_closed()
    }
}

struct End(Arc<Binding>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.gate.close();
    }
}

/// Ends a [`Binding`] when it is dropped, which waits for those in [`Binding::with`]. It is dropped
/// before the device unbinds also if it is leaked.
///
/// Drop it no later than the driver's own data: what is registered with the device while its
/// resources are being released already would not be released.
pub struct BindingOwner<'bound>(#[expect(dead_code)] Guarded<'bound, End>);
