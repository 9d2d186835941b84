// SPDX-License-Identifier: GPL-2.0

//! The driver's binding to its device, for those who have no lifetime to tell of it.
//!
//! A file can be open for longer than the driver is bound. What its operations need of the bound
//! device they do inside of [`Binding::with`], for which unbinding waits.
//!
//! The device's resources are too late to end that, as they are released one after the other, the
//! newest first: who is handed the device meanwhile could use one that is gone, or register one
//! that nobody releases. The bus tells of the end before all that.
//!
//! C: `BUS_NOTIFY_UNBIND_DRIVER` in
//! [`include/linux/device/bus.h`](srctree/include/linux/device/bus.h).

use super::{
    bound::Guarded,
    fail::{
        self,
        Point, //
    },
    gate::{
        Gate,
        Inside, //
    },
    raw, //
};
use core::mem::offset_of;
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    types::Opaque, //
};

/// Whether the driver is bound to its device.
///
/// # Examples
///
/// ```
/// use kernel::prelude::*;
/// use phyr::binding::Binding;
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
/// `notifier` is filled in, with `notified`. It is registered with the device's bus from before the
/// device's probe had ended until the binding's owner is dropped.
#[pin_data]
pub struct Binding {
    device: ARef<Device>,
    #[pin]
    gate: Gate,
    #[pin]
    notifier: Opaque<bindings::notifier_block>,
}

// SAFETY: a notifier block belongs to no thread.
unsafe impl Send for Binding {}

// SAFETY: only the bus changes the notifier block, under its lock.
unsafe impl Sync for Binding {}

impl Binding {
    /// The binding to `device`, and the value that ends it. Only for a device that is being probed.
    ///
    /// Context: sleeps. Not from inside of [`Binding::with`] of any device of the bus.
    ///
    /// # Errors
    ///
    /// - `EBUSY`: the device was probed already.
    /// - `EINVAL`: the device is on no bus.
    /// - `ENOMEM`: no memory.
    /// - `EOPNOTSUPP`: the kernel is one that unbinds drivers behind the bus's back, for a test
    ///   (`CONFIG_DEBUG_TEST_DRIVER_REMOVE`).
    pub fn new<'bound>(device: &'bound Device<Bound>) -> Result<(Arc<Self>, BindingOwner<'bound>)> {
        if cfg!(CONFIG_DEBUG_TEST_DRIVER_REMOVE) {
            return Err(EOPNOTSUPP);
        }
        let notifier = bindings::notifier_block {
            notifier_call: Some(Self::notified),
            // The first one: no other can keep it from being called.
            priority: c_int::MAX,
            ..pin_init::zeroed()
        };
        let binding = Arc::pin_init(
            try_pin_init!(Self {
                device: (&**device).into(),
                gate <- Gate::new(),
                notifier: Opaque::new(notifier),
            }? Error),
            GFP_KERNEL,
        )?;
        fail::at(Point::bus_register_notifier)?;
        // INVARIANT: registered if this succeeds. If the device was probed before that, its end may
        // have been told of already; then nobody gets to see the binding.
        //
        // SAFETY: a bound device is valid; so is its bus, if any, which C checks. The block is
        // filled in, and stays where it is until `End` has unregistered it.
        to_result(unsafe { bindings::bus_register_notifier(bus(device), binding.notifier.get()) })?;
        let end = End(binding.clone());
        // SAFETY: a bound device is valid.
        if unsafe { bindings::device_is_bound(raw::device(device)) } {
            return Err(EBUSY);
        }
        // SAFETY: the value refers to nothing.
        let owner = BindingOwner(unsafe { Guarded::new(device, end) }?);
        Ok((binding, owner))
    }

    /// # Safety
    ///
    /// `block` is the notifier of a binding, which its bus calls: `what` happened to `device`.
    unsafe extern "C" fn notified(
        block: *mut bindings::notifier_block,
        what: c_ulong,
        device: *mut c_void,
    ) -> c_int {
        // SAFETY: by the safety requirements it is the field of a binding, which `End` holds until
        // the block is unregistered.
        let binding = unsafe { &*block.byte_sub(offset_of!(Self, notifier)).cast::<Self>() };
        // CAST: small constants.
        let is_over = what == bindings::bus_notifier_event_BUS_NOTIFY_UNBIND_DRIVER as c_ulong
            // The probe has failed.
            || what == bindings::bus_notifier_event_BUS_NOTIFY_DRIVER_NOT_BOUND as c_ulong;
        if is_over && device.cast() == raw::device(&binding.device) {
            binding.gate.close();
        }
        // CAST: a small constant.
        bindings::NOTIFY_DONE as c_int
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
        // SAFETY: by the type invariants the bus closes the gate, and so waits for us, before it
        // unbinds the device or releases the first of its resources; or else the owner does.
        f(unsafe { self.device.as_bound() })
    }

    /// Whether the driver is not bound any more.
    pub fn is_over(&self) -> bool {
        self.gate.is_closed()
    }
}

/// The bus that `device` is on, or null.
fn bus(device: &Device) -> *const bindings::bus_type {
    // SAFETY: the device is valid, and was registered: it does not change its bus.
    unsafe { (*raw::device(device)).bus }
}

/// Ends a binding that was registered with its bus.
struct End(Arc<Binding>);

impl Drop for End {
    fn drop(&mut self) {
        let Binding {
            device,
            gate,
            notifier,
        } = &*self.0;
        gate.close();
        // SAFETY: the device is yet to be unbound, or this is a part of it: its bus is there. The
        // block was registered, and the value that is dropped is what unregisters it.
        unsafe { bindings::bus_unregister_notifier(bus(device), notifier.get()) };
    }
}

/// Ends a [`Binding`] when it is dropped, which waits for those in [`Binding::with`].
///
/// The binding ends before the device is unbound also if this is not dropped, or leaked: as the bus
/// begins to unbind it, before the driver is asked.
pub struct BindingOwner<'bound>(#[expect(dead_code)] Guarded<'bound, End>);
