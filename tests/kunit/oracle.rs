// SPDX-License-Identifier: GPL-2.0

//! Has a device model access ranges that are mapped, and try ranges that are not any more.
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
const ACCESS: u32 = 7;

/// Has the model access `vec`, which is mapped, so that the IOMMU has it in its IOTLB.
pub(crate) fn access(dev: &Device<Bound>, vec: DmaVec) -> Outcome {
    ask(dev, ACCESS, vec)?;
    Ok(())
}

/// Checks that the model does not reach `vec`, whose mapping has ended.
#[track_caller]
pub(crate) fn check_refused(dev: &Device<Bound>, vec: DmaVec) -> Outcome {
    check_eq!(ask(dev, ENDED, vec)?, 0, "accesses to {vec:?}");
    Ok(())
}

/// Returns the result of `command` for `vec`; zero if the device is no such model.
fn ask(dev: &Device<Bound>, command: u32, vec: DmaVec) -> Result<u32> {
    let pdev: &pci::Device<Bound> = dev.try_into()?;
    let config = pdev.config_space();
    if config.try_read32(MAGIC)? != MAGIC_VALUE {
        return Ok(0);
    }
    // CAST: a `usize` is at most 64 bits wide.
    let (addr, size) = (vec.addr().into_raw(), vec.len() as u64);
    // CAST: the two halves.
    config.try_write32(addr as u32, ADDR_LOW)?;
    config.try_write32((addr >> 32) as u32, ADDR_HIGH)?;
    config.try_write32(size as u32, SIZE_LOW)?;
    config.try_write32((size >> 32) as u32, SIZE_HIGH)?;
    config.try_write32(command, COMMAND)?;
    // It answers, or QEMU ends.
    while config.try_read32(COMMAND)? != 0 {}
    config.try_read32(RESULT)
}
