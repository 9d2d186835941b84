// SPDX-License-Identifier: GPL-2.0

//! The registers of the `edu` device, of which this driver uses the DMA engine.

use kernel::{
    io::register,
    pci, //
};

register! {
    /// Identification.
    pub(crate) IDENTIFICATION(u32) @ 0x00 {
        15:0 magic;
    }

    /// Reasons for the interrupt.
    pub(crate) STATUS(u32) @ 0x24 {
        8:8 dma => bool;
    }

    /// Clears the reasons for the interrupt whose bits are written as ones.
    pub(crate) ACKNOWLEDGE(u32) @ 0x64 {}

    /// Address to copy from. A 32-bit write clears the upper half.
    pub(crate) SOURCE(u32) @ 0x80 {}

    /// Address to copy to.
    pub(crate) DESTINATION(u32) @ 0x88 {}

    /// Number of bytes to copy.
    pub(crate) COUNT(u32) @ 0x90 {}

    /// Starts a copy.
    pub(crate) COMMAND(u32) @ 0x98 {
        /// Interrupt when the copy has ended.
        2:2 interrupt => bool;
        /// From the device to main memory, not from main memory to the device.
        1:1 to_memory => bool;
        /// Start; reads as set until the copy has ended.
        0:0 start => bool;
    }
}

/// Size of the registers.
pub(crate) const BAR_SIZE: usize = 0xa0;

pub(crate) type Bar<'bound> = pci::Bar<'bound, BAR_SIZE>;

/// Magic of [`IDENTIFICATION`].
pub(crate) const MAGIC: u32 = 0x00ed;

/// Address of the device's own memory, as the engine sees it.
pub(crate) const DEVICE_MEMORY: u32 = 0x4_0000;
