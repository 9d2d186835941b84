// SPDX-License-Identifier: GPL-2.0

//! The `edu` device: its registers, and its DMA engine as two calls.
//!
//! QEMU: docs/specs/edu.rst.

use kernel::{
    device::{
        Bound,
        Core, //
    },
    io::Io,
    pci,
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use phyr::DmaVec;

/// The kernel's crate has no name for the vendor of `edu` (0x1234) and takes no number: matched by
/// class ("other"), and then by the number of the device.
pub(crate) const CLASS: u32 = 0x00_ff00;
pub(crate) const CLASS_MASK: u32 = 0xff_ff00;
const DEVICE: u16 = 0x11e8;

/// Length of the device's own buffer, in bytes.
pub(crate) const BUFFER: usize = 4096;

const BAR_LEN: usize = 0x10_0000;

/// Address of the device's buffer, for the engine.
const BUFFER_ADDR: u64 = 0x4_0000;

/// A write raises an interrupt, until the same value is written to the other register.
const INTERRUPT_RAISE: usize = 0x60;
const INTERRUPT_ACKNOWLEDGE: usize = 0x64;

const DMA_SOURCE: usize = 0x80;
const DMA_DESTINATION: usize = 0x88;
const DMA_COUNT: usize = 0x90;
const DMA_COMMAND: usize = 0x98;

const COMMAND_START: u64 = 1;
const COMMAND_TO_MEMORY: u64 = 2;

/// The engine takes 100 ms for a transfer.
const POLL_MS: i64 = 5;
const POLLS: usize = 2000;

/// Enables the device's memory and DMA.
///
/// # Errors
///
/// - `ENODEV`: not an `edu` device.
pub(crate) fn prepare(pdev: &pci::Device<Core<'_>>) -> Result {
    if pdev.device_id() != DEVICE {
        return Err(ENODEV);
    }
    pdev.enable_device_mem()?;
    pdev.set_master();
    Ok(())
}

/// The device's DMA engine.
pub(crate) struct Engine<'a> {
    bar: pci::Bar<'a, BAR_LEN>,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(pdev: &'a pci::Device<Bound>) -> Result<Self> {
        Ok(Self {
            bar: pdev.iomap_region_sized::<BAR_LEN>(0, c"phyr_test")?,
        })
    }

    /// Reads `len` bytes at `offset` of `vec` into the device's buffer.
    pub(crate) fn read(&self, vec: DmaVec, offset: usize, len: usize) -> Result {
        // CAST: offsets within a range.
        self.run(vec.addr().into_raw() + offset as u64, BUFFER_ADDR, len, 0)
    }

    /// Writes the first `len` bytes of the device's buffer to `offset` of `vec`.
    pub(crate) fn write(&self, vec: DmaVec, offset: usize, len: usize) -> Result {
        // CAST: offsets within a range.
        let to = vec.addr().into_raw() + offset as u64;
        self.run(BUFFER_ADDR, to, len, COMMAND_TO_MEMORY)
    }

    /// As [`Engine::write`], without waiting for the end.
    pub(crate) fn start_write(&self, vec: DmaVec, offset: usize, len: usize) -> Result {
        // CAST: offsets within a range.
        let to = vec.addr().into_raw() + offset as u64;
        self.start(BUFFER_ADDR, to, len, COMMAND_TO_MEMORY)
    }

    /// Makes the device send an interrupt, by a message.
    pub(crate) fn interrupt(&self) -> Result {
        self.bar.try_write32(1, INTERRUPT_RAISE)?;
        self.bar.try_write32(1, INTERRUPT_ACKNOWLEDGE)
    }

    fn start(&self, from: u64, to: u64, len: usize, command: u64) -> Result {
        if len > BUFFER {
            return Err(EINVAL);
        }
        self.bar.try_write64(from, DMA_SOURCE)?;
        self.bar.try_write64(to, DMA_DESTINATION)?;
        // CAST: at most a page.
        self.bar.try_write64(len as u64, DMA_COUNT)?;
        self.bar.try_write64(command | COMMAND_START, DMA_COMMAND)
    }

    fn run(&self, from: u64, to: u64, len: usize, command: u64) -> Result {
        self.start(from, to, len, command)?;
        for _ in 0..POLLS {
            if self.bar.try_read64(DMA_COMMAND)? & COMMAND_START == 0 {
                return Ok(());
            }
            fsleep(Delta::from_millis(POLL_MS));
        }
        Err(ETIMEDOUT)
    }
}
