// SPDX-License-Identifier: GPL-2.0

//! DMA of a PCI device: its parameters, enabling the device, and mastering the bus.
//!
//! C headers: [`include/linux/pci.h`](srctree/include/linux/pci.h),
//! [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use crate::{
    bindings as helpers,
    scope::Scope, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Core,
        CoreInternal,
        Device, //
    },
    dma::{
        Device as _,
        DmaMask, //
    },
    page::PAGE_SIZE,
    pci,
    prelude::*,
    types::ScopeGuard, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    raw,
    Limits, //
};

/// DMA mask and segment limits of a device; see [`Driver::dma`](super::Driver::dma).
///
/// The kernel reads them again while memory is mapped: a bounce buffer, for instance, is copied
/// back by the alignment that is set then. So they are set once, before anything can be mapped.
#[derive(Clone, Copy, Debug)]
pub struct DmaParameters {
    mask: DmaMask,
    limits: Option<Limits>,
}

impl DmaParameters {
    /// Returns the parameters of a device that reaches the addresses of `mask`, with the kernel's
    /// limits of a segment.
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

    /// Sets mask and limits of a device that is about to be probed.
    ///
    /// # Errors
    ///
    /// - `EIO`: the device's addresses do not fit the mask.
    /// - `EINVAL`: the limits keep bits of an address that a bounce buffer does not keep, or the
    ///   bus has no limits for its devices.
    pub(super) fn apply(&self, pdev: &pci::Device<CoreInternal<'_>>) -> Result {
        fail::at(Point::dma_set_mask_and_coherent)?;
        // SAFETY: nothing is mapped for `pdev` meanwhile: it has the core's internal context and is
        // about to be probed, so its driver has not seen it yet.
        unsafe { pdev.dma_set_mask_and_coherent(self.mask) }
            .inspect_err(|e| dev_err!(pdev, "DMA mask {:#x}: {:?}\n", self.mask.value(), e))?;
        self.limits
            .map_or(Ok(()), |limits| apply_limits(pdev, limits))
    }
}

fn apply_limits(pdev: &pci::Device<CoreInternal<'_>>, limits: Limits) -> Result {
    let align = limits.min_align_mask();
    // The DMA API warns of more, and has no bounce buffer for it.
    // CAST: a page size fits in 64 bits.
    if u64::from(align) >= PAGE_SIZE as u64 {
        dev_err!(
            pdev,
            "bits {:#x} of an address are to be kept, of a page of {} bytes\n",
            align,
            PAGE_SIZE
        );
        return Err(EINVAL);
    }
    let max = u32::try_from(limits.max_segment()).unwrap_or(u32::MAX);
    // CAST: an `unsigned long` is 64 bits wide, where this is built.
    let boundary = limits.boundary_mask() as usize;
    let dev: &Device<CoreInternal<'_>> = pdev.as_ref();
    fail::at(Point::dma_set_max_seg_size)?;
    // SAFETY: `dev` is valid. Nothing is mapped for it meanwhile: it has the core's internal
    // context and is about to be probed, so its driver has not seen it yet.
    if !unsafe { helpers::phyr_driver_helper_dma_set_parms(raw::device(dev), max, boundary, align) }
    {
        dev_err!(pdev, "the bus keeps no limits of DMA for its devices\n");
        return Err(EINVAL);
    }
    Ok(())
}

/// Lets `pdev` master the bus.
///
/// Before that, a driver has the device stop what an earlier driver told it to do.
///
/// Context: process context, may sleep.
pub fn start_dma(pdev: &pci::Device<Bound>) {
    set_master(pdev, true);
}

/// Ends all DMA of `pdev`, even if the device does not stop when its driver tells it to.
///
/// Context: process context, may sleep.
pub fn stop_dma(pdev: &pci::Device<Bound>) {
    set_master(pdev, false);
}

kernel::sync::global_lock! {
    /// Held while the library, or the PCI core for it, changes a device's command register.
    // SAFETY: `init()` is called as this module is loaded, before any other function of it.
    unsafe(uninit) static COMMAND: Mutex<()> = ();
}

/// Initialises the lock of the command registers.
///
/// # Safety
///
/// Called once, before any other function of this file.
pub(crate) unsafe fn init() {
    // SAFETY: the caller promises that this is called once, and before the lock is used.
    unsafe { COMMAND.init() };
}

/// Calls `f` with the lock of the command registers held, so that no change by [`stop_dma`] gets
/// lost.
///
/// For calls in which the PCI core changes the register: it enables or disables a device or its
/// interrupt messages.
pub(crate) fn with_command_locked<R>(f: impl FnOnce() -> R) -> R {
    let _lock = COMMAND.lock();
    f()
}

/// Changes one bit of the command register.
///
/// `pci_set_master()` also writes to a bit field of the `pci_dev`, next to bits that others write.
/// That needs the device's lock, which a driver cannot take: unbinding and resetting hold it while
/// they wait for the driver. The field is read only for bridges, and for suspended devices.
///
/// A reset may restore the old value of the register. It has also ended all that the device was
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
    // SAFETY: `pdev` is bound, and so is valid; the register has 16 bits, and `command` may be
    // written. While the device is bound, the register is changed with `COMMAND` locked, here or by
    // the PCI core for the driver, or by a reset, which has ended all DMA.
    unsafe {
        // A device that is gone reads as all ones, and does no DMA.
        if bindings::pci_read_config_word(pdev, at, &mut command) == 0 && command != u16::MAX {
            let new = if on { command | bit } else { command & !bit };
            if new != command {
                bindings::pci_write_config_word(pdev, at, new);
            }
        }
    }
}

/// An enabled PCI device. Dropping it ends its DMA; the device is disabled when the scope ends.
///
/// A driver declares this above all memory that the device may write to: fields are dropped from
/// top to bottom, and no memory may be freed before the device is off the bus.
pub struct Enabled<'b> {
    pdev: &'b pci::Device<Bound>,
}

impl<'b> Enabled<'b> {
    /// Enables the memory space of `pdev`, which does no DMA before [`Enabled::start_dma`].
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    /// - Those of `pci_enable_device_mem()`.
    pub fn new(scope: Scope<'b>, pdev: &'b pci::Device<Core<'_>>) -> Result<Self> {
        fail::at(Point::pci_enable_device_mem)?;
        with_command_locked(|| pdev.enable_device_mem())?;
        let pdev: &'b pci::Device<Bound> = pdev;
        scope.keep(ScopeGuard::new(move || {
            // SAFETY: `pdev` is bound until the scope ends, and this balances the enabling above.
            // The scope ends in the core context in which it was made: nobody else changes the
            // device's state.
            with_command_locked(|| unsafe { bindings::pci_disable_device(raw::pci_device(pdev)) });
        }))?;
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
