// SPDX-License-Identifier: GPL-2.0

//! Exporting memory of a PCI device to other devices: ranges of its BARs as a dma-buf.
//!
//! C header: [`include/linux/pci-p2pdma.h`](srctree/include/linux/pci-p2pdma.h)

use crate::{
    bar::BarMemory,
    bindings as helpers,
    dma_buf::DmaBuf,
    export::{
        export,
        Exported, //
    },
    exporter::{
        AccessMode,
        DeviceOnly,
        Exporter, //
    }, //
};
use kernel::{
    device::{
        Bound,
        Core, //
    },
    error::to_result,
    pci,
    prelude::*, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    raw, //
};
use phyr_driver::completion::Wait;

/// A PCI device that can give its BARs to other devices.
///
/// # Examples
///
/// ```
/// use core::marker::PhantomData;
/// use kernel::{device::Core, pci, prelude::*, ModuleMetadata};
/// use phyr_dma_buf::{AccessMode, BarMemory, DeviceOnly, Exported, Exporter, PeerToPeer};
///
/// /// `M` is the driver's module: `LocalModule`.
/// struct Window<M>(PhantomData<fn() -> M>);
///
/// impl<M: ModuleMetadata + 'static> Exporter for Window<M> {
///     type Module = M;
///     type Memory = BarMemory;
///     type CpuMapping = DeviceOnly;
/// }
///
/// fn probe<M: ModuleMetadata + 'static>(
///     pdev: &pci::Device<Core<'_>>,
/// ) -> Result<Exported<Window<M>>> {
///     let peer = PeerToPeer::new(pdev)?;
///     // SAFETY: the first megabyte of BAR 2 is plain memory, whose contents nobody relies on.
///     unsafe { peer.export(2, &[(0, 1 << 20)], Window(PhantomData), AccessMode::ReadWrite) }
/// }
/// ```
pub struct PeerToPeer<'bound> {
    pdev: &'bound pci::Device<Bound>,
}

impl<'bound> PeerToPeer<'bound> {
    /// Prepares `pdev`: `pcim_p2pdma_init()`. Only in `probe()`, which no other thread is in for
    /// the same device.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: the kernel, or the device, does no peer-to-peer DMA.
    /// - `ENOMEM`: no memory.
    pub fn new(pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        fail::at(Point::pcim_p2pdma_init)?;
        // SAFETY: The device is being bound, with its lock held, as its context is `Core`.
        to_result(unsafe { helpers::phyr_dma_buf_helper_p2p_init(raw::pci_device(pdev)) })?;
        Ok(Self { pdev })
    }

    /// Exports `ranges` of BAR `bar`, each an offset and a length in whole pages, as a dma-buf.
    ///
    /// It is revoked when the driver is unbound, at the latest. A driver that disables the device
    /// earlier calls [`Exported::revoke`] before that.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there is no such BAR, or it is no memory; or a range is empty, not in whole
    ///   pages, or not within it.
    /// - Those of [`export()`].
    ///
    /// # Safety
    ///
    /// Until the buffer is revoked the ranges are memory that any device may read and write,
    /// whatever it writes: no register that has an effect on the system, and nothing whose contents
    /// this kernel relies on.
    pub unsafe fn export<E>(
        &self,
        bar: u32,
        ranges: &[(usize, usize)],
        exporter: E,
        mode: AccessMode,
    ) -> Result<Exported<E>>
    where
        E: Exporter<Memory = BarMemory, CpuMapping = DeviceOnly>,
    {
        let memory = BarMemory::new(self.pdev, bar, ranges, revoke)?;
        let on_unbind = memory.on_unbind();
        let exported = export(memory, exporter, mode)?;
        on_unbind.watch(exported.dma_buf());
        Ok(exported)
    }
}

/// Revokes `buf` as the driver of its exporter is unbound.
///
/// This cannot be `EBUSY`: importers that cannot be told were not let in.
fn revoke(buf: &DmaBuf) -> Result {
    let buffer = buf.buffer().ok_or(EINVAL)?;
    buffer.revoke(buf, Wait::Uninterruptible)
}
