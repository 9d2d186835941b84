// SPDX-License-Identifier: GPL-2.0

//! The I/O path: request in, command out, and back.
//!
//! ```text
//!            map()            describe()          park(), submit()
//!  Request ---------> DmaVec -----------> PRP ------------------> ring, doorbell
//!                                         or SGL                        |
//!  end() <-- unmap() <-- complete() <-- take_generation() <-- interrupt <-'
//! ```
//!
//! The command identifier ([`Cid`]) is the request's tag, with a generation that changes each time
//! the tag is used. What the controller reports is looked up in the table of what is in flight, so
//! a wrong identifier finds nothing, and neither does one that comes twice or late.
//!
//! There is one queue pair per hardware queue of blk-mq. The two locks are the queue's: submitters
//! of one queue share one, those who read its completions the other: the interrupt handler,
//! [`timeout`](Operations::timeout) and the reset. On the I/O path nothing allocates, and nothing
//! sleeps but `timeout`.

use super::{
    attributes,
    cmd::{
        self,
        Blocks,
        Cid,
        Command, //
    },
    completion,
    ctrl::Ctrl,
    desc::{
        Kind,
        List,
        Pointer,
        Range,
        Unfit, //
    },
    generic::Transfer,
    identify::Namespace,
    layout::{
        Layout,
        PAGE_SIZE, //
    },
    map::Span,
    queue::{
        Cq,
        Sq, //
    },
    ratelimit::RateLimit,
    regs::{
        cq_doorbell,
        sq_doorbell, //
    },
    reset,
    slots::{
        Slot,
        Slots, //
    },
};
use kernel::{
    irq::{
        Handler,
        IrqReturn, //
    },
    new_spinlock,
    new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SpinLock,
        SpinLockIrq, //
    },
    time::{
        ClockSource,
        Monotonic, //
    }, //
};
use phyr::{
    trace,
    DmaVecs, //
};
use phyr_blk::{
    Attribute,
    Batch,
    Expired,
    Generation,
    HwCtx,
    Mapped,
    Op,
    Operations,
    Queued,
    Ranges,
    Refused,
    Request,
    Status,
    TagSet,
    TimeoutAction, //
};

/// How often a request is tried again: as often as the C driver does by default.
const MAX_RETRIES: u8 = 5;

/// How many completions are taken before who waits for the lock gets it, and interrupts are on
/// again where they were: a timeout or a reset has them off meanwhile.
const AT_ONCE: u16 = 64;

/// Messages of commands that have failed.
static FAILED: RateLimit = RateLimit::new();

/// A pair of rings, and its commands' descriptor memory.
#[pin_data]
pub(crate) struct IoQueue<'bound> {
    ctrl: Arc<Ctrl<'bound>>,
    qid: u16,
    vector: u16,
    layout: Layout,
    slots: Slots,
    #[pin]
    sq: SpinLock<Sq<'bound>>,
    #[pin]
    cq: SpinLockIrq<Cq<'bound>>,
    /// A completion named no command in flight.
    warned: Atomic<bool>,
}

impl<'bound> IoQueue<'bound> {
    /// Allocates the memory of queue `qid`, which completes to interrupt `vector`.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: the BAR has no doorbells for it.
    /// - [`ENOMEM`]: memory is short.
    pub(crate) fn new(
        ctrl: Arc<Ctrl<'bound>>,
        qid: u16,
        vector: u16,
        layout: Layout,
    ) -> Result<Arc<Self>> {
        let (dev, bar) = (ctrl.device(), ctrl.bar());
        let (entries, stride) = (layout.entries, ctrl.caps().doorbell_stride);
        let sq = Sq::new(dev, bar.clone(), entries, sq_doorbell(qid, stride))?;
        let cq = Cq::new(dev, bar.clone(), entries, cq_doorbell(qid, stride))?;
        let depth = usize::from(layout.depth());
        let slots = Slots::new(dev, depth, layout.slot_words(), PAGE_SIZE, layout.chain)?;

        Arc::pin_init(
            pin_init!(Self {
                ctrl,
                qid,
                vector,
                layout,
                slots,
                sq <- new_spinlock!(sq),
                cq <- new_spinlock_irq!(cq),
                warned: Atomic::new(false),
            }),
            GFP_KERNEL,
        )
    }

    /// Empties the rings and tells the controller of them. It must not know of them before.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::run`](super::admin::Admin::run).
    pub(crate) fn create(&self) -> Result {
        let entries = self.layout.entries;
        let sq = {
            let mut sq = self.sq.lock();
            sq.reset();
            sq.addr()
        };
        let cq = {
            let mut cq = self.cq.lock();
            cq.reset();
            cq.addr()
        };

        self.ctrl
            .run(Command::create_cq(self.qid, entries, cq, self.vector))?;
        self.ctrl.run(Command::create_sq(self.qid, entries, sq))?;
        Ok(())
    }

    /// Makes the controller forget the rings.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::run`](super::admin::Admin::run).
    pub(crate) fn delete(&self) -> Result {
        self.ctrl.run(Command::delete_sq(self.qid))?;
        self.ctrl.run(Command::delete_cq(self.qid))?;
        Ok(())
    }

    /// Its interrupt vector.
    pub(crate) fn vector(&self) -> u16 {
        self.vector
    }

    /// Puts `io` in flight and sends its command.
    #[inline(always)]
    fn start(&self, io: Mapped<'_, 'bound, Nvme>, command: Command, last: bool) {
        let generation = io.generation();
        // From here on the request is the completion's: the doorbell comes after.
        let tag = io.park();
        let cid = Cid { tag, generation };
        self.submit(&command.with_cid(cid.into_raw()), last);
    }

    #[inline]
    fn submit(&self, command: &Command, last: bool) {
        let mut sq = self.sq.lock();

        sq.push(command);
        if last {
            sq.commit();
        }
    }

    /// Finishes what the controller has completed. Returns whether there was anything.
    ///
    /// No more than one turn of the ring: a proper controller adds none before the doorbell, and
    /// one that never stops shall not hold the CPU.
    pub(crate) fn process(&self, hw: &HwCtx<'bound, Nvme>) -> bool {
        hw.batch(|batch| {
            let mut left = self.layout.entries;
            while left > 0 {
                let most = left.min(AT_ONCE);
                let taken = self.process_some(hw, batch, most);
                left -= taken;
                if taken < most {
                    break;
                }
            }
            left < self.layout.entries
        })
    }

    /// Finishes up to `most` completions. Returns how many there were.
    ///
    /// Under the lock, as `nvme_poll()` does: each completion is read once, and whoever gets the
    /// lock next knows that none has been read whose request is still in flight. When all is well
    /// nobody wants it but the queue's interrupt; else a timeout or a reset does.
    fn process_some(&self, hw: &HwCtx<'bound, Nvme>, batch: &mut Batch<Nvme>, most: u16) -> u16 {
        let mut cq = self.cq.lock();
        let mut taken = 0;

        while taken < most {
            let Some(completion) = cq.pop() else {
                break;
            };
            taken += 1;
            let cid = Cid::from_raw(completion.cid);
            match hw.take_generation(cid.tag, cid.generation) {
                Some(io) if completion.status.is_ok() => io.complete_in(batch, Status::Ok),
                Some(io) => self.fail(io, completion.status),
                None => self.warn_of(completion.cid),
            }
        }
        cq.commit();
        taken
    }

    /// Tries a request again that the controller says has failed, or ends it, with a message.
    #[cold]
    fn fail(&self, io: Mapped<'_, 'bound, Nvme>, status: completion::Status) {
        let may_retry = status.may_retry();
        if !io.is_quiet() && !will_retry(&io, may_retry) {
            self.say_failed(&io, status);
        }
        settle(io, may_retry, status.to_blk());
    }

    /// Says what the controller did not do, and why: as `nvme_log_error()`, with the namespace.
    fn say_failed(&self, io: &Mapped<'_, 'bound, Nvme>, status: completion::Status) {
        let Some(missed) = FAILED.next(Monotonic::ktime_get()) else {
            return;
        };
        if missed != 0 {
            dev_err!(self.ctrl.device(), "{missed} more commands have failed\n");
        }
        let ns = io.disk();
        let transfer = io.passthrough();
        let first = transfer.map_or(io.sector() >> (ns.shift - 9), Transfer::first_block);
        let blocks = transfer.map_or(io.bytes(), Transfer::len) >> ns.shift;
        let command = match (io.op(), transfer) {
            (Op::Flush, _) => "Flush(0x0)",
            (Op::Write, _) => "Write(0x1)",
            (Op::Read, _) => "Read(0x2)",
            (Op::WriteZeroes, _) => "Write Zeroes(0x8)",
            (Op::Discard, _) => "Dataset Management(0x9)",
            (_, Some(transfer)) if transfer.is_write() => "Write(0x1) of a dma-buf",
            _ => "Read(0x2) of a dma-buf",
        };
        dev_err!(
            self.ctrl.device(),
            "namespace {}: {} @ LBA {}, {} blocks, {}\n",
            ns.id,
            command,
            first,
            blocks,
            status
        );
    }

    /// Once for each queue: the controller could give cause without end.
    #[cold]
    fn warn_of(&self, cid: u16) {
        if !self.warned.xchg(true, Relaxed) {
            dev_warn!(
                self.ctrl.device(),
                "queue {}: no command {:#x} is in flight; this is not said again\n",
                self.qid,
                cid
            );
        }
    }

    /// Describes the data of `io`. Of one range that a command has room for, at once. [`None`]: the
    /// disk's limits exclude it.
    #[inline(always)]
    fn describe(&self, io: &Mapped<'_, 'bound, Nvme>) -> Option<Pointer> {
        let only = io.dma_vec().map(Range::from);
        if let Some(pointer) = only.and_then(|range| self.layout.format.shortest(range)) {
            self.trace(&pointer);
            return Some(pointer);
        }
        self.describe_vecs(io.dma_vecs(), io.bytes(), io.tag())
    }

    /// Describes `vecs`, of `bytes` in all, if need be with a list in the slot of `tag`.
    #[inline(never)]
    fn describe_vecs(&self, vecs: DmaVecs<'_>, bytes: u32, tag: u16) -> Option<Pointer> {
        let count = vecs.len();
        if count == 1 {
            let only = vecs.clone().next().map(Range::from);
            if let Some(pointer) = only.and_then(|range| self.layout.format.short(range)) {
                self.trace(&pointer);
                return Some(pointer);
            }
        }
        let mut slot = self.slots.get(tag)?;
        self.describe_ranges(vecs.map(Range::from), count, bytes, &mut slot)
            .ok()
    }

    /// Describes `count` ranges of `bytes` in all.
    fn describe_ranges(
        &self,
        ranges: impl Iterator<Item = Range> + Clone,
        count: usize,
        bytes: u32,
        slot: &mut Slot<'_>,
    ) -> Result<Pointer, Unfit> {
        let pointer = self.layout.format.describe(ranges, count, bytes, slot)?;
        self.trace(&pointer);
        Ok(pointer)
    }

    #[inline]
    fn trace(&self, pointer: &Pointer) {
        let kind = match pointer.kind {
            Kind::Prp => trace::Descriptors::Prp,
            Kind::Sgl => trace::Descriptors::Sgl,
        };
        trace::descriptors(self.ctrl.device(), kind, pointer.entries);
    }

    /// The command for `io`, which reads or writes. [`None`]: the disk's limits exclude it.
    #[inline(always)]
    fn transfer(&self, ns: &Namespace, io: &Mapped<'_, 'bound, Nvme>) -> Option<Command> {
        let blocks = Blocks::new(io.sector(), io.bytes(), ns.shift)?;
        let data = self.describe(io)?;

        Some(match io.op() {
            Op::Write => Command::write(ns.id, blocks, &data, io.is_fua()),
            _ => Command::read(ns.id, blocks, &data),
        })
    }

    /// The command for `io`, which does not read or write, or is not the block layer's.
    ///
    /// # Errors
    ///
    /// What the request is to end with. The disk's limits exclude all of them but
    /// [`Status::NotSupported`].
    fn command(&self, ns: &Namespace, io: &Mapped<'_, 'bound, Nvme>) -> Result<Command, Status> {
        let blocks = Blocks::new(io.sector(), io.bytes(), ns.shift).ok_or(Status::Invalid);
        let mut slot = self.slots.get(io.tag()).ok_or(Status::Invalid)?;

        Ok(match io.op() {
            Op::Flush => Command::flush(ns.id),
            Op::WriteZeroes => {
                let deallocate = ns.zeroes_when_deallocated && !io.is_nounmap();
                Command::write_zeroes(ns.id, blocks?, io.is_fua(), deallocate)
            }
            Op::Discard => {
                let last = put_ranges(io.ranges(), ns.shift, &mut slot).ok_or(Status::Invalid)?;
                Command::discard(ns.id, slot.addr(), last)
            }
            Op::Passthrough => {
                let transfer = io.passthrough().ok_or(Status::NotSupported)?;
                let describe = |ranges, span: Span| {
                    // CAST: A count of 32 bits fits in a `usize`.
                    self.describe_ranges(ranges, span.count() as usize, span.len(), &mut slot)
                };
                transfer
                    .command(ns.id, describe)
                    .map_err(|_| Status::Invalid)?
            }
            _ => return Err(Status::NotSupported),
        })
    }
}

/// Writes what a discard names to `slot`. Returns the number of ranges, less one. [`None`]: the
/// disk's limits exclude it.
fn put_ranges(ranges: Ranges<'_>, shift: u32, slot: &mut Slot<'_>) -> Option<u8> {
    let mut count = 0usize;
    for range in ranges {
        let at = count * cmd::DSM_RANGE_WORDS;
        if at + cmd::DSM_RANGE_WORDS > slot.words() {
            return None;
        }
        let [length, first] = cmd::dsm_range(range.sector, range.sectors, shift);
        slot.put(at, length);
        slot.put(at + 1, first);
        count += 1;
    }
    u8::try_from(count.checked_sub(1)?).ok()
}

/// What neither reads nor writes, apart from the short way of what does.
#[inline(never)]
fn queue_other<'a, 'bound>(
    queue: &IoQueue<'bound>,
    ns: &Namespace,
    io: Mapped<'a, 'bound, Nvme>,
    last: bool,
) -> Queued<'a, 'bound, Nvme> {
    match queue.command(ns, &io) {
        Ok(command) => queue.start(io, command, last),
        Err(status) => return Err(Refused::Failed(io.unmap(), status)),
    }
    Ok(())
}

/// Returns whether [`settle`] tries a request again.
fn will_retry(io: &Mapped<'_, '_, Nvme>, may_retry: bool) -> bool {
    may_retry && !io.is_noretry() && io.data().0 < MAX_RETRIES
}

/// Tries a request again, if that makes sense, or ends it with `status`. The controller is done
/// with it.
pub(crate) fn settle(mut io: Mapped<'_, '_, Nvme>, may_retry: bool, status: Status) {
    if will_retry(&io, may_retry) {
        io.data_mut().0 += 1;
        io.unmap().requeue();
    } else {
        io.complete(status);
    }
}

/// How often a request was tried again.
#[derive(Default)]
pub(crate) struct Retries(u8);

/// The driver, as blk-mq sees it.
pub(crate) struct Nvme;

impl Operations for Nvme {
    type Module = super::DriverModule;
    type HwQueue<'bound> = Arc<IoQueue<'bound>>;
    type DiskData<'bound> = Namespace;
    type RequestData = Retries;
    type Passthrough = Transfer;
    type PerTag<'bound> = ();
    type Completion = Generation;

    const ATTRIBUTES: &'static [Attribute<Self>] = attributes::ATTRIBUTES;

    // Into the one function of `phyr_blk` that calls it.
    #[inline(always)]
    fn queue_rq<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        ns: &Namespace,
        rq: Request<'a, 'bound, Self>,
        last: bool,
    ) -> Queued<'a, 'bound, Self> {
        let queue = hw.queue();
        if !queue.ctrl.is_live() {
            return Err(if queue.ctrl.is_dead() {
                Refused::Failed(rq, Status::IoErr)
            } else {
                Refused::Busy(rq)
            });
        }

        let io = rq.map()?;
        let command = match io.op() {
            Op::Read | Op::Write => queue.transfer(ns, &io),
            _ => return queue_other(queue, ns, io, last),
        };
        match command {
            Some(command) => queue.start(io, command, last),
            None => return Err(Refused::Failed(io.unmap(), Status::Invalid)),
        }
        Ok(())
    }

    fn commit_rqs<'a, 'bound>(hw: &'a HwCtx<'bound, Self>) {
        hw.queue().sq.lock().commit();
    }

    fn timeout<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        expired: Expired<'a, 'bound, Self>,
    ) -> TimeoutAction {
        let queue = hw.queue();
        let ctrl = &queue.ctrl;
        let generation = ctrl.generation();

        // Was an interrupt missed?
        let found = queue.process(hw);
        if !expired.is_in_flight() {
            if found {
                dev_warn!(
                    ctrl.device(),
                    "queue {}: a completion came without interrupt\n",
                    queue.qid
                );
            }
            return TimeoutAction::Done;
        }
        dev_warn!(
            ctrl.device(),
            "queue {}: command {} timed out; resetting the controller\n",
            queue.qid,
            expired.tag()
        );
        reset::recover(ctrl, hw.tag_set().into(), generation);
        // By now it is not. Were it, its timer would have to be what comes back for it.
        if expired.is_in_flight() {
            TimeoutAction::ResetTimer
        } else {
            TimeoutAction::Done
        }
    }
}

/// The interrupt of one I/O queue.
pub(crate) struct Interrupt<'bound> {
    pub(crate) tags: Arc<TagSet<'bound, Nvme>>,
    pub(crate) index: usize,
}

impl Handler for Interrupt<'_> {
    fn handle(&self) -> IrqReturn {
        match self.tags.hw(self.index) {
            Some(hw) if hw.queue().process(hw) => IrqReturn::Handled,
            _ => IrqReturn::None,
        }
    }
}
