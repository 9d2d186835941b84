// SPDX-License-Identifier: GPL-2.0

//! PCI drivers that do DMA.
//!
//! [`Driver`] is the kernel's [`kernel::pci::Driver`] with what a driver needs beside it:
//!
//! ```text
//!   dma()      names the DMA mask and the limits of a segment; nothing can be mapped yet
//!     v
//!   probe()    gets a Scope, which lasts until the binding ends
//!     v
//!   reset_prepare(), reset_done(), error_detected(), ..   events from outside; shutdown()
//!     v
//!   unbind()   then the data is dropped, the scope ends, devres is released, in this order
//! ```
//!
//! A driver registers itself with [`module_pci_driver!`](crate::module_pci_driver).
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use super::{
    bindings as helpers,
    scope::{
        List,
        Scope, //
    }, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    build_error,
    device::{
        Bound,
        Core,
        CoreInternal, //
    },
    device_id::RawDeviceIdIndex,
    dma::{
        Device as _,
        DmaMask, //
    },
    driver,
    error::{
        from_result,
        to_result,
        VTABLE_DEFAULT_ERROR, //
    },
    page::PAGE_SIZE,
    pci::{
        self,
        IdTable, //
    },
    prelude::*,
    types::Opaque, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    raw, //
    Limits,
};

/// A driver of PCI devices that do DMA.
///
/// Callbacks that a driver does not implement are not there for the PCI core either: it is told of
/// no reset, for instance, if there is no `reset_prepare()`.
///
/// # Examples
///
/// ```
/// use kernel::{device::Core, dma::DmaMask, pci, prelude::*};
/// use phyr::{Limits, Mapper};
/// use phyr_driver::{pci::{DmaParameters, Driver, Enabled}, scope::Scope};
///
/// struct Example;
///
/// /// Taken down in this order.
/// struct Data<'b> {
///     _enabled: Enabled<'b>,
///     mapper: Mapper<'b>,
/// }
///
/// kernel::pci_device_table!(TABLE, (), [
///     (pci::DeviceId::from_id(pci::Vendor::REDHAT, 0x1234), ()),
/// ]);
///
/// #[vtable]
/// impl Driver for Example {
///     type IdInfo = ();
///     type Data<'b> = Data<'b>;
///     const ID_TABLE: pci::IdTable<()> = &TABLE;
///
///     fn dma(_dev: &pci::Device, _info: Option<&()>) -> Result<DmaParameters> {
///         Ok(DmaParameters::new(DmaMask::new::<64>()))
///     }
///
///     fn probe<'b>(
///         scope: Scope<'b>,
///         pdev: &'b pci::Device<Core<'_>>,
///         _info: Option<&'b ()>,
///     ) -> impl PinInit<Data<'b>, Error> + 'b {
///         let enabled = Enabled::new(scope, pdev)?;
///         Ok(Data {
///             mapper: Mapper::new(scope.device(), Limits::of_device(scope.device()))?,
///             _enabled: enabled,
///         })
///     }
/// }
/// ```
#[vtable]
pub trait Driver {
    /// The type of what the device table says of each device.
    type IdInfo: 'static;

    /// The type of the driver's data of a device.
    ///
    /// It is dropped as the device is unbound, before the scope ends.
    type Data<'b>: Send + 'b;

    /// The table of the devices that the driver takes.
    const ID_TABLE: IdTable<Self::IdInfo>;

    /// Returns what the device's DMA is like. It is asked before [`Driver::probe`], while nothing
    /// can be mapped for the device; if it fails, so does the probe.
    ///
    /// By default addresses have 32 bits, and a segment has the kernel's limits: 64 KiB that do not
    /// cross 4 GiB.
    ///
    /// # Errors
    ///
    /// They fail the probe.
    fn dma(_dev: &pci::Device, _info: Option<&Self::IdInfo>) -> Result<DmaParameters> {
        Ok(DmaParameters::new(DmaMask::new::<32>()))
    }

    /// Brings up a device; see [`kernel::pci::Driver::probe`].
    ///
    /// `scope` ends after the data that this returns was dropped. What is registered in it lives no
    /// longer than that, also where its owner is leaked.
    ///
    /// # Errors
    ///
    /// They fail the probe; `ENODEV` does so silently.
    fn probe<'b>(
        scope: Scope<'b>,
        pdev: &'b pci::Device<Core<'_>>,
        info: Option<&'b Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'b>, Error> + 'b;

    /// Called before the driver's data is dropped, as the device is unbound.
    ///
    /// Context: process context, may sleep; the device's lock is held.
    fn unbind<'b>(_pdev: &pci::Device<Core<'_>>, _data: Pin<&Self::Data<'b>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called before the device is reset from outside, as by its `reset` file in sysfs: the driver
    /// stops using it, and ends or keeps what is in flight.
    ///
    /// The PCI core waits for this to return. It has saved the device's configuration when
    /// [`Driver::reset_done`] is called, and restored it.
    ///
    /// Context: process context, may sleep; the device's lock is held.
    fn reset_prepare<'b>(_pdev: &pci::Device<Core<'_>>, _data: Pin<&Self::Data<'b>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when the device was reset, whether that has worked or not.
    ///
    /// Context: process context, may sleep; the device's lock is held.
    fn reset_done<'b>(_pdev: &pci::Device<Core<'_>>, _data: Pin<&Self::Data<'b>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when the PCI core has seen an error of the device or of its link.
    ///
    /// Context: process context, may sleep; the device's lock is held.
    fn error_detected<'b>(
        _pdev: &pci::Device<Core<'_>>,
        _data: Pin<&Self::Data<'b>>,
        _state: ChannelState,
    ) -> Recovery {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called after the link was reset, where [`Driver::error_detected`] wanted that. The device's
    /// configuration is as it was after the probe.
    ///
    /// Context: process context, may sleep; the device's lock is held.
    fn slot_reset<'b>(_pdev: &pci::Device<Core<'_>>, _data: Pin<&Self::Data<'b>>) -> Recovery {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when all drivers that an error concerns say that they have recovered.
    ///
    /// Context: process context, may sleep; the device's lock is held.
    fn resume<'b>(_pdev: &pci::Device<Core<'_>>, _data: Pin<&Self::Data<'b>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called as the machine is shut down or rebooted: the device is to stop its DMA, and to have
    /// on its medium what it was given.
    ///
    /// Nothing is unbound afterwards, and other callbacks may still come.
    ///
    /// Context: process context, may sleep; the device's lock is held.
    fn shutdown<'b>(_pdev: &pci::Device<Core<'_>>, _data: Pin<&Self::Data<'b>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// State of the connection to a device after an error.
///
/// C: `pci_channel_state_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// The device can be reached.
    Normal,
    /// Nothing gets to the device or from it; a reset may help.
    Frozen,
    /// The device is gone for good.
    Failed,
}

/// Result of a driver's error callback: the recovery that it asks for, or has reached.
///
/// C: `pci_ers_result_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The driver has nothing to say.
    None,
    /// The device can go on without a reset.
    CanRecover,
    /// The link is to be reset.
    NeedReset,
    /// The device is given up.
    Disconnect,
    /// The device works again.
    Recovered,
}

impl Recovery {
    const fn into_raw(self) -> bindings::pci_ers_result_t {
        match self {
            Self::None => bindings::pci_ers_result_PCI_ERS_RESULT_NONE,
            Self::CanRecover => bindings::pci_ers_result_PCI_ERS_RESULT_CAN_RECOVER,
            Self::NeedReset => bindings::pci_ers_result_PCI_ERS_RESULT_NEED_RESET,
            Self::Disconnect => bindings::pci_ers_result_PCI_ERS_RESULT_DISCONNECT,
            Self::Recovered => bindings::pci_ers_result_PCI_ERS_RESULT_RECOVERED,
        }
    }
}

/// DMA mask and segment limits of a device; see [`Driver::dma`].
///
/// The kernel reads all of this again while memory is mapped: bounce buffers, for instance, are
/// copied back by the alignment that holds then. So it is set once, before anything can be mapped.
#[derive(Clone, Copy, Debug)]
pub struct DmaParameters {
    mask: DmaMask,
    limits: Option<Limits>,
}

impl DmaParameters {
    /// Says that the device reaches the addresses of `mask`.
    pub const fn new(mask: DmaMask) -> Self {
        Self { mask, limits: None }
    }

    /// Sets the limits of a segment. Exporters of dma-bufs, which map for the device without asking
    /// its driver, keep to them, too; [`Limits::of_device`] returns them.
    #[must_use]
    pub const fn limits(self, limits: Limits) -> Self {
        Self {
            limits: Some(limits),
            ..self
        }
    }

    /// Sets them for a device that is about to be probed.
    fn apply(&self, pdev: &pci::Device<Core<'_>>) -> Result {
        fail::at(Point::dma_set_mask_and_coherent)?;
        // SAFETY: the device is about to be probed, and its driver has not seen it yet: nobody maps
        // anything for it.
        unsafe { pdev.dma_set_mask_and_coherent(self.mask) }
            .inspect_err(|e| dev_err!(pdev, "DMA mask {:#x}: {:?}\n", self.mask.value(), e))?;
        let Some(limits) = self.limits else {
            return Ok(());
        };
        // The DMA API warns of more, and has no bounce buffer for it.
        // CAST: a page size fits in 64 bits.
        if u64::from(limits.min_align_mask()) >= PAGE_SIZE as u64 {
            dev_err!(
                pdev,
                "bits {:#x} of an address are to be kept, of a page of {} bytes\n",
                limits.min_align_mask(),
                PAGE_SIZE
            );
            return Err(EINVAL);
        }
        let max = u32::try_from(limits.max_segment()).unwrap_or(u32::MAX);
        // CAST: an `unsigned long` is 64 bits wide, where this is built.
        let boundary = limits.boundary_mask() as usize;
        let align = limits.min_align_mask();
        let dev: &kernel::device::Device<Core<'_>> = pdev.as_ref();
        fail::at(Point::dma_set_max_seg_size)?;
        // SAFETY: `dev` is valid. It is about to be probed, and its driver has not seen it yet:
        // nothing is mapped for it.
        if !unsafe {
            helpers::phyr_driver_helper_dma_set_parms(raw::device(dev), max, boundary, align)
        } {
            dev_err!(pdev, "the bus keeps no limits of DMA for its devices\n");
            return Err(EINVAL);
        }
        Ok(())
    }
}

/// The driver's data of a bound device, and what is registered in its scope, until the driver is
/// unbound.
///
/// The driver core drops this when the device's IOMMU group may have been given to somebody else
/// already (`bus->dma_cleanup`). So all that is in it ends before, in `remove()`.
///
/// # Invariants
///
/// It is written to by `remove()` only, which has the device's lock, and read by callbacks that
/// have it as well.
pub struct Held<T: Driver>(UnsafeCell<Option<Parts<T>>>);

// SAFETY: the data may be sent, and so may the list.
unsafe impl<T: Driver> Send for Held<T> {}

/// Holds what a bound device has. The order of the fields is that of the teardown.
///
/// # Invariants
///
/// `data` was made with a scope of `list`.
struct Parts<T: Driver> {
    data: Pin<KBox<T::Data<'static>>>,
    /// Its drop ends the scope.
    _list: Pin<KBox<List>>,
}

/// Registers a [`Driver`] with the PCI core; see [`module_pci_driver!`](crate::module_pci_driver).
pub struct Adapter<T>(PhantomData<T>);

// SAFETY: `pci_driver` is a `repr(C)` type that has a `device_driver` at this offset; `probe`
// stores a `Held<T>` as the device's data.
unsafe impl<T: Driver + 'static> driver::DriverLayout for Adapter<T> {
    type DriverType = bindings::pci_driver;
    type DriverData<'bound> = Held<T>;
    const DEVICE_DRIVER_OFFSET: usize = core::mem::offset_of!(Self::DriverType, driver);
}

// SAFETY: `unregister` undoes one `register`.
unsafe impl<T: Driver + 'static> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        reg: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        // SAFETY: the driver is not registered yet: nobody else uses it.
        let pdrv = unsafe { &mut *reg.get() };
        pdrv.name = name.as_char_ptr();
        pdrv.probe = Some(Self::probe);
        pdrv.remove = Some(Self::remove);
        pdrv.id_table = T::ID_TABLE.as_ptr();
        pdrv.err_handler = &Self::ERROR_HANDLERS;
        if T::HAS_SHUTDOWN {
            pdrv.shutdown = Some(Self::shutdown);
        }
        // SAFETY: it is filled in, and the caller keeps it where it is until it is unregistered.
        to_result(unsafe {
            bindings::__pci_register_driver(pdrv, module.as_ptr(), name.as_char_ptr())
        })
    }

    unsafe fn unregister(reg: &Opaque<Self::DriverType>) {
        // SAFETY: the caller has registered it.
        unsafe { bindings::pci_unregister_driver(reg.get()) };
    }
}

impl<T: Driver + 'static> Adapter<T> {
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
    /// The PCI core calls this with a device that it binds to the driver, and its entry in the
    /// driver's table.
    unsafe extern "C" fn probe(
        pdev: *mut bindings::pci_dev,
        id: *const bindings::pci_device_id,
    ) -> c_int {
        // SAFETY: the device is valid, and the core's, during the call.
        let pdev = unsafe { &*pdev.cast::<pci::Device<CoreInternal<'_>>>() };
        // SAFETY: an entry is one of `T::ID_TABLE`, whose data is a reference to `T::IdInfo`, or
        // has none; the type is a transparent wrapper.
        let info = unsafe { (*id.cast::<pci::DeviceId>()).info_unchecked_opt::<T::IdInfo>() };
        from_result(|| {
            // INVARIANT: nobody else has it yet.
            let held = Held::<T>(UnsafeCell::new(Some(Self::bind(pdev, info)?)));
            // If there is no memory the data is dropped, and the scope ends.
            pdev.as_ref().set_drvdata(Ok::<_, Error>(held))?;
            if T::HAS_SLOT_RESET {
                // SAFETY: the device is valid, and its core context is ours.
                unsafe { bindings::pci_save_state(raw::pci_device(pdev)) };
            }
            Ok(0)
        })
    }

    fn bind(
        pdev: &pci::Device<CoreInternal<'_>>,
        info: Option<&'static T::IdInfo>,
    ) -> Result<Parts<T>> {
        T::dma(pdev, info)?.apply(pdev)?;

        let list = List::new()?;
        let bound: &pci::Device<Bound> = pdev;
        // SAFETY: the list is closed by the drop of its box: below, if the probe fails, or else in
        // `remove()`, before managed resources are released. The device is bound until then.
        // `T::probe` takes any lifetime, and so knows none that is longer.
        let scope: Scope<'static> = unsafe { Scope::new(NonNull::from(&*list), bound.as_ref()) };
        // SAFETY: the device is valid, and bound, until the scope ends. That its core context ends
        // with the call is not seen in a lifetime, here as with the kernel's own drivers: such a
        // reference can neither be sent nor be taken for one of a lifetime that is named.
        let core: &'static pci::Device<Core<'static>> =
            unsafe { NonNull::from(pdev).cast().as_ref() };
        let data = KBox::pin_init(T::probe(scope, core, info), GFP_KERNEL)?;
        // INVARIANT: just made.
        Ok(Parts { data, _list: list })
    }

    /// Calls `f` with the driver's data, if there is any.
    ///
    /// # Safety
    ///
    /// The PCI core has called back with `pdev`, whose lock it holds.
    unsafe fn with<R>(
        pdev: *mut bindings::pci_dev,
        f: impl FnOnce(&pci::Device<Core<'_>>, Pin<&T::Data<'static>>) -> R,
    ) -> Option<R> {
        // SAFETY: the device is valid, and the core's, during the call.
        let pdev = unsafe { &*pdev.cast::<pci::Device<CoreInternal<'_>>>() };
        let dev: &kernel::device::Device<CoreInternal<'_>> = pdev.as_ref();
        // SAFETY: the device is valid.
        if unsafe { bindings::dev_get_drvdata(raw::device(dev)) }.is_null() {
            return None;
        }
        // SAFETY: what `probe` has stored is there until the device is unbound, for which the lock
        // would be held. Any callback takes the data with any lifetime.
        let held = unsafe { dev.drvdata_borrow::<Held<T>>() };
        // SAFETY: nobody writes to it meanwhile, as the device's lock is held.
        let parts = unsafe { &*held.get_ref().0.get() };
        parts.as_ref().map(|parts| f(pdev, parts.data.as_ref()))
    }

    /// # Safety
    ///
    /// The PCI core calls this with a device that `probe` has bound.
    unsafe extern "C" fn remove(pdev: *mut bindings::pci_dev) {
        if T::HAS_UNBIND {
            // SAFETY: the core calls with its device, and holds the lock.
            unsafe { Self::with(pdev, |pdev, data| T::unbind(pdev, data)) };
        }
        // SAFETY: the device is valid, and the core's, during the call.
        let pdev = unsafe { &*pdev.cast::<pci::Device<CoreInternal<'_>>>() };
        let dev: &kernel::device::Device<CoreInternal<'_>> = pdev.as_ref();
        // SAFETY: `probe` has succeeded, and stored it.
        let held = unsafe { dev.drvdata_borrow::<Held<T>>() };
        // SAFETY: the device's lock is held: no callback reads it, and this is the one that writes.
        let parts = unsafe { (*held.get_ref().0.get()).take() };
        // The data, and then the scope.
        drop(parts);
    }

    /// # Safety
    ///
    /// The PCI core calls this with a device of the driver.
    unsafe extern "C" fn shutdown(pdev: *mut bindings::pci_dev) {
        // SAFETY: the core calls with its device, and holds the lock.
        unsafe { Self::with(pdev, |pdev, data| T::shutdown(pdev, data)) };
    }

    /// # Safety
    ///
    /// The PCI core calls this with a device of the driver.
    unsafe extern "C" fn reset_prepare(pdev: *mut bindings::pci_dev) {
        // SAFETY: the core calls with its device, and holds the lock.
        unsafe { Self::with(pdev, |pdev, data| T::reset_prepare(pdev, data)) };
    }

    /// # Safety
    ///
    /// The PCI core calls this with a device of the driver.
    unsafe extern "C" fn reset_done(pdev: *mut bindings::pci_dev) {
        // SAFETY: the core calls with its device, and holds the lock.
        unsafe { Self::with(pdev, |pdev, data| T::reset_done(pdev, data)) };
    }

    /// # Safety
    ///
    /// The PCI core calls this with a device of the driver.
    unsafe extern "C" fn resume(pdev: *mut bindings::pci_dev) {
        // SAFETY: the core calls with its device, and holds the lock.
        unsafe { Self::with(pdev, |pdev, data| T::resume(pdev, data)) };
    }

    /// # Safety
    ///
    /// The PCI core calls this with a device of the driver.
    unsafe extern "C" fn error_detected(
        pdev: *mut bindings::pci_dev,
        state: bindings::pci_channel_state_t,
    ) -> bindings::pci_ers_result_t {
        let state = match state {
            bindings::pci_channel_io_normal => ChannelState::Normal,
            bindings::pci_channel_io_frozen => ChannelState::Frozen,
            _ => ChannelState::Failed,
        };
        // SAFETY: the core calls with its device, and holds the lock.
        unsafe { Self::with(pdev, |pdev, data| T::error_detected(pdev, data, state)) }
            .unwrap_or(Recovery::Disconnect)
            .into_raw()
    }

    /// # Safety
    ///
    /// The PCI core calls this with a device of the driver.
    unsafe extern "C" fn slot_reset(pdev: *mut bindings::pci_dev) -> bindings::pci_ers_result_t {
        // SAFETY: the device is valid, and the core holds its lock. `probe` has saved the state.
        unsafe { bindings::pci_restore_state(pdev) };
        // SAFETY: the core calls with its device, and holds the lock.
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
        ::kernel::module_driver!(<T>, $crate::pci::Adapter<T>, { $($f)* });
    };
}

/// Lets `pdev` master the bus.
///
/// A driver first sees to it that the device does nothing that an earlier one told it to.
///
/// Context: process context, may sleep.
pub fn start_dma(pdev: &pci::Device<Bound>) {
    set_master(pdev, true);
}

/// Ends all DMA of `pdev`, such as that of a device which does not stop when told.
///
/// Context: process context, may sleep.
pub fn stop_dma(pdev: &pci::Device<Bound>) {
    set_master(pdev, false);
}

kernel::sync::global_lock! {
    /// Held while the command register of a device is changed, or may be by the PCI core.
    // SAFETY: `init` is called as this module is loaded, before anybody uses it.
    unsafe(uninit) static COMMAND: Mutex<()> = ();
}

/// Gets the module ready.
///
/// # Safety
///
/// To be called once, before anything else of this file is.
pub(crate) unsafe fn init() {
    // SAFETY: the caller calls this once, before the lock is used.
    unsafe { COMMAND.init() };
}

/// Calls `f`, which has the PCI core change the state of a device, and with it maybe the command
/// register: enabling and disabling the device, and its messages.
///
/// Without the lock a change of that register by [`stop_dma`] could get lost.
pub(crate) fn with_command_locked<R>(f: impl FnOnce() -> R) -> R {
    let _lock = COMMAND.lock();
    f()
}

/// Changes one bit of the command register.
///
/// `pci_set_master()` also writes to a bit field of the `pci_dev`, beside which others write
/// theirs. That needs the device's lock, which a driver cannot take: who unbinds the driver, or
/// resets the device, holds it while it waits for the driver. Nothing reads that field of a device
/// that is no bridge and is not suspended.
///
/// A reset may restore the register as it was before. It has also ended all that the device was
/// told to do.
fn set_master(pdev: &pci::Device<Bound>, on: bool) {
    let pdev = raw::pci_device(pdev);
    // CAST: small constants.
    let (at, bit) = (
        bindings::PCI_COMMAND as c_int,
        bindings::PCI_COMMAND_MASTER as u16,
    );
    let mut command = 0;
    let _lock = COMMAND.lock();
    // SAFETY: `pdev` is bound, and so is valid; the register is one of 16 bits, and `command` may
    // be written. While the device is bound its driver changes the register here, and by what the
    // PCI core does for it, with `COMMAND` locked. A reset may put the old value back, but has
    // ended all DMA.
    unsafe {
        // All ones are no command: the device is gone. No DMA comes from one that cannot be read.
        if bindings::pci_read_config_word(pdev, at, &mut command) == 0 && command != u16::MAX {
            let new = if on { command | bit } else { command & !bit };
            if new != command {
                bindings::pci_write_config_word(pdev, at, new);
            }
        }
    }
}

/// An enabled PCI device; dropping it ends its DMA.
///
/// A driver declares this above all that the device may write to: fields are dropped from top to
/// bottom, and no memory may be freed before the device is off the bus. The device is disabled when
/// the scope ends.
pub struct Enabled<'b> {
    pdev: &'b pci::Device<Bound>,
}

/// Disables a device.
///
/// # Invariants
///
/// The device was enabled once for this.
struct Disable<'b>(&'b pci::Device<Bound>);

impl Drop for Disable<'_> {
    fn drop(&mut self) {
        // SAFETY: the device is valid, and by the type invariants this balances one enabling. A
        // scope in which a device was enabled, for which the caller had its core context, ends in
        // that context: nobody else changes the device's state.
        with_command_locked(|| unsafe { bindings::pci_disable_device(raw::pci_device(self.0)) });
    }
}

impl<'b> Enabled<'b> {
    /// Enables the memory space of `pdev`. It does no DMA before [`Enabled::start_dma`].
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    /// - What `pci_enable_device_mem()` returns.
    pub fn new(scope: Scope<'b>, pdev: &'b pci::Device<Core<'_>>) -> Result<Self> {
        fail::at(Point::pci_enable_device_mem)?;
        with_command_locked(|| pdev.enable_device_mem())?;
        // INVARIANT: it was just enabled.
        scope.keep(Disable(pdev))?;
        Ok(Self { pdev })
    }

    /// Maps the memory region `bar`, of `SIZE` bytes at least, and reserves it for `name`.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    /// - `EBUSY`: somebody else has the region.
    /// - `EINVAL`: there is no such region, or it is shorter.
    pub fn iomap_region_sized<const SIZE: usize>(
        &self,
        bar: u32,
        name: &'static CStr,
    ) -> Result<pci::Bar<'b, SIZE>> {
        fail::at(Point::pci_iomap)?;
        self.pdev.iomap_region_sized(bar, name)
    }

    /// Lets the device master the bus; see [`start_dma`].
    ///
    /// Context: process context, may sleep.
    pub fn start_dma(&self) {
        start_dma(self.pdev);
    }

    /// Ends all DMA of the device; see [`stop_dma`].
    ///
    /// Context: process context, may sleep.
    pub fn stop_dma(&self) {
        stop_dma(self.pdev);
    }
}

impl Drop for Enabled<'_> {
    fn drop(&mut self) {
        self.stop_dma();
    }
}
