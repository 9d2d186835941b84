// SPDX-License-Identifier: GPL-2.0

//! A block device on QEMU's `edu`: its 4 KiB of memory are the disk.
//!
//! The smallest block driver on phyr, to copy from. `edu` has one DMA engine, which copies one
//! range between memory and the device's own, and then interrupts: there is one request in flight,
//! and its ranges are copied one after the other.
//!
//! ```text
//!  queue_rq -> map -> copy_next <--- interrupt       more ranges: the next one
//!                        |              '---> complete -> unmap, end
//!                        v
//!                    in flight ---- timeout -> reset -> unmap, requeue or end
//! ```
//!
//! Documentation/block_driver.rst goes through it from probe to unbind.
//!
//! QEMU: docs/specs/edu.rst

use core::convert::Infallible;
use kernel::{
    device::{
        Bound,
        Core, //
    },
    dma::DmaMask,
    io::{
        poll::read_poll_timeout,
        register,
        Io, //
    },
    irq::{
        Handler,
        IrqReturn, //
    },
    new_mutex,
    new_spinlock_irq,
    pci,
    prelude::*,
    sync::{
        Arc,
        Mutex,
        SpinLockIrq, //
    },
    time::Delta, //
};
use phyr::{
    part::part,
    Limits,
    Mapper, //
};
use phyr_blk::{
    Config,
    Disk,
    DiskBuilder,
    Expired,
    HwCtx,
    Mapped,
    Op,
    Operations,
    Queued,
    Refused,
    Request,
    Status,
    TagOnly,
    TagSet,
    TimeoutAction, //
};
use phyr_driver::{
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
    /// The kind of the device.
    IDENTIFICATION(u32) @ 0x00 {
        15:0 magic;
    }

    /// Reasons for the interrupt.
    STATUS(u32) @ 0x24 {
        8:8 dma => bool;
    }

    /// Reasons that are dealt with: the interrupt is lowered.
    ACKNOWLEDGE(u32) @ 0x64 {}

    /// A 32-bit write clears the upper half of the address.
    SOURCE(u32) @ 0x80 {}
    DESTINATION(u32) @ 0x88 {}
    COUNT(u32) @ 0x90 {}

    COMMAND(u32) @ 0x98 {
        2:2 interrupt => bool;
        1:1 to_memory => bool;
        /// Starts a copy; reads as set until that has ended.
        0:0 start => bool;
    }
}

type Bar<'bound> = pci::Bar<'bound, 0xa0>;

/// The device's number; its vendor, 0x1234, has no name in the kernel's crate.
const DEVICE: u16 = 0x11e8;

/// The magic of [`IDENTIFICATION`].
const MAGIC: u32 = 0x00ed;

/// Address of the device's memory, for the engine.
const MEMORY: u32 = 0x4_0000;

/// Size of the device's memory, in sectors.
const SECTORS: u16 = 8;
const SECTOR_SIZE: u32 = 512;

/// The longest segment, for mapper and disk. The engine has no limit of its own.
const MAX_SEGMENT: u32 = 64 << 10;

/// One request at a time, so the tag is always the same.
const DEPTH: u16 = 1;
const TAG: u16 = 0;

/// The engine takes 100 ms for each range, and a request has up to one for each sector.
const TIMEOUT_MS: u32 = 30_000;
const MAX_RETRIES: u8 = 3;

/// The driver's data of a request, which survives a requeue.
#[derive(Default)]
struct Progress {
    /// Bytes that were copied, or are being copied.
    done: u32,
    retries: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    /// Nothing is started.
    Resetting,
    /// Everything fails.
    Dead,
}

/// The device and its DMA engine.
#[pin_data]
struct Engine<'bound> {
    pdev: &'bound pci::Device<Bound>,
    bar: Bar<'bound>,
    /// Locked while a copy is started, and by the interrupt handler.
    #[pin]
    state: SpinLockIrq<State>,
    /// Held during a reset.
    #[pin]
    resetting: Mutex<()>,
}

impl<'bound> Engine<'bound> {
    /// Puts `io` in flight and starts to copy its next range; returns it if all is copied.
    ///
    /// Context: the engine is idle, and the lock of the state is held.
    fn copy_next<'a>(
        &self,
        mut io: Mapped<'a, 'bound, EduBlk>,
    ) -> Option<Mapped<'a, 'bound, EduBlk>> {
        let done = io.data().done;
        // CAST: a `u32` fits in a `usize`.
        let left = done as usize..io.bytes() as usize;
        let Some(vec) = part(io.dma_vecs(), left).next() else {
            return Some(io);
        };

        // CAST: the DMA mask has 32 bits, the disk has 8 sectors.
        let outside = vec.addr().into_raw() as u32;
        let inside = MEMORY + io.sector() as u32 * SECTOR_SIZE + done;
        let len = vec.len() as u32;
        io.data_mut().done = done + len;

        let to_memory = io.op() == Op::Read;
        let (source, destination) = if to_memory {
            (inside, outside)
        } else {
            (outside, inside)
        };

        // In flight before the device knows of it.
        io.park();
        self.bar.write_reg(SOURCE::from(source));
        self.bar.write_reg(DESTINATION::from(destination));
        self.bar.write_reg(COUNT::from(len));
        self.bar.write_reg(
            COMMAND::zeroed()
                .with_to_memory(to_memory)
                .with_interrupt(true)
                .with_start(true),
        );
        None
    }

    /// Goes on with the request whose copy has ended.
    fn interrupt(&self, hw: &HwCtx<'bound, EduBlk>) -> IrqReturn {
        let state = self.state.lock();

        // Another device's interrupt, or a copy that is still going on.
        let status = self.bar.read(STATUS);
        if !status.dma() || self.bar.read(COMMAND).start() {
            return IrqReturn::None;
        }
        self.bar.write_reg(ACKNOWLEDGE::from(status.into_raw()));
        if *state != State::Live {
            return IrqReturn::Handled;
        }
        let ended = hw.take(TAG).and_then(|io| self.copy_next(io));

        // Completing a request may start the next one, which takes the lock.
        drop(state);
        if let Some(io) = ended {
            io.complete(Status::Ok);
        }
        IrqReturn::Handled
    }

    /// Stops the device, requeues what it had not completed, and starts it again. Gives it up if it
    /// does not stop.
    ///
    /// Context: process context, may sleep.
    fn reset(&self, hw: &HwCtx<'bound, EduBlk>) {
        let _one_at_a_time = self.resetting.lock();

        // From here on nothing is started: neither by `queue_rq` nor by the interrupt handler.
        *self.state.lock() = State::Resetting;

        // `edu` cannot be told to stop, but off the bus it reaches no memory.
        stop_dma(self.pdev);
        let alive = settle(&self.bar).is_ok() && !self.is_gone();

        // The device is done with the memory: now, and not before, the mapping may end.
        hw.drain(|io| retry(io, alive));

        if alive {
            start_dma(self.pdev);
            *self.state.lock() = State::Live;
        } else {
            dev_err!(self.pdev, "the device is dead; all I/O fails from now on\n");
            *self.state.lock() = State::Dead;
        }
    }

    /// Returns whether the device is off the bus.
    fn is_gone(&self) -> bool {
        self.bar.read(IDENTIFICATION).magic() != MAGIC
    }
}

/// Waits until the engine has ended what it was told to copy, and acknowledges its interrupt.
///
/// # Errors
///
/// - [`ETIMEDOUT`]: it has not, after ten times as long as it takes.
fn settle(bar: &Bar<'_>) -> Result {
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

/// Requeues a request that the device has not completed, or ends it.
fn retry(mut io: Mapped<'_, '_, EduBlk>, alive: bool) {
    if !alive {
        io.unmap().end(Status::IoErr);
    } else if io.data().retries == MAX_RETRIES {
        io.unmap().end(Status::Timeout);
    } else {
        io.data_mut().retries += 1;
        io.unmap().requeue();
    }
}

/// The driver, as the block layer sees it.
struct EduBlk;

impl Operations for EduBlk {
    type Module = DriverModule;
    type HwQueue<'bound> = Arc<Engine<'bound>>;
    type DiskData<'bound> = ();
    type RequestData = Progress;
    type PerTag<'bound> = ();
    type Completion = TagOnly;
    type Passthrough = Infallible;

    fn queue_rq<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        _disk: &(),
        rq: Request<'a, 'bound, Self>,
        _last: bool,
    ) -> Queued<'a, 'bound, Self> {
        let engine = hw.queue();

        match rq.op() {
            Op::Read | Op::Write => {}
            _ => return Err(Refused::Failed(rq, Status::NotSupported)),
        }
        let mut io = rq.map()?;
        // It may have been tried before.
        io.data_mut().done = 0;

        let state = engine.state.lock();
        match *state {
            State::Live => match engine.copy_next(io) {
                None => Ok(()),
                // There is no request without data.
                Some(io) => Err(Refused::Failed(io.unmap(), Status::Invalid)),
            },
            State::Resetting => Err(Refused::Busy(io.unmap())),
            State::Dead => Err(Refused::Failed(io.unmap(), Status::IoErr)),
        }
    }

    fn timeout<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        expired: Expired<'a, 'bound, Self>,
    ) -> TimeoutAction {
        let engine = hw.queue();

        if !expired.is_in_flight() {
            return TimeoutAction::Done;
        }
        dev_warn!(engine.pdev, "no answer; resetting the device\n");
        engine.reset(hw);
        TimeoutAction::Done
    }
}

/// The interrupt of the engine.
struct Interrupt<'bound> {
    tags: Arc<TagSet<'bound, EduBlk>>,
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
struct Device<'bound> {
    /// Removing the disk waits for its requests, so everything below still works.
    disk: Disk<'bound, EduBlk>,
    /// No handler runs any more.
    _irq: Irq<'bound, Interrupt<'bound>>,
    /// The device is off the bus and reaches no memory any more.
    _enabled: Enabled<'bound>,
    /// The last references free the queues and the memory of requests.
    tags: Arc<TagSet<'bound, EduBlk>>,
}

impl<'bound> Device<'bound> {
    /// Brings up a device and shows its disk.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: the device does not answer.
    /// - [`ETIMEDOUT`]: it does not end what an earlier driver told it.
    /// - [`ENOMEM`]: no memory.
    fn new(scope: Scope<'bound>, pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        let enabled = Enabled::new(scope, pdev)?;
        let bar: Bar<'bound> = pdev.iomap_region_sized(0, c"rust_edu_blk")?;
        if bar.read(IDENTIFICATION).magic() != MAGIC {
            return Err(ENODEV);
        }
        // It may still copy for an earlier driver, but it reaches no memory.
        settle(&bar)?;

        let mapper = Mapper::new(scope.device(), Limits::of_device(scope.device()))?;
        let engine = Arc::pin_init(
            pin_init!(Engine {
                pdev,
                bar,
                state <- new_spinlock_irq!(State::Live),
                resetting <- new_mutex!(()),
            }),
            GFP_KERNEL,
        )?;
        let mut queues = KVec::new();
        queues.push(engine, GFP_KERNEL)?;
        let tags = TagSet::new(
            scope,
            Arc::new(mapper, GFP_KERNEL)?,
            queues,
            Config::new(DEPTH, SECTORS).timeout(TIMEOUT_MS),
        )?;

        let vectors = Vectors::alloc(scope, pdev, 1, 1, Types::ANY)?;
        let handler = Interrupt { tags: tags.clone() };
        let irq = vectors.request(0, c"rust_edu_blk", handler)?;

        // From here on the device can do what it is told.
        enabled.start_dma();
        // Behind all memory that the device reaches: dropped first if the disk cannot be made.
        let enabled = enabled;

        // The disk is read before this returns.
        let disk = DiskBuilder::new()
            .capacity_sectors(SECTORS.into())
            .max_segments(SECTORS)
            .max_segment_size(MAX_SEGMENT)
            .build(fmt!("edu{:x}", pdev.dev_id()), &tags, ())?;

        Ok(Self {
            disk,
            _irq: irq,
            _enabled: enabled,
            tags,
        })
    }

    /// Gives up a device that was pulled out, so that nobody waits for it.
    fn prepare_removal(&self) {
        for hw in self.tags.hw_queues() {
            if hw.queue().is_gone() {
                hw.queue().reset(hw);
                self.disk.mark_dead();
            }
        }
    }
}

struct EduDriver;

kernel::pci_device_table!(
    PCI_TABLE,
    <EduDriver as phyr_driver::pci::Driver>::IdInfo,
    [(pci::DeviceId::from_class(0x00_ff00, 0xff_ff00), ())]
);

#[vtable]
impl phyr_driver::pci::Driver for EduDriver {
    type IdInfo = ();
    type Data<'bound> = Device<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn dma(pdev: &pci::Device, _info: Option<&Self::IdInfo>) -> Result<DmaParameters> {
        if pdev.device_id() != DEVICE {
            return Err(ENODEV);
        }
        let limits = Limits::NONE
            .with_max_segment(MAX_SEGMENT.into())
            .ok_or(EINVAL)?;
        Ok(DmaParameters::new(DmaMask::new::<32>()).limits(limits))
    }

    fn probe<'bound>(
        scope: Scope<'bound>,
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        Device::new(scope, pdev)
    }

    fn unbind<'bound>(_pdev: &pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        this.prepare_removal();
    }
}

phyr_driver::module_pci_driver! {
    type: EduDriver,
    name: "rust_edu_blk",
    authors: ["phyr developers"],
    description: "A block driver on phyr, of QEMU's edu",
    license: "GPL",
}
