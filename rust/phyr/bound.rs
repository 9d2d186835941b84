// SPDX-License-Identifier: GPL-2.0

//! Values that must be dropped before their device unbinds, even if they are leaked.
//!
//! A lifetime keeps a value from being used after the driver's binding to the device has ended. It
//! does not see to it that the value is dropped: `mem::forget` is safe. Where something outside
//! keeps calling into a value until it is dropped (an interrupt handler, a disk), that is not
//! enough. [`Guarded`] drops its value when it is dropped itself, or else when the device unbinds.
//!
//! C: devres, [`drivers/base/devres.c`](srctree/drivers/base/devres.c).

use super::fail::{
    self,
    Point, //
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
    devres::Devres,
    prelude::*, //
};

/// A value that is dropped at the latest when the driver is unbound from its device.
///
/// The value cannot be got at. A reference to it could be taken out of a leaked `Guarded` and live
/// for `'bound`, in something that is torn down after the value is. What others need of the value
/// belongs in an [`Arc`](kernel::sync::Arc) of which the value holds a share.
pub struct Guarded<'bound, T> {
    _entry: Devres<Erased>,
    /// The value may hold what lives for `'bound`: it must neither be sent to a longer nor taken
    /// for a shorter life.
    _p: PhantomData<&'bound mut T>,
}

// SAFETY: a `Guarded` owns a `T`; `Devres` may be sent.
unsafe impl<T: Send> Send for Guarded<'_, T> {}

// SAFETY: nothing can be done with a shared reference.
unsafe impl<T> Sync for Guarded<'_, T> {}

impl<'bound, T: Send + 'bound> Guarded<'bound, T> {
    /// Ties `value` to the binding of `dev`.
    ///
    /// Context: process context, may sleep. The value may be dropped by the thread that unbinds
    /// the device.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory; the value has been dropped.
    ///
    /// # Safety
    ///
    /// What `value` refers to for `'bound` must be valid until the device resources of `dev` that
    /// were registered before this call are released. References to the bound device are, and to
    /// memory that was leaked. A reference that a [`Devres`] gave out which was registered later
    /// is not: where that `Devres` was leaked, too, it is released first.
    pub unsafe fn new(dev: &'bound Device<Bound>, value: T) -> Result<Self> {
        // INVARIANT: the box is leaked here, to be owned by this value, which `Devres` drops even
        // where it cannot be registered.
        let erased = Erased {
            value: NonNull::from(KBox::leak(KBox::new(value, GFP_KERNEL)?)).cast(),
            drop: drop_box::<T>,
        };
        fail::at(Point::devres_add)?;

        Ok(Self {
            _entry: Devres::new(dev, Ok::<_, Error>(erased))?,
            _p: PhantomData,
        })
    }
}

/// A leaked box of some type, which may be shorter-lived than `'static`.
///
/// # Invariants
///
/// `value` was leaked from a box of the type that `drop` is for, and nobody else drops it.
struct Erased {
    value: NonNull<c_void>,
    drop: unsafe fn(NonNull<c_void>),
}

// SAFETY: only values that may be sent are erased, see `Guarded::new`.
unsafe impl Send for Erased {}

// SAFETY: nothing can be done with a shared reference.
unsafe impl Sync for Erased {}

impl Drop for Erased {
    fn drop(&mut self) {
        // SAFETY: by the type invariant. A `Devres` entry is dropped by its owner or as the device
        // unbinds, and in both cases what the value borrows for `'bound` is still there, as who
        // made it has promised.
        unsafe { (self.drop)(self.value) }
    }
}

/// # Safety
///
/// `value` was leaked from a `KBox<T>`, which is not used again.
unsafe fn drop_box<T>(value: NonNull<c_void>) {
    // SAFETY: by the requirements of this function.
    drop(unsafe { KBox::<T>::from_raw(value.cast().as_ptr()) });
}
