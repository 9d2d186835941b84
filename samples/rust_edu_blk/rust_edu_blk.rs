// SPDX-License-Identifier: GPL-2.0

//! A disk of the 4 KiB of memory in QEMU's `edu` device: the block driver to copy first.
//!
//! The device has one DMA engine, which copies one range between main memory and its own, and then
//! interrupts. So there is one request in flight, whose ranges are copied one after the other.
//!
//! ```text
//!  queue_rq -> map -> copy_next <--- interrupt       more ranges: the next one
//!                        |              '---> complete -> unmap, end
//!                        v
//!                    in flight ---- timeout -> reset -> unmap, requeue or end
//! ```
//!
//! Documentation/block_driver.rst goes through it from probe to unbind. To make this driver probe,
//! QEMU must be run with `-device edu,dma_mask=0xffffffff`.
//!
//! QEMU: docs/specs/edu.rst

use core::convert::Infallible;
use kernel::{
    device::{
        Bound,
        Core, //
    },
    dma::DmaMask,
    io::Io,
    irq::{
        Handler,
        IrqReturn, //
    },
    kvec,
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
    part,
    Limits,
    Mapper, //
};
use phyr_blk::{
    Config,
    Expired,
    GenDisk,
    GenDiskBuilder,
    HwCtx,
    Mapped,
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

mod regs;

use self::regs::{
    Bar,
    ACKNOWLEDGE,
    BAR_SIZE,
    COMMAND,
    COUNT,
    DESTINATION,
    DEVICE_MEMORY,
    IDENTIFICATION,
    MAGIC,
    SOURCE,
    STATUS, //
};

/// PCI device id; the vendor, 0x1234, has no name in the kernel's crate.
const DEVICE_ID: u16 = 0x11e8;

/// Size of the device's own memory, in sectors.
const SECTORS: u16 = 8;
const SECTOR_SIZE: u32 = 512;

/// Longest segment, for the mapper and the disk. The engine has no limit.
const MAX_SEGMENT: u32 = 64 << 10;

/// Number of requests in flight.
const DEPTH: u16 = 1;

/// The tag of that request.
const TAG: u16 = 0;

/// Milliseconds until a request has failed. A copy takes 100, and a request has up to [`SECTORS`].
const TIMEOUT_MS: u32 = 30_000;

/// Number of times that a request is tried again.
const MAX_RETRIES: u8 = 3;

/// The driver's data of a request. It survives a requeue.
#[derive(Default)]
struct RequestData {
    retries: u8,
}

/// The driver's data of a tag, for the request that has it.
#[derive(Default)]
struct Progress {
    /// Bytes that were copied, or are being copied.
    done: u32,
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
    /// Held during a reset.
    #[pin]
    resetting: Mutex<()>,
}

impl<'bound> Engine<'bound> {
    /// Puts `io` in flight and starts to copy its next range. Returns `io`, and starts nothing, if
    /// all is copied.
    ///
    /// Context: the engine is idle, and `state` is locked.
    fn copy_next<'a>(
        &self,
        mut io: Mapped<'a, 'bound, EduBlk>,
    ) -> Option<Mapped<'a, 'bound, EduBlk>> {
        // CAST: A `u32` fits in a `usize`.
        let bytes = io.bytes() as usize;
        let (progress, vecs) = io.per_tag_and_dma_vecs();
        let done = progress.done;
        let Some(vec) = part(vecs, done as usize..bytes).next() else {
            return Some(io);
        };

        // CAST: The DMA mask has 32 bits, the disk has 8 sectors.
        let len = vec.len() as u32;
        progress.done = done + len;
        let memory_addr = vec.addr().into_raw() as u32;
        let device_addr = DEVICE_MEMORY + io.sector() as u32 * SECTOR_SIZE + done;
        let to_memory = io.op() == Op::Read;
        let (source, destination) = if to_memory {
            (device_addr, memory_addr)
        } else {
            (memory_addr, device_addr)
        };

        // The request must be in flight before the device can complete it.
        io.put_in_flight();
        self.bar.write_reg(SOURCE::from(source));
        self.bar.write_reg(DESTINATION::from(destination));
        self.bar.write_reg(COUNT::from(len));
        self.bar.write_reg(
            COMMAND::zeroed()
                .with_interrupt(true)
                .with_to_memory(to_memory)
                .with_start(true),
        );
        None
    }

    /// Goes on with the request whose copy has ended.
    fn interrupt(&self, hw: &HwCtx<'bound, EduBlk>) -> IrqReturn {
        let state = self.state.lock();

        // All ones: the device was pulled out. `timeout` gives it up, as that sleeps.
        let status = self.bar.read(STATUS);
        if status.into_raw() == u32::MAX {
            drop(state);
            hw.abort(TAG);
            return IrqReturn::None;
        }
        // Another device on the line, or a copy that is still going on.
        if !status.dma() || self.bar.read(COMMAND).start() {
            return IrqReturn::None;
        }
        self.bar.write_reg(ACKNOWLEDGE::from(status.into_raw()));
        if *state != State::Live {
            return IrqReturn::Handled;
        }
        // No longer in flight, so nothing else completes it.
        let copied = match hw.complete_tag(TAG) {
            Some(io) => self.copy_next(io),
            None => None,
        };

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

    /// Stops the device, retries the request that was in flight, and starts the device again. If it
    /// does not stop, it is dead.
    ///
    /// Context: process context, may sleep.
    fn reset(&self, hw: &HwCtx<'bound, EduBlk>) {
        let _resetting = self.resetting.lock();

        // From here on neither `queue_rq` nor the interrupt handler starts a copy.
        *self.state.lock() = State::Resetting;

        // The engine cannot be stopped, but off the bus it reaches no memory.
        stop_dma(self.pdev);
        let is_alive = Self::wait_idle(&self.bar).is_ok() && !self.is_gone();

        // Only now may the request's memory be unmapped.
        hw.drain(|io| retry_or_end(io, is_alive));

        if is_alive {
            start_dma(self.pdev);
            *self.state.lock() = State::Live;
        } else {
            dev_err!(self.pdev, "the device is dead; all I/O fails from now on\n");
            *self.state.lock() = State::Dead;
        }
    }

    /// Returns whether the device was pulled out.
    fn is_gone(&self) -> bool {
        self.bar.read(IDENTIFICATION).magic() != MAGIC
    }
}

/// Requeues a request that the device has not completed, or ends it.
fn retry_or_end(mut io: Mapped<'_, '_, EduBlk>, is_alive: bool) {
    if !is_alive {
        io.unmap().end(Status::IoErr);
    } else if io.data().retries == MAX_RETRIES {
        io.unmap().end(Status::Timeout);
    } else {
        io.data_mut().retries += 1;
        io.unmap().requeue();
    }
}

/// The operations of blk-mq.
struct EduBlk;

impl Operations for EduBlk {
    type Module = DriverModule;
    type HwQueue<'bound> = Arc<Engine<'bound>>;
    type DiskData<'bound> = ();
    type RequestData = RequestData;
    type PerTag<'bound> = Progress;
    type CompletionId = TagOnly;
    type Passthrough = Infallible;

    fn queue_rq<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        _disk: &(),
        rq: Request<'a, 'bound, Self>,
        _last: bool,
    ) -> QueueRqResult<'a, 'bound, Self> {
        let engine = hw.queue();

        if rq.op() != Op::Read && rq.op() != Op::Write {
            return Err(QueueRqError::Failed(rq, Status::NotSupported));
        }
        let mut io = rq.map()?;
        // Another request had the tag before.
        io.per_tag_mut().done = 0;

        let state = engine.state.lock();
        match *state {
            State::Live => {}
            State::Resetting => return Err(QueueRqError::Resource(io.unmap())),
            State::Dead => return Err(QueueRqError::Failed(io.unmap(), Status::IoErr)),
        }
        match engine.copy_next(io) {
            None => Ok(()),
            // There is no request without data.
            Some(io) => Err(QueueRqError::Failed(io.unmap(), Status::Invalid)),
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
struct EduDevice<'bound> {
    /// Removing the disk waits for its requests, so everything below still works.
    disk: GenDisk<'bound, EduBlk>,
    /// No handler runs any more.
    _irq: Irq<'bound, Interrupt<'bound>>,
    /// The device is off the bus and reaches no memory any more.
    _enabled: Enabled<'bound>,
    /// The last reference frees the queue and the memory of requests.
    tags: Arc<TagSet<'bound, EduBlk>>,
}

impl<'bound> EduDevice<'bound> {
    /// Brings up a device and shows its disk.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: the device does not answer.
    /// - [`ETIMEDOUT`]: it does not end what an earlier driver started.
    /// - [`ENOMEM`]: memory is short.
    fn new(scope: Scope<'bound>, pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        let enabled = Enabled::new(scope, pdev)?;
        let bar = enabled.iomap_region_sized::<BAR_SIZE>(0, c"rust_edu_blk")?;
        if bar.read(IDENTIFICATION).magic() != MAGIC {
            return Err(ENODEV);
        }
        // It may still copy for an earlier driver, but it reaches no memory.
        Engine::wait_idle(&bar)?;

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
        let tags = TagSet::new(
            scope,
            Arc::new(mapper, GFP_KERNEL)?,
            kvec![engine]?,
            Config::new(DEPTH, SECTORS).timeout(TIMEOUT_MS),
            |_, _| Ok(Progress::default()),
        )?;

        let vectors = Vectors::alloc(scope, pdev, 1, 1, Types::ANY)?;
        let handler = Interrupt { tags: tags.clone() };
        let irq = vectors.request(0, c"rust_edu_blk", handler)?;

        enabled.start_dma();
        // Locals are dropped from last to first: if anything below fails, the device is off the bus
        // before memory is freed that it may reach.
        let started = enabled;

        // The block layer reads the partition table before this returns.
        let disk = GenDiskBuilder::new()
            .capacity_sectors(SECTORS.into())
            .max_segments(SECTORS)
            .max_segment_size(MAX_SEGMENT)
            .build(fmt!("edu{:x}", pdev.dev_id()), &tags, ())?;

        Ok(Self {
            disk,
            _irq: irq,
            _enabled: started,
            tags,
        })
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
    type Data<'bound> = EduDevice<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn dma(pdev: &pci::Device, _info: Option<&Self::IdInfo>) -> Result<DmaParameters> {
        if pdev.device_id() != DEVICE_ID {
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
        EduDevice::new(scope, pdev)
    }

    fn unbind<'bound>(_pdev: &pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        // A device that was pulled out completes nothing: do not wait for it.
        for hw in this.tags.hw_queues() {
            if hw.queue().is_gone() {
                hw.queue().reset(hw);
                this.disk.mark_dead();
            }
        }
    }
}

phyr_driver::module_pci_driver! {
    type: EduDriver,
    name: "rust_edu_blk",
    authors: ["phyr developers"],
    description: "A block driver on phyr, of QEMU's edu",
    license: "GPL",
}
