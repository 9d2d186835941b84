// SPDX-License-Identifier: GPL-2.0

//! The device: its registers, and transfers by its DMA engine.

use core::ops::Range;
use kernel::{
    device::Bound,
    io::{
        register,
        Io, //
    },
    pci,
    prelude::*,
    sizes::SZ_4K,
    sync::{
        Arc,
        Mutex, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use phyr::{
    part,
    DataDirection,
    DmaVec, //
};
use phyr_driver::{
    binding::Binding,
    completion::Completion,
    pci::stop_dma, //
};

register! {
    /// Clears the reasons for the interrupt whose bits are written as ones.
    pub(crate) ACKNOWLEDGE(u32) @ 0x64 {}

    /// Address to copy from.
    SOURCE(u64) @ 0x80 {}

    /// Address to copy to.
    DESTINATION(u64) @ 0x88 {}

    /// Number of bytes to copy.
    COUNT(u64) @ 0x90 {}

    /// Starts a copy.
    pub(crate) COMMAND(u64) @ 0x98 {
        /// Interrupt when the copy has ended.
        2:2 interrupt => bool;
        /// From the device to main memory, not from main memory to the device.
        1:1 to_memory => bool;
        /// Start; reads as set until the copy has ended.
        0:0 start => bool;
    }
}

/// Size of the registers. That those of 64 bits are aligned is checked at each access (`try_*`).
pub(crate) const BAR_SIZE: usize = 0xa0;

pub(crate) type Bar<'bound> = pci::Bar<'bound, BAR_SIZE>;

/// Address of the device's own memory, as the engine sees it.
const DEVICE_MEMORY: u64 = 0x4_0000;

/// Size of the device's own memory, and so of the longest transfer.
pub(crate) const DEVICE_MEMORY_SIZE: usize = SZ_4K;

/// Milliseconds until a copy has failed. It takes 100.
const TIMEOUT_MS: u32 = 5000;

/// State that the open files and the interrupt handler share. An open file can keep it for longer
/// than the driver is bound.
#[pin_data]
pub(crate) struct Edu {
    pub(crate) binding: Arc<Binding>,
    pub(crate) bar: pci::DevresBar<BAR_SIZE>,
    /// Held during a transfer: the device has one engine.
    #[pin]
    pub(crate) engine: Mutex<()>,
    /// The device has interrupted.
    #[pin]
    pub(crate) done: Completion,
}

impl Edu {
    /// Calls `f` with the device, which stays bound, and nobody else uses its engine, until it
    /// returns.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: the driver is not bound any more.
    /// - Those of `f`.
    pub(crate) fn with_device<R>(
        &self,
        f: impl FnOnce(&pci::Device<Bound>) -> Result<R>,
    ) -> Result<R> {
        self.binding.with(|dev| {
            let _engine = self.engine.lock();
            f(dev.try_into()?)
        })
    }
}

/// A transfer between a part of some memory and the device.
pub(crate) struct Transfer<'a> {
    pub(crate) edu: &'a Edu,
    pub(crate) pdev: &'a pci::Device<Bound>,
    pub(crate) direction: DataDirection,
    /// The part of the memory, in bytes.
    pub(crate) part: Range<usize>,
}

impl Transfer<'_> {
    /// Makes the device do the transfer. All of the memory is at `vecs`, in order.
    ///
    /// Context: process context, may sleep. In [`Edu::with_device`].
    ///
    /// # Errors
    ///
    /// - [`ENXIO`]: the registers are gone.
    /// - [`ETIMEDOUT`]: the device does not answer. It was taken off the bus and reaches no memory
    ///   any more, so the caller can unmap it.
    pub(crate) fn run(&self, vecs: impl IntoIterator<Item = DmaVec>) -> Result {
        let bar = self.edu.bar.access(self.pdev.as_ref())?;
        let mut device_addr = DEVICE_MEMORY;

        for vec in part(vecs, self.part.clone()) {
            self.start(bar, vec, device_addr)?;
            self.wait(bar)?;
            // CAST: A `usize` has 64 bits at most.
            device_addr += vec.len() as u64;
        }
        Ok(())
    }

    /// Starts to copy between `vec` and the device's memory at `device_addr`.
    fn start(&self, bar: &Bar<'_>, vec: DmaVec, device_addr: u64) -> Result {
        let memory_addr = vec.addr().into_raw();
        let to_memory = self.direction == DataDirection::FromDevice;
        let (source, destination) = if to_memory {
            (device_addr, memory_addr)
        } else {
            (memory_addr, device_addr)
        };

        bar.try_write_reg(SOURCE::from(source))?;
        bar.try_write_reg(DESTINATION::from(destination))?;
        // CAST: A `usize` has 64 bits at most.
        bar.try_write_reg(COUNT::from(vec.len() as u64))?;
        bar.try_write_reg(
            COMMAND::zeroed()
                .with_interrupt(true)
                .with_to_memory(to_memory)
                .with_start(true),
        )
    }

    /// Waits until the copy has ended.
    fn wait(&self, bar: &Bar<'_>) -> Result {
        let started = Instant::<Monotonic>::now();

        while bar.try_read(COMMAND)?.start() {
            // Interrupts without cause do not prolong it.
            let late = started.elapsed() >= Delta::from_millis(TIMEOUT_MS.into());
            if late || self.edu.done.wait_timeout(TIMEOUT_MS).is_err() {
                // The memory is unmapped next: the device must not reach it any more.
                stop_dma(self.pdev);
                return Err(ETIMEDOUT);
            }
        }
        Ok(())
    }
}
