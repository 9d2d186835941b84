// SPDX-License-Identifier: GPL-2.0

//! A driver for a PCI device that does DMA.
//!
//! It drives QEMU's `edu` device, which copies between main memory and 4 KiB of its own. In `probe`
//! the device copies a message into its memory, and from there into other pages. Replace its IDs,
//! its registers and [`Transfer`] by those of your device.
//!
//! phyr's Documentation/driver.rst describes the parts of a driver; its samples/rust_edu also has
//! an interrupt, and each of the other ways to map.

use kernel::{
    device::{
        Bound,
        Core, //
    },
    dma::DmaMask,
    io::{
        register,
        Io, //
    },
    pci,
    prelude::*,
    sizes::SZ_4K,
    time::Delta, //
};
use phyr::{
    memory::{
        Memory,
        Pages, //
    },
    DataDirection,
    DmaVec,
    Limits,
    Mapper, //
};
use phyr_driver::{
    fallible::read_poll_timeout,
    pci::{
        stop_dma,
        DmaParameters,
        Enabled, //
    },
    scope::Scope, //
};

register! {
    /// Address to copy from.
    SOURCE(u64) @ 0x80 {}

    /// Address to copy to.
    DESTINATION(u64) @ 0x88 {}

    /// Number of bytes to copy.
    COUNT(u64) @ 0x90 {}

    /// Starts a copy.
    COMMAND(u64) @ 0x98 {
        /// From the device to main memory, not from main memory to the device.
        1:1 to_memory => bool;
        /// Start; reads as set until the copy has ended.
        0:0 start => bool;
    }
}

/// Size of the registers.
const BAR_SIZE: usize = 0xa0;

type Bar<'bound> = pci::Bar<'bound, BAR_SIZE>;

/// PCI device id; the vendor, 0x1234, has no name in the kernel's crate.
const DEVICE_ID: u16 = 0x11e8;

/// Address of the device's own memory, as its engine sees it.
const DEVICE_MEMORY: u64 = 0x4_0000;

/// Size of the device's own memory.
const DEVICE_MEMORY_SIZE: usize = SZ_4K;

/// A command of the device: copies one DMA range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transfer {
    source: u64,
    destination: u64,
    count: u64,
    to_memory: bool,
}

impl Transfer {
    /// Returns the command that copies between `vec` and the device's memory at `offset`, or `None`
    /// if the range is not within that.
    fn new(vec: DmaVec, offset: usize, direction: DataDirection) -> Option<Self> {
        if offset.checked_add(vec.len())? > DEVICE_MEMORY_SIZE {
            return None;
        }
        // CAST: A `usize` has 64 bits at most.
        let device = DEVICE_MEMORY + offset as u64;
        let memory = vec.addr().into_raw();
        let to_memory = direction == DataDirection::FromDevice;
        let (source, destination) = if to_memory {
            (device, memory)
        } else {
            (memory, device)
        };
        Some(Self {
            source,
            destination,
            // CAST: A `usize` has 64 bits at most.
            count: vec.len() as u64,
            to_memory,
        })
    }
}

/// The device's DMA engine.
struct Engine<'bound> {
    pdev: &'bound pci::Device<Bound>,
    bar: Bar<'bound>,
}

impl Engine<'_> {
    /// Has the device copy to or from all of `vecs`, one after the other. Returns their number.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - [`ERANGE`]: the ranges are longer than the device's memory.
    /// - [`ETIMEDOUT`]: the device does not answer. It was taken off the bus, so the caller can
    ///   unmap the memory.
    fn copy(
        &self,
        vecs: impl IntoIterator<Item = DmaVec>,
        direction: DataDirection,
    ) -> Result<usize> {
        let mut offset = 0;
        let mut count = 0;

        for vec in vecs {
            let transfer = Transfer::new(vec, offset, direction).ok_or(ERANGE)?;
            self.start(transfer)?;
            self.wait()?;
            offset += vec.len();
            count += 1;
        }
        Ok(count)
    }

    fn start(&self, transfer: Transfer) -> Result {
        self.bar.try_write_reg(SOURCE::from(transfer.source))?;
        self.bar
            .try_write_reg(DESTINATION::from(transfer.destination))?;
        self.bar.try_write_reg(COUNT::from(transfer.count))?;
        self.bar.try_write_reg(
            COMMAND::zeroed()
                .with_to_memory(transfer.to_memory)
                .with_start(true),
        )
    }

    /// Waits until the copy has ended. It takes 100 ms.
    fn wait(&self) -> Result {
        let ended = read_poll_timeout(
            || self.bar.try_read(COMMAND),
            |command| !command.start(),
            Delta::from_millis(10),
            Delta::from_secs(5),
        );
        if ended.is_err() {
            // The memory is unmapped next: the device must not reach it any more.
            stop_dma(self.pdev);
        }
        ended.map(|_| ())
    }
}

/// A bound device. Its parts are torn down from first to last.
struct MyDevice<'bound> {
    /// The device is off the bus, and reaches no memory any more.
    _enabled: Enabled<'bound>,
    /// Makes mappings for the device.
    mapper: Mapper<'bound>,
    engine: Engine<'bound>,
}

impl<'bound> MyDevice<'bound> {
    fn new(scope: Scope<'bound>, pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        let enabled = Enabled::new(scope, pdev)?;
        let bar = enabled.iomap_region_sized::<BAR_SIZE>(0, c"my_driver")?;
        // A copy that an earlier driver has started must not go on.
        if bar.try_read(COMMAND)?.start() {
            return Err(EBUSY);
        }
        enabled.start_dma();

        let device = Self {
            _enabled: enabled,
            mapper: Mapper::new(scope.device(), Limits::of_device(scope.device()))?,
            engine: Engine { pdev, bar },
        };
        device.try_out()?;
        Ok(device)
    }

    /// Sends a message to the device, and gets it back.
    ///
    /// # Errors
    ///
    /// - [`EIO`]: what came back is another message.
    fn try_out(&self) -> Result {
        let message = b"there and back again";
        let mut back = [0; 20];

        let mut pages = Pages::zeroed(message.len(), GFP_KERNEL)?;
        pages.write(0, message)?;
        let mapping = self
            .mapper
            .map(pages, DataDirection::ToDevice, GFP_KERNEL)?;
        let count = self.engine.copy(mapping.dma_vecs(), mapping.direction())?;
        let pages = mapping.unmap();

        let mapping = self
            .mapper
            .map(pages, DataDirection::FromDevice, GFP_KERNEL)?;
        self.engine.copy(mapping.dma_vecs(), mapping.direction())?;
        mapping.unmap().read(0, &mut back)?;

        if back != *message {
            return Err(EIO);
        }
        dev_info!(self.engine.pdev, "{} bytes, {} range\n", back.len(), count);
        Ok(())
    }
}

struct MyDriver;

kernel::pci_device_table!(
    PCI_TABLE,
    <MyDriver as phyr_driver::pci::Driver>::IdInfo,
    [(pci::DeviceId::from_class(0x00_ff00, 0xff_ff00), ())]
);

#[vtable]
impl phyr_driver::pci::Driver for MyDriver {
    type IdInfo = ();
    type Data<'bound> = MyDevice<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn dma(pdev: &pci::Device, _info: Option<&Self::IdInfo>) -> Result<DmaParameters> {
        if pdev.device_id() != DEVICE_ID {
            return Err(ENODEV);
        }
        Ok(DmaParameters::new(DmaMask::new::<64>()))
    }

    fn probe<'bound>(
        scope: Scope<'bound>,
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        MyDevice::new(scope, pdev)
    }
}

phyr_driver::module_pci_driver! {
    type: MyDriver,
    name: "my_driver",
    authors: ["you"],
    description: "A driver on phyr",
    license: "GPL",
}

#[kunit_tests(my_driver)]
mod tests {
    use super::*;
    use phyr::DmaAddr;

    const VEC: DmaVec = DmaVec::new(DmaAddr::from_raw(0xf000_1000), 0x200);

    #[test]
    fn a_transfer_to_memory_begins_in_the_device() {
        let transfer = Transfer::new(VEC, 0x100, DataDirection::FromDevice);
        assert_eq!(
            transfer,
            Some(Transfer {
                source: DEVICE_MEMORY + 0x100,
                destination: 0xf000_1000,
                count: 0x200,
                to_memory: true,
            })
        );
    }

    #[test]
    fn a_transfer_to_the_device_begins_in_memory() {
        let transfer = Transfer::new(VEC, 0, DataDirection::ToDevice);
        assert_eq!(
            transfer,
            Some(Transfer {
                source: 0xf000_1000,
                destination: DEVICE_MEMORY,
                count: 0x200,
                to_memory: false,
            })
        );
    }

    #[test]
    fn a_transfer_ends_within_the_device() {
        let last = DEVICE_MEMORY_SIZE - VEC.len();
        assert!(Transfer::new(VEC, last, DataDirection::ToDevice).is_some());
        assert!(Transfer::new(VEC, last + 1, DataDirection::ToDevice).is_none());
        assert!(Transfer::new(VEC, usize::MAX, DataDirection::ToDevice).is_none());
    }
}
