// SPDX-License-Identifier: GPL-2.0

//! Block drivers on a device that is made up: what it is told stays in flight until a test says
//! what becomes of it, or completes at once. Requests are the driver's own, or those that the block
//! layer makes to look for partitions.

use crate::{
    buffers::{
        settle,
        sleep, //
    },
    check::{
        Failure,
        Outcome, //
    },
    fixture::{
        binding,
        with_dma_api, //
    }, //
};
use core::{
    ptr,
    sync::atomic::{
        AtomicBool,
        AtomicU32,
        Ordering::{
            Acquire,
            Relaxed,
            Release, //
        }, //
    }, //
};
use kernel::{
    bindings,
    dma::{
        Coherent,
        DataDirection, //
    },
    error::from_err_ptr,
    fmt::Write,
    io::{
        io_project,
        io_read,
        io_write, //
    },
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue::system_long, //
};
use phyr::{
    DmaVec,
    Limits,
    Mapper, //
};
use phyr_blk::{
    Attribute,
    Config,
    Disk,
    DiskBuilder,
    DiskNumbers,
    Expired,
    Geometry,
    HwCtx,
    Operations,
    Passthrough,
    Queued,
    Refused,
    Request,
    Status,
    TagOnly,
    TagSet,
    Text,
    TimeoutAction, //
};
use phyr_driver::scope::Scope;

/// How many requests a queue of the device has room for.
const DEPTH: u16 = 8;

/// Numbers of a slot's memory.
const WORDS: usize = 16;

static NUMBERS: DiskNumbers = DiskNumbers::new();

/// The device, as the tests control it and see it.
struct Device {
    /// What it has room for, in flight at the same time on a queue.
    room: AtomicU32,
    /// How many requests it is to refuse, whatever room it has.
    refuses: AtomicU32,
    /// Whether it completes what it is told at once.
    at_once: AtomicBool,
    /// Whether the driver aborts what it has just started.
    aborts: AtomicBool,
    /// How long `queue_rq` sleeps, in milliseconds, if it may.
    sleeps: AtomicU32,
    /// How many calls of `queue_rq` have yet to return.
    inside: AtomicU32,
    queued: AtomicU32,
    refused: AtomicU32,
    timeouts: AtomicU32,
    /// Requests whose slot was not the one of their tag, or that was used by another meanwhile.
    mixed_up: AtomicU32,
}

impl Device {
    fn new() -> Result<Arc<Self>> {
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
            mixed_up: AtomicU32::new(0),
        };
        Ok(Arc::new(device, GFP_KERNEL)?)
    }
}

/// A hardware queue.
struct Ring {
    device: Arc<Device>,
    number: u16,
}

/// What the driver has for each tag.
struct Slot {
    queue: u16,
    tag: u16,
    uses: u64,
    memory: Coherent<[u64]>,
}

/// Of a disk.
struct Data {
    serial: u32,
    has_slot: bool,
    /// The number of [`Data`] that were dropped.
    dropped: Arc<AtomicU32>,
}

impl Drop for Data {
    fn drop(&mut self) {
        self.serial = 0xdead;
        self.dropped.fetch_add(1, Relaxed);
    }
}

/// What tells that a request of the driver's has ended, and how.
struct Ended(Arc<Tally>);

/// Counts what has ended.
#[derive(Default)]
struct Tally {
    well: AtomicU32,
    timed_out: AtomicU32,
    otherwise: AtomicU32,
}

impl Tally {
    fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self::default(), GFP_KERNEL)?)
    }

    fn all(&self) -> u32 {
        self.well.load(Acquire) + self.timed_out.load(Acquire) + self.otherwise.load(Acquire)
    }
}

impl Passthrough for Ended {
    fn end(self, status: Status) {
        let counter = match status {
            Status::Ok => &self.0.well,
            Status::Timeout => &self.0.timed_out,
            _ => &self.0.otherwise,
        };
        counter.fetch_add(1, Release);
    }
}

/// A driver, which may sleep, or wait for room.
struct Driver<const SLEEPS: bool, const WAITS: bool>;

type Plain = Driver<false, false>;
type Sleeper = Driver<true, false>;
type Waiter = Driver<false, true>;

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
    type Completion = TagOnly;
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
    ) -> Queued<'a, 'bound, Self> {
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
        hw.queue().device.timeouts.fetch_add(1, Relaxed);
        if let Some(io) = expired.take() {
            io.unmap().end(Status::Timeout);
        }
        TimeoutAction::Done
    }
}

fn in_flight<T: Operations>(hw: &HwCtx<'_, T>) -> usize {
    (0..hw.depth()).filter(|&tag| hw.is_in_flight(tag)).count()
}

fn start<'a, 'bound, const SLEEPS: bool, const WAITS: bool>(
    hw: &'a HwCtx<'bound, Driver<SLEEPS, WAITS>>,
    rq: Request<'a, 'bound, Driver<SLEEPS, WAITS>>,
) -> Queued<'a, 'bound, Driver<SLEEPS, WAITS>> {
    let device = &hw.queue().device;
    let refuses = device
        .refuses
        .fetch_update(Relaxed, Relaxed, |refuses| refuses.checked_sub(1));
    // CAST: a small number.
    if refuses.is_ok() || in_flight(hw) as u32 >= device.room.load(Relaxed) {
        device.refused.fetch_add(1, Relaxed);
        return Err(Refused::DevBusy(rq));
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
    let tag = io.park();
    if device.aborts.load(Relaxed) {
        hw.abort(tag);
    }
    if device.at_once.load(Relaxed) {
        if let Some(io) = hw.take(tag) {
            io.complete(Status::Ok);
        }
    }
    Ok(())
}

/// Uses a slot, and returns whether it is the one of its tag, as its last user left it.
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

/// A tag set of `queues` queues of `device`.
fn tag_set<'bound, const SLEEPS: bool, const WAITS: bool>(
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
    TagSet::with_per_tag(scope, mapper, rings, config, |ring: &Ring, tag| {
        Ok(Slot {
            queue: ring.number,
            tag,
            uses: 0,
            memory: Coherent::zeroed_slice(scope.device(), WORDS, GFP_KERNEL)?,
        })
    })
}

/// What a test has of a disk besides it.
struct Seen {
    dropped: Arc<AtomicU32>,
    tally: Arc<Tally>,
}

fn disk<'bound, const SLEEPS: bool, const WAITS: bool>(
    tag_set: &Arc<TagSet<'bound, Driver<SLEEPS, WAITS>>>,
    sectors: u64,
) -> Result<(Disk<'bound, Driver<SLEEPS, WAITS>>, Seen)> {
    let seen = Seen {
        dropped: Arc::new(AtomicU32::new(0), GFP_KERNEL)?,
        tally: Tally::new()?,
    };
    let data = Data {
        serial: 0x1234_5678,
        has_slot: sectors != 0,
        dropped: seen.dropped.clone(),
    };
    let number = NUMBERS.alloc()?;
    let disk = DiskBuilder::new()
        .capacity_sectors(sectors)
        .geometry(Geometry::STANDARD)
        .max_hw_sectors(8)
        .build_numbered("phyrtest", number, tag_set, data)?;
    Ok((disk, seen))
}

/// Sends `nr` requests to `disk`.
fn send<T: Operations<Passthrough = Ended>>(disk: &Disk<'_, T>, seen: &Seen, nr: u32) -> Result {
    let queue = disk.queue()?;
    for _ in 0..nr {
        let rq = queue.alloc(DataDirection::ToDevice, true);
        rq?.execute(Ended(seen.tally.clone()));
    }
    Ok(())
}

/// Waits for `condition`: until well after anything that the tests wait for, and well before a
/// request's time is over by itself.
#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) -> Outcome {
    for _ in 0..500 {
        if condition() {
            return Ok(());
        }
        sleep();
    }
    Err(Failure::new(fmt!("{what}")))
}

/// Ends what is in flight on all queues, and starts what waits, so that a test that has failed can
/// remove its disks.
fn end_all<const SLEEPS: bool, const WAITS: bool>(
    set: &Arc<TagSet<'_, Driver<SLEEPS, WAITS>>>,
    device: &Device,
) {
    device.room.store(u32::MAX, Relaxed);
    device.refuses.store(0, Relaxed);
    device.at_once.store(true, Relaxed);
    set.cancel(Status::IoErr);
    drop(TagSet::quiesce(set.clone()));
}

/// Completes one request that is in flight, if there is one.
fn complete_one<const SLEEPS: bool, const WAITS: bool>(
    set: &TagSet<'_, Driver<SLEEPS, WAITS>>,
) -> bool {
    for hw in set.hw_queues() {
        for tag in 0..hw.depth() {
            if let Some(io) = hw.take(tag) {
                io.complete(Status::Ok);
                return true;
            }
        }
    }
    false
}

/// A file that is open in the kernel.
struct File(*mut bindings::file);

impl File {
    /// Opens what process 1 finds under `path`: the thread of a test has no file systems.
    fn open(path: &CStr) -> Result<Self> {
        Self::open_for(path, bindings::O_RDONLY)
    }

    fn open_for(path: &CStr, flags: u32) -> Result<Self> {
        let this = kernel::current!().as_ptr();
        // SAFETY: process 1 is always there: the reference that this takes is never missed.
        let first = unsafe {
            bindings::get_pid_task(bindings::find_get_pid(1), bindings::pid_type_PIDTYPE_PID)
        };
        // SAFETY: the field is this task's own, and put back before anybody else looks at it; the
        // path is valid. CAST: flags are small.
        let file = unsafe {
            let fs = core::mem::replace(&mut (*this).fs, (*first).fs);
            let file = bindings::filp_open(path.as_char_ptr(), flags as i32, 0);
            (*this).fs = fs;
            file
        };
        from_err_ptr(file).map(Self)
    }

    /// Reads the beginning of the file.
    fn read(&self, to: &mut [u8]) -> Result<usize> {
        self.read_at(to, 0)
    }

    fn read_at(&self, to: &mut [u8], mut at: bindings::loff_t) -> Result<usize> {
        // SAFETY: the file is open, and the buffer valid.
        let read =
            unsafe { bindings::kernel_read(self.0, to.as_mut_ptr().cast(), to.len(), &mut at) };
        // CAST: an errno, or at most the length.
        if read < 0 {
            Err(Error::from_errno(read as i32))
        } else {
            Ok(read as usize)
        }
    }

    fn write(&self, bytes: &[u8]) -> Result {
        let mut at = 0;
        // SAFETY: the file is open, and the buffer valid.
        let written =
            unsafe { bindings::kernel_write(self.0, bytes.as_ptr().cast(), bytes.len(), &mut at) };
        // CAST: an errno.
        kernel::error::to_result(written.min(0) as i32)
    }

    /// Asks the disk for its geometry: heads, sectors, cylinders.
    fn geometry(&self) -> Result<(u8, u8, u16)> {
        /// `struct hd_geometry`
        #[repr(C)]
        #[derive(Default)]
        struct HdGeometry {
            heads: u8,
            sectors: u8,
            cylinders: u16,
            start: usize,
        }
        let mut geometry = HdGeometry::default();
        // SAFETY: the file is that of a block device, which is there while it is open, and its
        // disk.
        let disk = unsafe { (*bindings::file_bdev(self.0)).bd_disk };
        // SAFETY: see above.
        let getgeo = unsafe { (*(*disk).fops).getgeo }.ok_or(ENOTTY)?;
        // SAFETY: both are valid.
        kernel::error::to_result(unsafe { getgeo(disk, (&raw mut geometry).cast()) })?;
        Ok((geometry.heads, geometry.sectors, geometry.cylinders))
    }
}

// SAFETY: an open file belongs to no thread.
unsafe impl Send for File {}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: it is open, and was opened by the kernel.
        unsafe { bindings::filp_close(self.0, ptr::null_mut()) };
        settle();
    }
}

fn read(path: &CStr) -> Result<KVec<u8>> {
    let mut bytes = KVec::from_elem(0, 8192, GFP_KERNEL)?;
    let len = File::open(path)?.read(&mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}

/// The files are there from the start to the end of a disk, and the data only then.
fn attributes(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    device.at_once.store(true, Relaxed);
    let set = tag_set::<false, false>(scope, &device, 1)?;
    for sectors in [0, 64] {
        let (disk, seen) = disk(&set, sectors)?;
        check_eq!(&*read(c"/sys/block/phyrtest0/serial")?, b"12345678\n");
        let slot = read(c"/sys/block/phyrtest0/slot");
        if sectors == 0 {
            check_err!(slot, ENOENT);
        } else {
            slot?;
        }
        check_err!(read(c"/sys/block/phyrtest0/error"), ENODATA);
        check_err!(read(c"/sys/block/phyrtest0/too_much"), EINVAL);
        let kept = File::open(c"/sys/block/phyrtest0/serial")?;
        drop(disk);
        check_eq!(seen.dropped.load(Relaxed), 1);
        check_err!(kept.read(&mut [0; 16]), ENODEV);
        check_err!(File::open(c"/sys/block/phyrtest0/serial"), ENOENT);
    }
    Ok(())
}

/// A geometry can be asked for after the disk was removed.
fn geometry(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    device.at_once.store(true, Relaxed);
    let set = tag_set::<false, false>(scope, &device, 1)?;
    let (disk, _) = disk(&set, 3 * 2048 + 2047)?;
    let file = File::open(c"/dev/phyrtest0")?;
    check_eq!(file.geometry(), Ok((64, 32, 3)));
    drop(disk);
    drop(set);
    check_eq!(file.geometry(), Ok((64, 32, 0)));
    Ok(())
}

/// A number is free again when its disk was removed.
fn numbers(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    let set = tag_set::<false, false>(scope, &device, 1)?;
    let (first, _) = disk(&set, 0)?;
    let (_second, _) = disk(&set, 0)?;
    let is_there = |path| File::open(path).is_ok();
    check!(is_there(c"/sys/block/phyrtest0/size"));
    check!(is_there(c"/sys/block/phyrtest1/size"));
    drop(first);
    check!(!is_there(c"/sys/block/phyrtest0/size"));
    let (_third, _) = disk(&set, 0)?;
    check!(
        is_there(c"/sys/block/phyrtest0/size"),
        "the number was not free"
    );
    check!(
        !is_there(c"/sys/block/phyrtest2/size"),
        "the number was not free"
    );
    Ok(())
}

/// The time-out handler runs at once for what is aborted, and for nothing else.
fn abort(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    let set = tag_set::<false, false>(scope, &device, 2)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = abort_one(&set, &device, &disk, &seen);
    end_all(&set, &device);
    result
}

fn abort_one(
    set: &TagSet<'_, Plain>,
    device: &Device,
    disk: &Disk<'_, Plain>,
    seen: &Seen,
) -> Outcome {
    send(disk, seen, 3)?;
    let nr = || set.hw_queues().iter().map(in_flight).sum::<usize>();
    wait_for("not in flight", || nr() == 3)?;
    for hw in set.hw_queues() {
        for tag in [0, 1, DEPTH - 1, DEPTH, DEPTH + 1, u16::MAX] {
            if hw.is_in_flight(tag) {
                continue;
            }
            check!(!hw.abort(tag), "tag {tag}");
        }
    }
    let (hw, tag) = check_some!(set
        .hw_queues()
        .iter()
        .flat_map(|hw| (0..DEPTH).map(move |tag| (hw, tag)))
        .find(|(hw, tag)| hw.is_in_flight(*tag)));
    check!(hw.abort(tag));
    wait_for("the handler did not run", || {
        seen.tally.timed_out.load(Acquire) == 1
    })?;
    sleep();
    check_eq!((device.timeouts.load(Relaxed), nr()), (1, 2));
    check!(!hw.abort(tag));
    while complete_one(set) {}
    wait_for("not completed", || seen.tally.well.load(Acquire) == 2)
}

/// Requests complete while they are being aborted: each ends once, and one way.
fn abort_and_complete(scope: Scope<'_>) -> Outcome {
    const REQUESTS: u32 = 2000;
    let device = Device::new()?;
    device.at_once.store(true, Relaxed);
    device.aborts.store(true, Relaxed);
    let set = tag_set::<false, false>(scope, &device, 2)?;
    let (disk, seen) = disk(&set, 0)?;
    send(&disk, &seen, REQUESTS)?;
    wait_for("not all have ended", || seen.tally.all() == REQUESTS)?;
    check_eq!(seen.tally.otherwise.load(Relaxed), 0);
    Ok(())
}

/// What has to wait for room gets it when something completes.
fn room(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    device.room.store(1, Relaxed);
    let set = tag_set::<false, true>(scope, &device, 1)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = (|| {
        send(&disk, &seen, 6)?;
        for done in 1..=6 {
            wait_for("nothing came", || complete_one(&set))?;
            wait_for("not completed", || seen.tally.well.load(Acquire) == done)?;
        }
        check_cmp!(device.refused.load(Relaxed), >=, 5);
        Ok(())
    })();
    end_all(&set, &device);
    result
}

/// While something is in flight, what was refused is not tried again and again.
fn room_is_waited_for(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    device.room.store(1, Relaxed);
    let set = tag_set::<false, true>(scope, &device, 1)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = (|| {
        send(&disk, &seen, 2)?;
        wait_for("nothing was refused", || device.refused.load(Relaxed) != 0)?;
        sleep();
        let before = device.refused.load(Relaxed);
        for _ in 0..10 {
            sleep();
        }
        // With `Busy` it is tried every 3 ms.
        check_cmp!(device.refused.load(Relaxed), <=, before + 1);
        wait_for("nothing in flight", || complete_one(&set))?;
        wait_for("not tried again", || complete_one(&set))
    })();
    end_all(&set, &device);
    result
}

/// A driver that says so with nothing in flight loses nothing.
fn room_that_nothing_makes(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    device.at_once.store(true, Relaxed);
    device.refuses.store(20, Relaxed);
    let set = tag_set::<false, true>(scope, &device, 1)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = (|| {
        send(&disk, &seen, 1)?;
        wait_for("the request was lost", || {
            seen.tally.well.load(Acquire) == 1
        })
    })();
    end_all(&set, &device);
    result
}

/// Neither does one whose other disk has something in flight.
fn room_of_another_disk(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    let set = tag_set::<false, true>(scope, &device, 1)?;
    let (one, seen_one) = disk(&set, 0)?;
    let (other, seen_other) = disk(&set, 0)?;
    let result = (|| {
        send(&one, &seen_one, 1)?;
        wait_for("not in flight", || device.queued.load(Relaxed) == 1)?;
        device.refuses.store(5, Relaxed);
        device.at_once.store(true, Relaxed);
        send(&other, &seen_other, 1)?;
        wait_for("the request was lost", || {
            seen_other.tally.well.load(Acquire) == 1
        })?;
        check_eq!(seen_one.tally.all(), 0);
        Ok(())
    })();
    end_all(&set, &device);
    result
}

/// Completes in batches what is in flight on `set`, for as long as somebody else has `wanted`.
/// Returns whether nothing came for long, and only came as the queues were started again.
fn complete_in_batches(set: &Arc<TagSet<'static, Waiter>>, wanted: &Arc<Stuck>) {
    let mut idle = 0;
    while !wanted.over.load(Acquire) {
        let mut nr = 0;
        for hw in set.hw_queues() {
            hw.batch(|batch| {
                for tag in 0..hw.depth() {
                    if let Some(io) = hw.take(tag) {
                        io.complete_in(batch, Status::Ok);
                        nr += 1;
                    }
                }
            });
        }
        idle = if nr == 0 { idle + 1 } else { 0 };
        fsleep(Delta::from_millis(2));
        if idle == 1000 && !wanted.over.load(Acquire) {
            wanted.is_stuck.store(true, Relaxed);
            drop(TagSet::quiesce(set.clone()));
            idle = 0;
        }
    }
    wanted.has_stopped.store(true, Release);
}

#[derive(Default)]
struct Stuck {
    over: AtomicBool,
    is_stuck: AtomicBool,
    has_stopped: AtomicBool,
}

/// What waits for room is not forgotten by a driver that completes in batches.
fn room_and_batches(scope: Scope<'static>) -> Outcome {
    let device = Device::new()?;
    device.room.store(1, Relaxed);
    // Of several queues, so that there is no I/O scheduler.
    let set = tag_set::<false, true>(scope, &device, 2)?;
    let stuck = Arc::new(Stuck::default(), GFP_KERNEL)?;
    let (theirs, wanted) = (set.clone(), stuck.clone());
    system_long().try_spawn(GFP_KERNEL, move || complete_in_batches(&theirs, &wanted))?;
    let result = (|| {
        let (disk, _) = disk(&set, 512)?;
        // Requests end on the processor that reports them, as those in a batch do.
        File::open_for(
            c"/sys/block/phyrtest0/queue/rq_affinity",
            bindings::O_WRONLY,
        )
        .and_then(|file| file.write(b"0"))?;
        let file = File::open(c"/dev/phyrtest0")?;
        let mut bytes = KVec::from_elem(0, 256 << 10, GFP_KERNEL)?;
        file.read(&mut bytes)?;
        drop(file);
        drop(disk);
        check_cmp!(device.refused.load(Relaxed), !=, 0);
        Ok(())
    })();
    stuck.over.store(true, Release);
    wait_for("the worker did not stop", || {
        stuck.has_stopped.load(Acquire)
    })?;
    check!(
        !stuck.is_stuck.load(Relaxed),
        "requests waited for room that was there"
    );
    result
}

/// `queue_rq` may sleep, and the end of a disk waits for it.
fn sleeping(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    device.at_once.store(true, Relaxed);
    device.sleeps.store(1, Relaxed);
    let set = tag_set::<true, false>(scope, &device, 2)?;
    let (disk, seen) = disk(&set, 64)?;
    check_cmp!(device.queued.load(Relaxed), !=, 0);
    send(&disk, &seen, 20)?;
    wait_for("not completed", || seen.tally.well.load(Acquire) == 20)?;
    // The request ends before the call sleeps.
    device.sleeps.store(100, Relaxed);
    send(&disk, &seen, 1)?;
    wait_for("not completed", || seen.tally.well.load(Acquire) == 21)?;
    drop(TagSet::quiesce(set.clone()));
    check_eq!(device.inside.load(Acquire), 0);
    sleeping_reader(&device, disk)
}

/// A task that reads calls `queue_rq` itself. The request ends, and nobody knows of the task but
/// who waits for the calls.
fn sleeping_reader(device: &Arc<Device>, disk: Disk<'_, Sleeper>) -> Outcome {
    let file = File::open(c"/dev/phyrtest0")?;
    let has_read = Arc::new(AtomicBool::new(false), GFP_KERNEL)?;
    let theirs = has_read.clone();
    // Longer than a removal takes by itself.
    device.sleeps.store(1500, Relaxed);
    let before = device.queued.load(Acquire);
    system_long().try_spawn(GFP_KERNEL, move || {
        // At the end, where nobody has looked for partitions.
        let _ = file.read_at(&mut [0; 512], 24 << 10);
        drop(file);
        theirs.store(true, Release);
    })?;
    wait_for("not called", || device.queued.load(Acquire) != before)?;
    drop(disk);
    let inside = device.inside.load(Acquire);
    wait_for("not read", || has_read.load(Acquire))?;
    check_eq!(inside, 0);
    Ok(())
}

/// Each tag of each queue has a slot of its own.
fn per_tag(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    let set = tag_set::<false, false>(scope, &device, 2)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = (|| {
        for round in 1..=20 {
            send(&disk, &seen, 5)?;
            wait_for("not in flight", || device.queued.load(Relaxed) == 5 * round)?;
            while complete_one(&set) {}
            wait_for("not completed", || {
                seen.tally.well.load(Acquire) == 5 * round
            })?;
        }
        check_eq!(device.mixed_up.load(Relaxed), 0);
        Ok(())
    })();
    end_all(&set, &device);
    result
}

/// Coherent memory as a range, as a whole and in parts.
fn coherent(scope: Scope<'_>) -> Outcome {
    let dev = scope.device();
    let table: Coherent<[[u64; 4]]> = Coherent::zeroed_slice(dev, 128, GFP_KERNEL)?;
    let all = DmaVec::from(&table);
    check_eq!(all.len(), 4096);
    check_eq!(all.addr().into_raw(), table.dma_address());
    let part = |n: usize| -> Result<DmaVec> { Ok(io_project!(&table, [try: n]).into()) };
    for n in [0, 1, 127] {
        let vec = part(n)?;
        // CAST: a small number.
        check_eq!(vec.len(), 32);
        check_eq!(vec.addr().into_raw(), all.addr().into_raw() + 32 * n as u64);
    }
    let one: Coherent<u64> = Coherent::zeroed(dev, GFP_KERNEL)?;
    check_eq!(DmaVec::from(&one).len(), 8);
    check!(part(128).is_err());
    Ok(())
}

#[kunit_tests(phyr_device_blk)]
mod tests {
    use super::*;

    fn run(test: impl FnOnce(Scope<'_>) -> Outcome) -> Outcome {
        with_dma_api(|_, _| test(binding()?.scope))
    }

    #[test]
    fn attributes_are_there_with_the_disk() -> Outcome {
        run(attributes)
    }

    #[test]
    fn a_geometry_outlives_the_disk() -> Outcome {
        run(geometry)
    }

    #[test]
    fn a_number_is_free_with_its_disk() -> Outcome {
        run(numbers)
    }

    #[test]
    fn what_is_aborted_times_out_at_once() -> Outcome {
        run(abort)
    }

    #[test]
    fn what_completes_meanwhile_ends_once() -> Outcome {
        run(abort_and_complete)
    }

    #[test]
    fn room_comes_with_a_completion() -> Outcome {
        run(room)
    }

    #[test]
    fn room_is_not_asked_for_meanwhile() -> Outcome {
        run(room_is_waited_for)
    }

    #[test]
    fn nothing_waits_for_room_that_nothing_makes() -> Outcome {
        run(room_that_nothing_makes)
    }

    #[test]
    fn nothing_waits_for_another_disk() -> Outcome {
        run(room_of_another_disk)
    }

    #[test]
    fn what_waits_for_room_is_seen_by_batches() -> Outcome {
        with_dma_api(|_, _| room_and_batches(binding()?.scope))
    }

    #[test]
    fn queue_rq_may_sleep() -> Outcome {
        run(sleeping)
    }

    #[test]
    fn each_tag_has_its_own() -> Outcome {
        run(per_tag)
    }

    #[test]
    fn coherent_memory_is_a_range() -> Outcome {
        run(coherent)
    }
}
