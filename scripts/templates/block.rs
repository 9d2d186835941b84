// SPDX-License-Identifier: GPL-2.0

//! A block driver for a PCI device.
//!
//! It drives QEMU's `edu` device, which copies one range between main memory and 4 KiB of its own,
//! and then interrupts: these are the disk. Replace its IDs, its registers and [`Transfer`] by
//! those of your device.
//!
//! phyr's Documentation/block_driver.rst follows a block driver from probe to unbind. Its
//! samples/rust_edu_blk also has requests of several ranges, retries and a device that is pulled
//! out; samples/rust_nvme has many requests at once.

use core::convert::Infallible;
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
    irq::{
        Handler,
        IrqReturn, //
    },
    kvec,
    new_spinlock_irq,
    pci,
    prelude::*,
    sync::{
        Arc,
        SpinLockIrq, //
    },
    time::Delta, //
};
use phyr::{
    DmaVec,
    Limits,
    Mapper, //
};
use phyr_blk::{
    Config,
    Expired,
    GenDisk,
    GenDiskBuilder,
    HwCtx,
    Op,
    Operations,
    QueueRqError,
    QueueRqResult,
    Request,
    Status,
    TagOnly,
    TagSet,
    TimeoutAction, //
};
use phyr_driver::{
    fallible::read_poll_timeout,
    irq::{
        Irq,
        Types,
        Vectors, //
    },
    pci::{
        start_dma,
        stop_dma,
        DmaParameters,
        Enabled, //
    },
    scope::Scope, //
};

register! {
    /// Reasons for the interrupt.
    STATUS(u32) @ 0x24 {
        8:8 dma => bool;
    }

    /// Clears the reasons for the interrupt whose bits are written as ones.
    ACKNOWLEDGE(u32) @ 0x64 {}

    /// Address to copy from. A 32-bit write clears the upper half.
    SOURCE(u32) @ 0x80 {}

    /// Address to copy to.
    DESTINATION(u32) @ 0x88 {}

    /// Number of bytes to copy.
    COUNT(u32) @ 0x90 {}

    /// Starts a copy.
    COMMAND(u32) @ 0x98 {
        /// Interrupt when the copy has ended.
        2:2 interrupt => bool;
        /// From the device to main memory, not from main memory to the device.
        1:1 to_memory => bool;
        /// Start; reads as set until the copy has ended.
        0:0 start => bool;
    }
}

type Bar<'bound> = pci::Bar<'bound, 0xa0>;

/// PCI device id; the vendor, 0x1234, has no name in the kernel's crate.
const DEVICE_ID: u16 = 0x11e8;

/// Address of the device's own memory, as its engine sees it.
const DEVICE_MEMORY: u32 = 0x4_0000;

/// Size of the device's own memory, in sectors.
const SECTORS: u16 = 8;
const SECTOR_SIZE: u32 = 512;

/// Number of requests in flight, and so the tag of each.
const DEPTH: u16 = 1;
const TAG: u16 = 0;

/// Milliseconds until a request has failed. A copy takes 100.
const TIMEOUT_MS: u32 = 30_000;

/// A command of the device: copies one DMA range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transfer {
    source: u32,
    destination: u32,
    count: u32,
    to_memory: bool,
}

impl Transfer {
    /// Returns the command that copies between `vec` and the disk at `sector`, or `None` if the
    /// device has no such command.
    fn new(op: Op, sector: u64, vec: DmaVec) -> Option<Self> {
        let to_memory = match op {
            Op::Read => true,
            Op::Write => false,
            _ => return None,
        };
        let memory = u32::try_from(vec.addr().into_raw()).ok()?;
        let count = u32::try_from(vec.len()).ok()?;
        let device = DEVICE_MEMORY + u32::try_from(sector).ok()?.checked_mul(SECTOR_SIZE)?;
        let (source, destination) = if to_memory {
            (device, memory)
        } else {
            (memory, device)
        };
        Some(Self {
            source,
            destination,
            count,
            to_memory,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    /// No copy is started; requests wait.
    Resetting,
    /// No copy is started; requests fail.
    Dead,
}

/// The device and its DMA engine.
#[pin_data]
struct Engine<'bound> {
    pdev: &'bound pci::Device<Bound>,
    bar: Bar<'bound>,
    /// Held while a copy is started, and by the interrupt handler.
    #[pin]
    state: SpinLockIrq<State>,
}

impl<'bound> Engine<'bound> {
    /// Starts a copy.
    ///
    /// Context: the engine is idle, and `state` is locked.
    fn start(&self, transfer: Transfer) {
        self.bar.write_reg(SOURCE::from(transfer.source));
        self.bar.write_reg(DESTINATION::from(transfer.destination));
        self.bar.write_reg(COUNT::from(transfer.count));
        self.bar.write_reg(
            COMMAND::zeroed()
                .with_interrupt(true)
                .with_to_memory(transfer.to_memory)
                .with_start(true),
        );
    }

    /// Completes the request whose copy has ended.
    fn interrupt(&self, hw: &HwCtx<'bound, Blk>) -> IrqReturn {
        let state = self.state.lock();

        // Another device on the line, or a copy that is still going on.
        let status = self.bar.read(STATUS);
        if !status.dma() || self.bar.read(COMMAND).start() {
            return IrqReturn::None;
        }
        self.bar.write_reg(ACKNOWLEDGE::from(status.into_raw()));
        if *state != State::Live {
            return IrqReturn::Handled;
        }
        let copied = hw.complete_tag(TAG);

        // Completing a request may start the next one, which takes the lock.
        drop(state);
        if let Some(io) = copied {
            io.complete(Status::Ok);
        }
        IrqReturn::Handled
    }

    /// Waits until the engine is idle, and clears its interrupt.
    ///
    /// # Errors
    ///
    /// - [`ETIMEDOUT`]: a copy goes on for ten times as long as it should.
    fn wait_idle(bar: &Bar<'_>) -> Result {
        read_poll_timeout(
            || Ok(bar.read(COMMAND)),
            |command| !command.start(),
            Delta::from_millis(10),
            Delta::from_secs(1),
        )?;
        let status = bar.read(STATUS);
        bar.write_reg(ACKNOWLEDGE::from(status.into_raw()));
        Ok(())
    }

    /// Stops the device, ends the request that was in flight, and starts the device again.
    ///
    /// Context: process context, may sleep. One call at a time.
    fn reset(&self, hw: &HwCtx<'bound, Blk>) {
        // From here on neither `queue_rq` nor the interrupt handler starts or completes anything.
        *self.state.lock() = State::Resetting;

        // The engine cannot be stopped, but off the bus it reaches no memory.
        stop_dma(self.pdev);
        let is_alive = Self::wait_idle(&self.bar).is_ok();

        // Only now may the request's memory be unmapped.
        hw.drain(|io| io.unmap().end(Status::Timeout));

        if is_alive {
            start_dma(self.pdev);
            *self.state.lock() = State::Live;
        } else {
            dev_err!(self.pdev, "the device is dead; all I/O fails from now on\n");
            *self.state.lock() = State::Dead;
        }
    }
}

/// The operations of blk-mq.
struct Blk;

impl Operations for Blk {
    type Module = DriverModule;
    type HwQueue<'bound> = Arc<Engine<'bound>>;
    type DiskData<'bound> = ();
    type RequestData = ();
    type PerTag<'bound> = ();
    type CompletionId = TagOnly;
    type Passthrough = Infallible;

    fn queue_rq<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        _disk: &(),
        rq: Request<'a, 'bound, Self>,
        _last: bool,
    ) -> QueueRqResult<'a, 'bound, Self> {
        let engine = hw.queue();
        let op = rq.op();
        if !matches!(op, Op::Read | Op::Write) {
            return Err(QueueRqError::Failed(rq, Status::NotSupported));
        }

        let io = rq.map()?;
        let transfer = io
            .dma_vec()
            .and_then(|vec| Transfer::new(op, io.sector(), vec));
        let Some(transfer) = transfer else {
            return Err(QueueRqError::Failed(io.unmap(), Status::Invalid));
        };

        let state = engine.state.lock();
        match *state {
            State::Live => {
                // In flight before the device can complete it.
                io.put_in_flight();
                engine.start(transfer);
                Ok(())
            }
            State::Resetting => Err(QueueRqError::Resource(io.unmap())),
            State::Dead => Err(QueueRqError::Failed(io.unmap(), Status::IoErr)),
        }
    }

    fn timeout<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        expired: Expired<'a, 'bound, Self>,
    ) -> TimeoutAction {
        let engine = hw.queue();

        if expired.is_in_flight() {
            dev_warn!(engine.pdev, "no answer; resetting the device\n");
            engine.reset(hw);
        }
        TimeoutAction::Done
    }
}

struct Interrupt<'bound> {
    tags: Arc<TagSet<'bound, Blk>>,
}

impl Handler for Interrupt<'_> {
    fn handle(&self) -> IrqReturn {
        match self.tags.hw(0) {
            Some(hw) => hw.queue().interrupt(hw),
            None => IrqReturn::None,
        }
    }
}

/// A bound device. Its parts are torn down from first to last.
struct MyDevice<'bound> {
    /// Removing the disk waits for its requests, so everything below still works.
    _disk: GenDisk<'bound, Blk>,
    /// No handler runs any more.
    _irq: Irq<'bound, Interrupt<'bound>>,
    /// The device is off the bus and reaches no memory any more.
    _enabled: Enabled<'bound>,
}

impl<'bound> MyDevice<'bound> {
    fn new(scope: Scope<'bound>, pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        let enabled = Enabled::new(scope, pdev)?;
        let bar: Bar<'bound> = enabled.iomap_region_sized(0, c"my_driver")?;
        // It may still copy for an earlier driver, but it reaches no memory.
        Engine::wait_idle(&bar)?;

        let mapper = Mapper::new(scope.device(), Limits::of_device(scope.device()))?;
        let engine = Arc::pin_init(
            pin_init!(Engine {
                pdev,
                bar,
                state <- new_spinlock_irq!(State::Live),
            }),
            GFP_KERNEL,
        )?;
        let tags = TagSet::new(
            scope,
            Arc::new(mapper, GFP_KERNEL)?,
            kvec![engine]?,
            // The device takes one range.
            Config::new(DEPTH, 1).timeout(TIMEOUT_MS),
            |_, _| Ok(()),
        )?;

        let vectors = Vectors::alloc(scope, pdev, 1, 1, Types::ANY)?;
        let handler = Interrupt { tags: tags.clone() };
        let irq = vectors.request(0, c"my_driver", handler)?;

        enabled.start_dma();
        // Rebound so that a failure below takes the device off the bus before the memory goes.
        let enabled = enabled;

        // The block layer reads the partition table before this returns.
        let disk = GenDiskBuilder::new()
            .capacity_sectors(SECTORS.into())
            .max_segments(1)
            .build(fmt!("my_driver{:x}", pdev.dev_id()), &tags, ())?;

        Ok(Self {
            _disk: disk,
            _irq: irq,
            _enabled: enabled,
        })
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
        Ok(DmaParameters::new(DmaMask::new::<32>()))
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
    description: "A block driver on phyr",
    license: "GPL",
}

#[kunit_tests(my_driver)]
mod tests {
    use super::*;
    use phyr::DmaAddr;

    const VEC: DmaVec = DmaVec::new(DmaAddr::from_raw(0xf000_1000), 0x200);

    #[test]
    fn a_read_goes_to_memory() {
        assert_eq!(
            Transfer::new(Op::Read, 2, VEC),
            Some(Transfer {
                source: DEVICE_MEMORY + 2 * SECTOR_SIZE,
                destination: 0xf000_1000,
                count: 0x200,
                to_memory: true,
            })
        );
    }

    #[test]
    fn a_write_comes_from_memory() {
        assert_eq!(
            Transfer::new(Op::Write, 0, VEC),
            Some(Transfer {
                source: 0xf000_1000,
                destination: DEVICE_MEMORY,
                count: 0x200,
                to_memory: false,
            })
        );
    }

    #[test]
    fn what_the_device_cannot_do_is_refused() {
        let far = DmaVec::new(DmaAddr::from_raw(1 << 32), 0x200);
        assert!(Transfer::new(Op::Read, 0, far).is_none());
        assert!(Transfer::new(Op::Read, u64::MAX, VEC).is_none());
        assert!(Transfer::new(Op::Flush, 0, VEC).is_none());
    }
}
