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

use super::scope::Scope;
use kernel::{
    build_error,
    device::Core,
    dma::DmaMask,
    error::VTABLE_DEFAULT_ERROR,
    pci::{
        self,
        IdTable, //
    },
    prelude::*, //
};

pub mod adapter;
pub(crate) mod dma;
mod recovery;

pub use self::{
    dma::{
        start_dma,
        stop_dma,
        DmaParameters,
        Enabled, //
    },
    recovery::{
        ChannelState,
        Recovery, //
    }, //
};

/// A driver of PCI devices that do DMA.
///
/// A callback that a driver does not implement is not registered with the PCI core either.
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
    /// Data of an entry of the device table.
    type IdInfo: 'static;

    /// The driver's data of a device. It is dropped when the device is unbound, before the scope
    /// ends.
    type Data<'b>: Send + 'b;

    /// The table of the devices that the driver takes.
    const ID_TABLE: IdTable<Self::IdInfo>;

    /// Returns the DMA mask and the segment limits of a device. Called before [`Driver::probe`],
    /// while nothing can be mapped for the device.
    ///
    /// By default addresses have 32 bits, and a segment has the kernel's limits: 64 KiB that do not
    /// cross 4 GiB.
    ///
    /// # Errors
    ///
    /// An error fails the probe.
    fn dma(_dev: &pci::Device, _info: Option<&Self::IdInfo>) -> Result<DmaParameters> {
        Ok(DmaParameters::new(DmaMask::new::<32>()))
    }

    /// Brings up a device; see [`kernel::pci::Driver::probe`].
    ///
    /// `scope` ends after the returned data was dropped. All that is registered in it is dropped by
    /// then, also if its owner was leaked.
    ///
    /// # Errors
    ///
    /// An error fails the probe; `ENODEV` does so silently.
    fn probe<'b>(
        scope: Scope<'b>,
        pdev: &'b pci::Device<Core<'_>>,
        info: Option<&'b Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'b>, Error> + 'b;

    /// Called before the driver's data is dropped, when the device is unbound.
    ///
    /// Context: process context, may sleep; the device's lock is held.
    fn unbind<'b>(_pdev: &pci::Device<Core<'_>>, _data: Pin<&Self::Data<'b>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called before the device is reset from outside, as by its `reset` file in sysfs: the driver
    /// stops using it, and ends or keeps what is in flight.
    ///
    /// The PCI core resets the device after this has returned. It saves the device's configuration
    /// before the reset, and restores it before [`Driver::reset_done`].
    ///
    /// Context: process context, may sleep; the device's lock is held.
    fn reset_prepare<'b>(_pdev: &pci::Device<Core<'_>>, _data: Pin<&Self::Data<'b>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called after the device was reset, also if the reset failed.
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

    /// Called after the link was reset, if [`Driver::error_detected`] has asked for that. The
    /// device's configuration is as it was after the probe.
    ///
    /// Context: process context, may sleep; the device's lock is held.
    fn slot_reset<'b>(_pdev: &pci::Device<Core<'_>>, _data: Pin<&Self::Data<'b>>) -> Recovery {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when all drivers that an error affects have recovered.
    ///
    /// Context: process context, may sleep; the device's lock is held.
    fn resume<'b>(_pdev: &pci::Device<Core<'_>>, _data: Pin<&Self::Data<'b>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when the machine is shut down or rebooted: the driver stops the device's DMA, and has
    /// it write its cache to the medium.
    ///
    /// The device is not unbound afterwards, and other callbacks may still come.
    ///
    /// Context: process context, may sleep; the device's lock is held.
    fn shutdown<'b>(_pdev: &pci::Device<Core<'_>>, _data: Pin<&Self::Data<'b>>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}
