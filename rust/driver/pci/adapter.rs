// SPDX-License-Identifier: GPL-2.0

//! A [`Driver`] as the PCI core calls it: its registration, and its callbacks.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use super::{
    recovery::{
        ChannelState,
        Recovery, //
    },
    Driver, //
};
use crate::{
    list::List,
    scope::Scope, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::offset_of,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Core,
        CoreInternal,
        Device, //
    },
    device_id::RawDeviceIdIndex,
    driver,
    error::{
        from_result,
        to_result, //
    },
    pci,
    prelude::*,
    types::Opaque, //
};
use phyr::raw;

/// The driver's data of a bound device, and what is registered in its scope.
///
/// The driver core drops this too late: the device's IOMMU group may have been given to somebody
/// else by then (`bus->dma_cleanup`). So `remove()` takes out what is in it.
///
/// # Invariants
///
/// The value is accessed with the device's lock held, through a [`Called`].
#[doc(hidden)]
pub struct BoundData<T: Driver>(UnsafeCell<Option<Parts<T>>>);

// SAFETY: `Driver::Data` may be sent, and so may a `List`.
unsafe impl<T: Driver> Send for BoundData<T> {}

/// Data and scope of a bound device. The order of the fields is that of the teardown.
///
/// # Invariants
///
/// `data` was made with a scope of `list`.
struct Parts<T: Driver> {
    data: Pin<KBox<T::Data<'static>>>,
    /// Its drop ends the scope.
    _list: Pin<KBox<List>>,
}

impl<T: Driver> Parts<T> {
    /// Probes the device.
    fn new(pdev: &pci::Device<CoreInternal<'_>>, info: Option<&'static T::IdInfo>) -> Result<Self> {
        T::dma(pdev, info)?.apply(pdev)?;

        let list = List::new()?;
        let bound: &pci::Device<Bound> = pdev;
        // SAFETY: `list` is closed when its box is dropped: below, if the probe fails, or else in
        // `remove()`, before managed resources are released. The device is bound until then.
        // `T::probe` takes any lifetime, and so knows none that is longer.
        let scope: Scope<'static> = unsafe { Scope::new(NonNull::from(&*list), bound.as_ref()) };
        // SAFETY: the device is valid, and bound, until the scope ends. That its core context ends
        // with the call is not seen in a lifetime, here as with the kernel's own drivers: such a
        // reference can neither be sent nor be taken for one of a lifetime that is named.
        let core: &'static pci::Device<Core<'static>> =
            unsafe { NonNull::from(pdev).cast().as_ref() };
        let data = KBox::pin_init(T::probe(scope, core, info), GFP_KERNEL)?;
        // INVARIANT: `data` was made with `scope`, which is of `list`.
        Ok(Self { data, _list: list })
    }
}

/// A device in a callback of the PCI core, between `probe()` and unbind.
///
/// # Invariants
///
/// The device's lock is held for `'a`, and there is no other `Called` of the device: callbacks of
/// one device do not nest.
struct Called<'a, T: Driver> {
    pdev: &'a pci::Device<CoreInternal<'a>>,
    held: &'a BoundData<T>,
}

impl<'a, T: Driver + 'static> Called<'a, T> {
    /// Returns `None` if the device has no data.
    ///
    /// # Safety
    ///
    /// The PCI core has called back with `pdev`, a device of the driver `T`, and holds its lock
    /// until the callback returns, which is after `'a`. This is called once in a callback.
    unsafe fn new(pdev: *mut bindings::pci_dev) -> Option<Self> {
        // SAFETY: the PCI core has called back with `pdev`, which is valid, and in the core's
        // context, for `'a`; the type is a transparent wrapper.
        let pdev = unsafe { &*pdev.cast::<pci::Device<CoreInternal<'a>>>() };
        let dev: &Device<CoreInternal<'a>> = pdev.as_ref();
        // SAFETY: `dev` is valid.
        if unsafe { bindings::dev_get_drvdata(raw::device(dev)) }.is_null() {
            return None;
        }
        // SAFETY: the data is there, so `probe()` has set it, to a `BoundData<T>`. It stays until
        // the device is unbound, for which its lock is needed.
        let held = unsafe { dev.drvdata_borrow::<BoundData<T>>() };
        // INVARIANT: the caller promises that the lock is held for `'a`, and that this is the only
        // call in this callback.
        Some(Self {
            pdev,
            held: held.get_ref(),
        })
    }

    /// Calls `f` with the driver's data, if it has not been taken yet.
    fn with<R>(
        &self,
        f: impl FnOnce(&pci::Device<Core<'_>>, Pin<&T::Data<'static>>) -> R,
    ) -> Option<R> {
        // SAFETY: by the type invariants of `BoundData` and `Called` nobody else accesses the
        // value, and `self` is borrowed, so that `take()` is not called, until `f` has returned.
        let parts = unsafe { &*self.held.0.get() };
        parts
            .as_ref()
            .map(|parts| f(self.pdev, parts.data.as_ref()))
    }

    /// Takes out data and scope.
    fn take(&mut self) -> Option<Parts<T>> {
        // SAFETY: by the type invariants of `BoundData` and `Called` nobody else accesses the
        // value, and `self` is borrowed mutably, so that `with()` is not running.
        unsafe { (*self.held.0.get()).take() }
    }
}

/// Registers a [`Driver`] with the PCI core; see [`module_pci_driver!`](crate::module_pci_driver).
#[doc(hidden)]
pub struct Adapter<T>(PhantomData<T>);

// SAFETY: `pci_driver` is a `repr(C)` type that has a `device_driver` at this offset; `probe`
// stores a `BoundData<T>` as the device's data.
unsafe impl<T: Driver + 'static> driver::DriverLayout for Adapter<T> {
    type DriverType = bindings::pci_driver;
    type DriverData<'bound> = BoundData<T>;
    const DEVICE_DRIVER_OFFSET: usize = offset_of!(Self::DriverType, driver);
}

// SAFETY: `unregister` undoes one `register`.
unsafe impl<T: Driver + 'static> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        reg: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        // SAFETY: `reg` is not registered yet: nobody else uses it.
        let pdrv = unsafe { &mut *reg.get() };
        pdrv.name = name.as_char_ptr();
        pdrv.probe = Some(Self::probe);
        pdrv.remove = Some(Self::remove);
        pdrv.id_table = T::ID_TABLE.as_ptr();
        pdrv.err_handler = &Self::ERROR_HANDLERS;
        if T::HAS_SHUTDOWN {
            pdrv.shutdown = Some(Self::shutdown);
        }
        // SAFETY: `pdrv` is filled in, and the caller keeps `reg` pinned until it is unregistered.
        to_result(unsafe {
            bindings::__pci_register_driver(pdrv, module.as_ptr(), name.as_char_ptr())
        })
    }

    unsafe fn unregister(reg: &Opaque<Self::DriverType>) {
        // SAFETY: the caller promises that `reg` was registered by `register()`.
        unsafe { bindings::pci_unregister_driver(reg.get()) };
    }
}

impl<T: Driver + 'static> Adapter<T> {
    /// The error handlers that the driver implements; those of other events are null.
    const ERROR_HANDLERS: bindings::pci_error_handlers = bindings::pci_error_handlers {
        error_detected: if T::HAS_ERROR_DETECTED {
            Some(Self::error_detected)
        } else {
            None
        },
        mmio_enabled: None,
        slot_reset: if T::HAS_SLOT_RESET {
            Some(Self::slot_reset)
        } else {
            None
        },
        reset_prepare: if T::HAS_RESET_PREPARE {
            Some(Self::reset_prepare)
        } else {
            None
        },
        reset_done: if T::HAS_RESET_DONE {
            Some(Self::reset_done)
        } else {
            None
        },
        resume: if T::HAS_RESUME {
            Some(Self::resume)
        } else {
            None
        },
        cor_error_detected: None,
    };

    /// # Safety
    ///
    /// Only for the PCI core to call, with a device that it binds to the driver, and its entry in
    /// the driver's table.
    unsafe extern "C" fn probe(
        pdev: *mut bindings::pci_dev,
        id: *const bindings::pci_device_id,
    ) -> c_int {
        // SAFETY: `pdev` is valid, and in the core's context, during the call; the type is a
        // transparent wrapper.
        let pdev = unsafe { &*pdev.cast::<pci::Device<CoreInternal<'_>>>() };
        // SAFETY: `id` is an entry of `T::ID_TABLE`, whose data is a reference to `T::IdInfo`, or
        // has none; the type is a transparent wrapper.
        let info = unsafe { (*id.cast::<pci::DeviceId>()).info_unchecked_opt::<T::IdInfo>() };
        from_result(|| {
            // INVARIANT: nobody else has it yet.
            let held = BoundData::<T>(UnsafeCell::new(Some(Parts::new(pdev, info)?)));
            // If there is no memory the data is dropped, and the scope ends.
            pdev.as_ref().set_drvdata(Ok::<_, Error>(held))?;
            if T::HAS_SLOT_RESET {
                // SAFETY: `pdev` is valid, and in the core's context during the call.
                unsafe { bindings::pci_save_state(raw::pci_device(pdev)) };
            }
            Ok(0)
        })
    }

    /// Calls `f` with the device, and the driver's data if there is any.
    ///
    /// # Safety
    ///
    /// Those of [`Called::new`].
    unsafe fn with<R>(
        pdev: *mut bindings::pci_dev,
        f: impl FnOnce(&pci::Device<Core<'_>>, Pin<&T::Data<'static>>) -> R,
    ) -> Option<R> {
        // SAFETY: the caller promises that `pdev` is the device of a callback of the PCI core,
        // during which its lock is held, and that this is the only call in it.
        unsafe { Called::<T>::new(pdev) }?.with(f)
    }

    /// # Safety
    ///
    /// Only for the PCI core to call, with a device that `probe()` has bound and its lock held.
    unsafe extern "C" fn remove(pdev: *mut bindings::pci_dev) {
        // SAFETY: the PCI core passes a device of the driver, and holds its lock during the call.
        let Some(mut called) = (unsafe { Called::<T>::new(pdev) }) else {
            return;
        };
        if T::HAS_UNBIND {
            called.with(|pdev, data| T::unbind(pdev, data));
        }
        // The data, and then the scope.
        drop(called.take());
    }

    /// # Safety
    ///
    /// Only for the PCI core to call, with a device of the driver and its lock held.
    unsafe extern "C" fn shutdown(pdev: *mut bindings::pci_dev) {
        // SAFETY: the PCI core passes a device of the driver, and holds its lock during the call.
        unsafe { Self::with(pdev, |pdev, data| T::shutdown(pdev, data)) };
    }

    /// # Safety
    ///
    /// Only for the PCI core to call, with a device of the driver and its lock held.
    unsafe extern "C" fn reset_prepare(pdev: *mut bindings::pci_dev) {
        // SAFETY: the PCI core passes a device of the driver, and holds its lock during the call.
        unsafe { Self::with(pdev, |pdev, data| T::reset_prepare(pdev, data)) };
    }

    /// # Safety
    ///
    /// Only for the PCI core to call, with a device of the driver and its lock held.
    unsafe extern "C" fn reset_done(pdev: *mut bindings::pci_dev) {
        // SAFETY: the PCI core passes a device of the driver, and holds its lock during the call.
        unsafe { Self::with(pdev, |pdev, data| T::reset_done(pdev, data)) };
    }

    /// # Safety
    ///
    /// Only for the PCI core to call, with a device of the driver and its lock held.
    unsafe extern "C" fn resume(pdev: *mut bindings::pci_dev) {
        // SAFETY: the PCI core passes a device of the driver, and holds its lock during the call.
        unsafe { Self::with(pdev, |pdev, data| T::resume(pdev, data)) };
    }

    /// # Safety
    ///
    /// Only for the PCI core to call, with a device of the driver and its lock held.
    unsafe extern "C" fn error_detected(
        pdev: *mut bindings::pci_dev,
        state: bindings::pci_channel_state_t,
    ) -> bindings::pci_ers_result_t {
        let state = ChannelState::from_raw(state);
        // SAFETY: the PCI core passes a device of the driver, and holds its lock during the call.
        unsafe { Self::with(pdev, |pdev, data| T::error_detected(pdev, data, state)) }
            .unwrap_or(Recovery::Disconnect)
            .into_raw()
    }

    /// # Safety
    ///
    /// Only for the PCI core to call, with a device of the driver and its lock held.
    unsafe extern "C" fn slot_reset(pdev: *mut bindings::pci_dev) -> bindings::pci_ers_result_t {
        // SAFETY: `pdev` is valid, and its lock is held during the call. `probe()` has saved the
        // state.
        unsafe { bindings::pci_restore_state(pdev) };
        // SAFETY: the PCI core passes a device of the driver, and holds its lock during the call.
        unsafe { Self::with(pdev, |pdev, data| T::slot_reset(pdev, data)) }
            .unwrap_or(Recovery::Disconnect)
            .into_raw()
    }
}

/// Declares a kernel module that is one [`Driver`].
///
/// The fields are those of [`kernel::module_pci_driver!`].
#[macro_export]
macro_rules! module_pci_driver {
    ($($f:tt)*) => {
        ::kernel::module_driver!(<T>, $crate::pci::adapter::Adapter<T>, { $($f)* });
    };
}
