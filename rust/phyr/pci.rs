// SPDX-License-Identifier: GPL-2.0

//! A PCI device that is enabled, and may master the bus, for as long as a value lives.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use super::raw;
use kernel::{
    bindings,
    device::{
        Bound,
        Core, //
    },
    pci,
    prelude::*, //
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

    /// Ends all DMA of the device, such as that of one which does not stop when told.
    ///
    /// Context: process context.
    pub fn stop_dma(&self) {
        // SAFETY: the device is valid.
        unsafe { bindings::pci_clear_master(raw::pci_device(self.pdev)) };
    }
}

impl Drop for Enabled<'_> {
    fn drop(&mut self) {
        self.stop_dma();
        // SAFETY: the device is valid, and by the type invariant this balances one enabling.
        unsafe { bindings::pci_disable_device(raw::pci_device(self.pdev)) };
    }
}
