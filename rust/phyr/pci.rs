// SPDX-License-Identifier: GPL-2.0

//! A PCI device that is enabled, and may master the bus, for as long as a value lives.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use super::{
    fail::{
        self,
        Point, //
    },
    raw, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Core, //
    },
    devres::DevresLt,
    pci,
    prelude::*,
    types::{
        CovariantForLt,
        ForLt, //
    }, //
};

/// An enabled PCI device; dropping it ends its DMA and disables it.
///
/// A driver declares this above all that the device may write to: fields are dropped from top to
/// bottom, and no memory may be freed before the device is off the bus.
///
/// # Invariants
///
/// The device was enabled once for this value.
pub struct Enabled<'bound> {
    pdev: &'bound pci::Device<Bound>,
}

impl<'bound> Enabled<'bound> {
    /// Enables the memory space of `pdev`. It does no DMA before [`Enabled::start_dma`].
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// What `pci_enable_device_mem()` returns.
    pub fn new(pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        fail::at(Point::pci_enable_device_mem)?;
        pdev.enable_device_mem()?;
        // INVARIANT: it was just enabled.
        Ok(Self { pdev })
    }

    /// Lets the device master the bus.
    ///
    /// A driver first sees to it that the device does nothing that an earlier one told it to.
    ///
    /// Context: process context.
    pub fn start_dma(&self) {
        // SAFETY: the device is valid.
        unsafe { bindings::pci_set_master(raw::pci_device(self.pdev)) };
    }

    /// Has it end with the driver's binding, or with the returned value, for those who have no
    /// lifetime to tell of the binding; see [`Binding`](super::binding::Binding).
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory; the device is disabled.
    pub fn into_devres(self) -> Result<DevresEnabled> {
        let dev = self.pdev.as_ref();
        fail::at(Point::devres_add)?;
        // SAFETY: the value refers to the device only, which is valid for as long as it is bound.
        unsafe { DevresLt::new(dev, Ok::<_, Error>(self)) }
    }

    /// Ends all DMA of the device, such as that of one which does not stop when told.
    ///
    /// Context: process context.
    pub fn stop_dma(&self) {
        // SAFETY: the device is valid.
        unsafe { bindings::pci_clear_master(raw::pci_device(self.pdev)) };
    }
}

impl ForLt for Enabled<'static> {
    type Of<'a> = Enabled<'a>;
}

// SAFETY: the value has a shared reference, which is covariant, and nothing else.
unsafe impl CovariantForLt for Enabled<'static> {}

/// See [`Enabled::into_devres`].
pub type DevresEnabled = DevresLt<Enabled<'static>>;

impl Drop for Enabled<'_> {
    fn drop(&mut self) {
        self.stop_dma();
        // SAFETY: the device is valid, and by the type invariant this balances one enabling.
        unsafe { bindings::pci_disable_device(raw::pci_device(self.pdev)) };
    }
}
