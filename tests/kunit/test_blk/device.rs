// SPDX-License-Identifier: GPL-2.0

//! A made-up device, and a block driver of it: its requests stay in flight until a test ends them,
//! or complete at once.

use crate::{
    buffers::sleep,
    check::{
        Failure,
        Outcome, //
    }, //
};
use core::sync::atomic::{
    AtomicBool,
    AtomicU32,
    Ordering::{
        Acquire,
        Relaxed,
        Release, //
    }, //
};
use kernel::{
    dma::{
        Coherent,
        DataDirection, //
    },
    fmt::Write,
    io::{
        io_read,
        io_write, //
    },
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use phyr::{
    Limits,
    Mapper, //
};
use phyr_blk::{
    uring::CommandResult,
    Attribute,
    Config,
    DiskNumber,
    DiskNumbers,
    Expired,
    GenDisk,
    GenDiskBuilder,
    HwCtx,
    Operations,
    Passthrough,
    QueueRqError,
    QueueRqResult,
    Request,
    Status,
    TagOnly,
    TagSet,
    Text,
    TimeoutAction, //
};
use phyr_driver::scope::Scope;

/// Tags of a queue.
pub(crate) const DEPTH: u16 = 8;

/// Words of a slot's memory.
const WORDS: usize = 16;

static NUMBERS: DiskNumbers = DiskNumbers::new();

/// The made-up device: how it is to behave, and what it has seen.
pub(crate) struct Device {
    /// Requests that a queue has room for at the same time.
    pub(crate) room: AtomicU32,
    /// Requests that it refuses, whatever room it has.
    pub(crate) refuses: AtomicU32,
    /// Completes requests at once.
    pub(crate) at_once: AtomicBool,
    /// Makes the driver abort what it has just started.
    pub(crate) aborts: AtomicBool,
    /// Time that `queue_rq` sleeps, in milliseconds, if it may.
    pub(crate) sleeps: AtomicU32,
    /// Calls of `queue_rq` that have not returned.
    pub(crate) inside: AtomicU32,
    pub(crate) queued: AtomicU32,
    pub(crate) refused: AtomicU32,
    pub(crate) timeouts: AtomicU32,
    /// A time-out that finds its request with somebody else.
    pub(crate) late: Late,
    /// Requests whose slot was another tag's, or used by another request meanwhile.
    pub(crate) mixed_up: AtomicU32,
}

impl Device {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let device = Self {
            room: AtomicU32::new(u32::MAX),
            refuses: AtomicU32::new(0),
            at_once: AtomicBool::new(false),
            aborts: AtomicBool::new(false),
            sleeps: AtomicU32::new(0),
            inside: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            refused: AtomicU32::new(0),
            timeouts: AtomicU32::new(0),
            late: Late::default(),
            mixed_up: AtomicU32::new(0),
        };
        Ok(Arc::new(device, GFP_KERNEL)?)
    }
}

/// A time-out that is late: when it looks, another thread has its request.
#[derive(Default)]
pub(crate) struct Late {
    pub(crate) is_wanted: AtomicBool,
    pub(crate) has_begun: AtomicBool,
    /// The other thread has the request.
    pub(crate) may_look: AtomicBool,
    pub(crate) is_over: AtomicBool,
}

impl Late {
    /// Makes this time-out late, if one is wanted.
    fn wait(&self) {
        if !self.is_wanted.swap(false, Relaxed) {
            return;
        }
        self.has_begun.store(true, Release);
        while !self.may_look.load(Acquire) {
            sleep();
        }
        self.is_over.store(true, Release);
    }
}

/// A hardware queue.
pub(crate) struct Ring {
    pub(crate) device: Arc<Device>,
    number: u16,
}

/// The driver's data of a tag.
pub(crate) struct Slot {
    queue: u16,
    pub(crate) tag: u16,
    uses: u64,
    memory: Coherent<[u64]>,
}

/// The driver's data of a disk.
pub(crate) struct Data {
    serial: u32,
    has_slot: bool,
    number: DiskNumber,
    /// Number of values that were dropped.
    pub(crate) dropped: Arc<AtomicU32>,
}

impl Drop for Data {
    fn drop(&mut self) {
        self.serial = 0xdead;
        self.dropped.fetch_add(1, Relaxed);
    }
}

/// A request of the driver's own, counted when it ends.
pub(crate) struct Ended(Arc<Tally>);

/// Requests that have ended, by status.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) well: AtomicU32,
    pub(crate) timed_out: AtomicU32,
    pub(crate) otherwise: AtomicU32,
}

impl Tally {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self::default(), GFP_KERNEL)?)
    }

    pub(crate) fn all(&self) -> u32 {
        self.well.load(Acquire) + self.timed_out.load(Acquire) + self.otherwise.load(Acquire)
    }
}

impl Passthrough for Ended {
    fn end(self, status: Status) -> CommandResult {
        let counter = match status {
            Status::Ok => &self.0.well,
            Status::Timeout => &self.0.timed_out,
            _ => &self.0.otherwise,
        };
        counter.fetch_add(1, Release);
        status.into()
    }
}

/// A driver that may sleep in `queue_rq`, or wait for room.
pub(crate) struct Driver<const SLEEPS: bool, const WAITS: bool>;

pub(crate) type Plain = Driver<false, false>;

pub(crate) type Sleeper = Driver<true, false>;

pub(crate) type Waiter = Driver<false, true>;

fn show_serial(data: &Data, text: &mut Text<'_>) -> Result {
    write!(text, "{:08x}", data.serial)?;
    Ok(())
}

fn show_error(_data: &Data, _text: &mut Text<'_>) -> Result {
    Err(ENODATA)
}

fn show_too_much(_data: &Data, text: &mut Text<'_>) -> Result {
    loop {
        text.write_str("too much")?;
    }
}

impl<const SLEEPS: bool, const WAITS: bool> Operations for Driver<SLEEPS, WAITS> {
    type Module = crate::DriverModule;
    type HwQueue<'bound> = Ring;
    type DiskData<'bound> = Data;
    type RequestData = ();
    type PerTag<'bound> = Slot;
    type CompletionId = TagOnly;
    type Passthrough = Ended;

    const BLOCKING: bool = SLEEPS;
    const WAITS_FOR_ROOM: bool = WAITS;

    const ATTRIBUTES: &'static [Attribute<Self>] = &[
        Attribute::new(c"serial", show_serial),
        Attribute::<Self>::new(c"slot", show_serial).visible_if(|data| data.has_slot),
        Attribute::new(c"error", show_error),
        Attribute::new(c"too_much", show_too_much),
    ];

    fn queue_rq<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        _disk: &Data,
        rq: Request<'a, 'bound, Self>,
        _last: bool,
    ) -> QueueRqResult<'a, 'bound, Self> {
        let device = &hw.queue().device;
        device.inside.fetch_add(1, Acquire);
        let queued = start(hw, rq);
        if SLEEPS {
            fsleep(Delta::from_millis(device.sleeps.load(Relaxed).into()));
        }
        device.inside.fetch_sub(1, Release);
        queued
    }

    fn timeout<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        expired: Expired<'a, 'bound, Self>,
    ) -> TimeoutAction {
        let device = &hw.queue().device;
        device.timeouts.fetch_add(1, Relaxed);
        device.late.wait();
        if let Some(io) = expired.take() {
            io.unmap().end(Status::Timeout);
        }
        TimeoutAction::Done
    }
}

pub(crate) fn in_flight<T: Operations>(hw: &HwCtx<'_, T>) -> usize {
    (0..hw.depth()).filter(|&tag| hw.is_in_flight(tag)).count()
}

pub(crate) fn start<'a, 'bound, const SLEEPS: bool, const WAITS: bool>(
    hw: &'a HwCtx<'bound, Driver<SLEEPS, WAITS>>,
    rq: Request<'a, 'bound, Driver<SLEEPS, WAITS>>,
) -> QueueRqResult<'a, 'bound, Driver<SLEEPS, WAITS>> {
    let device = &hw.queue().device;
    let refuses = device
        .refuses
        .fetch_update(Relaxed, Relaxed, |refuses| refuses.checked_sub(1));
    // CAST: a small number.
    if refuses.is_ok() || in_flight(hw) as u32 >= device.room.load(Relaxed) {
        device.refused.fetch_add(1, Relaxed);
        return Err(QueueRqError::DevResource(rq));
    }
    let mut io = rq.map()?;
    let tag = io.tag();
    if !note(io.per_tag_mut(), hw.queue().number, tag) {
        device.mixed_up.fetch_add(1, Relaxed);
    }
    // The table of a device that is told the ranges.
    let (slot, vecs) = io.per_tag_and_dma_vecs();
    for (n, vec) in (0..WORDS).zip(vecs) {
        if write_word(&slot.memory, n, vec.addr().into_raw()).is_err() {
            device.mixed_up.fetch_add(1, Relaxed);
        }
    }
    device.queued.fetch_add(1, Relaxed);
    let tag = io.put_in_flight();
    if device.aborts.load(Relaxed) {
        hw.abort(tag);
    }
    if device.at_once.load(Relaxed) {
        if let Some(io) = hw.complete_tag(tag) {
            io.complete(Status::Ok);
        }
    }
    Ok(())
}

/// Uses a slot. Returns whether it is the tag's, as its last user left it.
fn note(slot: &mut Slot, queue: u16, tag: u16) -> bool {
    let last = WORDS - 1;
    let Ok(uses) = read_word(&slot.memory, last) else {
        return false;
    };
    let fits = (slot.queue, slot.tag) == (queue, tag) && uses == slot.uses;
    slot.uses += 1;
    fits && write_word(&slot.memory, last, slot.uses).is_ok()
}

fn read_word(memory: &Coherent<[u64]>, n: usize) -> Result<u64> {
    Ok(io_read!(memory, [try: n]))
}

fn write_word(memory: &Coherent<[u64]>, n: usize, value: u64) -> Result {
    io_write!(memory, [try: n], value);
    Ok(())
}

/// Creates a tag set of `queues` queues of `device`.
pub(crate) fn tag_set<'bound, const SLEEPS: bool, const WAITS: bool>(
    scope: Scope<'bound>,
    device: &Arc<Device>,
    queues: u16,
) -> Result<Arc<TagSet<'bound, Driver<SLEEPS, WAITS>>>> {
    let mapper = Mapper::new(scope.device(), Limits::NONE)?;
    let mapper = Arc::new(mapper, GFP_KERNEL)?;
    let mut rings = KVec::new();
    for number in 0..queues {
        let ring = Ring {
            device: device.clone(),
            number,
        };
        rings.push(ring, GFP_KERNEL)?;
    }
    let config = Config::new(DEPTH, 16);
    TagSet::new(scope, mapper, rings, config, |ring: &Ring, tag| {
        Ok(Slot {
            queue: ring.number,
            tag,
            uses: 0,
            memory: Coherent::zeroed_slice(scope.device(), WORDS, GFP_KERNEL)?,
        })
    })
}

/// Counters of a disk, for a test to watch.
pub(crate) struct Seen {
    pub(crate) dropped: Arc<AtomicU32>,
    pub(crate) tally: Arc<Tally>,
}

pub(crate) fn disk<'bound, const SLEEPS: bool, const WAITS: bool>(
    tag_set: &Arc<TagSet<'bound, Driver<SLEEPS, WAITS>>>,
    sectors: u64,
) -> Result<(GenDisk<'bound, Driver<SLEEPS, WAITS>>, Seen)> {
    let seen = Seen {
        dropped: Arc::new(AtomicU32::new(0), GFP_KERNEL)?,
        tally: Tally::new()?,
    };
    let data = Data {
        serial: 0x1234_5678,
        has_slot: sectors != 0,
        number: NUMBERS.alloc()?,
        dropped: seen.dropped.clone(),
    };
    let number = data.number.get();
    let disk = GenDiskBuilder::new()
        .capacity_sectors(sectors)
        .geometry(64, 32)
        .max_hw_sectors(8)
        .build(fmt!("phyrtest{number}"), tag_set, data)?;
    Ok((disk, seen))
}

/// Sends `nr` requests to `disk`.
pub(crate) fn send<T: Operations<Passthrough = Ended>>(
    disk: &GenDisk<'_, T>,
    seen: &Seen,
    nr: u32,
) -> Result {
    let queue = disk.queue()?;
    for _ in 0..nr {
        let rq = queue.alloc(DataDirection::ToDevice, true);
        rq?.execute(Ended(seen.tally.clone()));
    }
    Ok(())
}

/// Waits for `condition`: for longer than anything here takes, and for less than a request's
/// time-out. Fails with `what`.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) -> Outcome {
    for _ in 0..500 {
        if condition() {
            return Ok(());
        }
        sleep();
    }
    Err(Failure::new(fmt!("{what}")))
}

/// Ends what is in flight, and starts what waits, so that the disks of a failed test can go.
pub(crate) fn end_all<const SLEEPS: bool, const WAITS: bool>(
    set: &Arc<TagSet<'_, Driver<SLEEPS, WAITS>>>,
    device: &Device,
) {
    device.room.store(u32::MAX, Relaxed);
    device.refuses.store(0, Relaxed);
    device.at_once.store(true, Relaxed);
    set.cancel(Status::IoErr);
    drop(TagSet::quiesce(set.clone()));
}

/// Completes a request that is in flight. Returns whether there was one.
pub(crate) fn complete_one<const SLEEPS: bool, const WAITS: bool>(
    set: &TagSet<'_, Driver<SLEEPS, WAITS>>,
) -> bool {
    for hw in set.hw_queues() {
        for tag in 0..hw.depth() {
            if let Some(io) = hw.complete_tag(tag) {
                io.complete(Status::Ok);
                return true;
            }
        }
    }
    false
}
