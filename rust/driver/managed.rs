// SPDX-License-Identifier: GPL-2.0

//! Values without a lifetime that end with the binding all the same, any number of them.
//!
//! Files and other objects that user space refers to can outlive the binding of the driver, and so
//! own what has no lifetime of it. [`Managed`] is such a value: dropped with its owner, and at the
//! latest when the driver is unbound, also if the owner was leaked.
//!
//! ```text
//!   device -- devres: one resource --> List <--- Managed: its owner, in a file
//!                                      value     dropped in a few steps, whatever else is there
//!                                      value
//! ```
//!
//! It is what a [`Devres`](kernel::devres::Devres) is for a value that nobody looks at. But all
//! values of a device are in one list, which is one managed resource, and are dropped together as
//! that is released. Of [`Devres`](kernel::devres::Devres) each is a resource of its own, whose
//! release takes a grace period of RCU: user space, which can have thousands, would keep the driver
//! from being unbound for minutes.
//!
//! C header: [`include/linux/device/devres.h`](srctree/include/linux/device/devres.h)

use super::list::{
    Entry,
    List, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    alloc::Flags,
    bindings,
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    }, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    raw, //
};

/// Owner of a value that is dropped with this, and at the latest when the driver is unbound.
///
/// Those that are left then are dropped after the scope of the binding has ended, the newest first,
/// and before the older ones of the device's managed resources are released: those that were there
/// when the device got its first such value.
///
/// When this is dropped the value has been dropped, also where that was by the unbind.
///
/// Dropping one takes a lock that all of a device have in common, but not while a value is dropped:
/// that may sleep, and may drop others.
///
/// # Invariants
///
/// `entry` was added to `list`, and has no other owner.
pub struct Managed {
    entry: Arc<Entry>,
    list: Arc<List>,
}

impl Managed {
    /// Registers `value` for `dev`.
    ///
    /// Context: process context, sleeps. The value may be dropped by the thread that unbinds the
    /// device.
    ///
    /// # Errors
    ///
    /// The value has been dropped.
    ///
    /// - `ENODEV`: the device is being unbound.
    /// - `ENOMEM`: no memory.
    pub fn new<T: Send + 'static>(dev: &Device<Bound>, value: T, flags: Flags) -> Result<Self> {
        let list = list_of(dev)?;
        // INVARIANT: just added; this is the owner.
        Ok(Self {
            entry: list.add(value, flags)?,
            list,
        })
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        // SAFETY: by the type invariants `entry` was added to `list`, and this is its only owner,
        // with a share of it.
        unsafe { self.list.end(NonNull::from(&*self.entry)) };
    }
}

/// The data of a device's managed resource: a share of the list, from [`Arc::into_raw`].
type Resource = *const List;

/// Returns the list of `dev`, which is closed as the driver is unbound.
///
/// Not inlined: the one address of [`release`] says which resource it is.
///
/// # Errors
///
/// - `ENOMEM`: no memory.
#[inline(never)]
fn list_of(dev: &Device<Bound>) -> Result<Arc<List>> {
    let dev = raw::device(dev);
    // SAFETY: the device is valid.
    let mut resource = unsafe { bindings::devres_find(dev, Some(release), None, ptr::null_mut()) };
    if resource.is_null() {
        resource = add_list(dev)?;
    }
    // SAFETY: the resource is of `release`, and so has a `Resource`. The device is bound, so that
    // it is not released before this returns.
    let list = unsafe { ArcBorrow::from_raw(*resource.cast::<Resource>()) };
    Ok(list.into())
}

/// Gives a device its list, unless it has got one meanwhile. Returns the resource.
fn add_list(dev: *mut bindings::device) -> Result<*mut c_void> {
    let list = List::new_shared()?;
    fail::at(Point::devres_add)?;
    // SAFETY: `release` may be called with such a resource that was filled in.
    let resource = unsafe {
        bindings::__devres_alloc_node(
            Some(release),
            size_of::<Resource>(),
            bindings::GFP_KERNEL,
            bindings::NUMA_NO_NODE,
            c"phyr_driver::managed".as_char_ptr(),
        )
    };
    let new = NonNull::new(resource).ok_or(ENOMEM)?;
    // SAFETY: the resource has room for it.
    unsafe { new.cast::<Resource>().write(Arc::into_raw(list.clone())) };
    // SAFETY: the device is valid, and bound; `new` was filled in, and is in no list. It is freed
    // if there is one.
    let resource = unsafe { bindings::devres_get(dev, new.as_ptr(), None, ptr::null_mut()) };
    if resource != new.as_ptr() {
        // SAFETY: the share that was in the resource was freed with it, unreleased.
        drop(unsafe { Arc::from_raw(Arc::as_ptr(&list)) });
    }
    Ok(resource)
}

/// # Safety
///
/// `resource` is one that [`add_list`] has added, and is released.
unsafe extern "C" fn release(_dev: *mut bindings::device, resource: *mut c_void) {
    // SAFETY: `add_list` has put the share there, which is taken out once.
    let list = unsafe { Arc::from_raw(*resource.cast::<Resource>()) };
    list.close();
}
