// SPDX-License-Identifier: GPL-2.0

//! Has a device model access ranges that are mapped, try ranges that are not any more, and keep a
//! command until its driver has given it up.
//!
//! `tests/devices/edu.py` is such a model; its first comment has the mailbox. Any other device does
//! nothing here.

use crate::check::Outcome;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    io::Io,
    pci,
    prelude::*, //
};
use phyr::DmaVec;

/// Offsets in the configuration space.
const MAGIC: usize = 0x64;
const COMMAND: usize = 0x68;
const RESULT: usize = 0x6c;
const ADDR_LOW: usize = 0x70;
const ADDR_HIGH: usize = 0x74;
const SIZE_LOW: usize = 0x78;
const SIZE_HIGH: usize = 0x7c;

const MAGIC_VALUE: u32 = u32::from_le_bytes(*b"orac");

/// Commands.
const ENDED: u32 = 3;
const KEEP: u32 = 4;
const CARRY_OUT: u32 = 5;
const FORGET: u32 = 6;
const ACCESS: u32 = 7;

/// The PCI command register, and the bit that allows DMA.
const PCI_COMMAND: usize = 0x04;
const BUS_MASTER: u16 = 1 << 2;

/// Has the model access `vec`, which is mapped, so that the IOMMU has it in its IOTLB.
pub(crate) fn access(dev: &Device<Bound>, vec: DmaVec) -> Outcome {
    range(dev, ACCESS, vec)?;
    Ok(())
}

/// Checks that the model does not reach `vec`, whose mapping has ended.
#[track_caller]
pub(crate) fn check_refused(dev: &Device<Bound>, vec: DmaVec) -> Outcome {
    check_eq!(range(dev, ENDED, vec)?, 0, "accesses to {vec:?}");
    Ok(())
}

/// Returns whether the device is such a model.
pub(crate) fn is_model(pdev: &pci::Device<Bound>) -> Result<bool> {
    Ok(pdev.config_space().try_read32(MAGIC)? == MAGIC_VALUE)
}

/// Has the model keep the next command without carrying it out.
pub(crate) fn keep_next(pdev: &pci::Device<Bound>) -> Result {
    ask(pdev, KEEP).map(|_| ())
}

/// Has the model carry out the command that it has kept, when its driver has given it up. It may do
/// DMA again, so that only the IOMMU can refuse.
#[track_caller]
pub(crate) fn check_late_refused(pdev: &pci::Device<Bound>) -> Outcome {
    let config = pdev.config_space();
    let command = config.try_read16(PCI_COMMAND)?;
    config.try_write16(command | BUS_MASTER, PCI_COMMAND)?;
    check_eq!(ask(pdev, CARRY_OUT)?, 0, "accesses by a late command");
    ask(pdev, FORGET)?;
    Ok(())
}

/// Returns the result of `command` for `vec`; zero if the device is no such model.
fn range(dev: &Device<Bound>, command: u32, vec: DmaVec) -> Result<u32> {
    let pdev: &pci::Device<Bound> = dev.try_into()?;
    let config = pdev.config_space();
    if !is_model(pdev)? {
        return Ok(0);
    }
    // CAST: a `usize` is at most 64 bits wide.
    let (addr, size) = (vec.addr().into_raw(), vec.len() as u64);
    // CAST: the two halves.
    config.try_write32(addr as u32, ADDR_LOW)?;
    config.try_write32((addr >> 32) as u32, ADDR_HIGH)?;
    config.try_write32(size as u32, SIZE_LOW)?;
    config.try_write32((size >> 32) as u32, SIZE_HIGH)?;
    ask(pdev, command)
}

/// Returns the result of `command`.
fn ask(pdev: &pci::Device<Bound>, command: u32) -> Result<u32> {
    let config = pdev.config_space();
    config.try_write32(command, COMMAND)?;
    // It answers, or QEMU ends.
    while config.try_read32(COMMAND)? != 0 {}
    config.try_read32(RESULT)
}
