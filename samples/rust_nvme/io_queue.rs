// SPDX-License-Identifier: GPL-2.0

//! I/O queues: commands on their way to the controller, and completions on their way back.
//!
//! The command identifier ([`Cid`]) is the request's tag, with a generation that changes each time
//! the tag is used. The identifier of a completion is looked up in the table of requests in flight,
//! so that a wrong one finds nothing, and neither does one that comes twice or late.
//!
//! A queue has two locks: one to submit, and one to process completions, which the interrupt
//! handler, timeouts and resets do.

use super::{
    cmd::{
        Cid,
        Command,
        SubmissionEntry, //
    },
    completion::{
        Completion,
        NvmeStatus, //
    },
    ctrl::Ctrl,
    layout::Layout,
    payload::Payload,
    queue::{
        Cq,
        Sq, //
    },
    regs::{
        cq_doorbell,
        sq_doorbell, //
    },
    request::{
        self,
        NvmeBlk, //
    },
    setup::Setup, //
};
use kernel::{
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
        SpinLockIrq,
        SpinLockIrqGuard, //
    }, //
};
use phyr_blk::{
    CompletionBatch,
    HwCtx,
    Mapped,
    Op,
    Status, //
};

/// Completions that are processed before the lock is released and interrupts can be enabled: a
/// timeout or a reset has them disabled meanwhile.
const AT_ONCE: u16 = 64;

/// A pair of rings.
#[pin_data]
pub(crate) struct IoQueue<'bound> {
    ctrl: Arc<Ctrl<'bound>>,
    qid: u16,
    vector: u16,
    entries: u16,
    setup: Setup<'bound>,
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
        let setup = Setup::new(dev, layout.format);

        Arc::pin_init(
            pin_init!(Self {
                ctrl,
                qid,
                vector,
                entries,
                setup,
                sq <- new_spinlock!(sq),
                cq <- new_spinlock_irq!(cq),
                warned: Atomic::new(false),
            }),
            GFP_KERNEL,
        )
    }

    /// Empties the rings and makes the controller create the queues. It must not have them already.
    ///
    /// # Errors
    ///
    /// Those of [`Ctrl::run`].
    pub(crate) fn create(&self) -> Result {
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
            .run(Command::create_cq(self.qid, self.entries, cq, self.vector))?;
        self.ctrl
            .run(Command::create_sq(self.qid, self.entries, sq))?;
        Ok(())
    }

    /// Makes the controller delete the queues.
    ///
    /// # Errors
    ///
    /// Those of [`Ctrl::run`].
    pub(crate) fn delete(&self) -> Result {
        self.ctrl.run(Command::delete_sq(self.qid))?;
        self.ctrl.run(Command::delete_cq(self.qid))?;
        Ok(())
    }

    /// Returns the controller.
    #[inline]
    pub(crate) fn ctrl(&self) -> &Ctrl<'bound> {
        &self.ctrl
    }

    /// Returns the number of the queue.
    pub(crate) fn qid(&self) -> u16 {
        self.qid
    }

    /// Returns the interrupt vector.
    pub(crate) fn vector(&self) -> u16 {
        self.vector
    }

    /// Returns the [`Setup`] of its commands.
    #[inline]
    pub(crate) fn setup(&self) -> &Setup<'bound> {
        &self.setup
    }

    /// Puts `io` in flight and submits its command. The doorbell is rung if it is the `last` one of
    /// several.
    #[inline(always)]
    pub(crate) fn start(
        &self,
        io: Mapped<'_, 'bound, NvmeBlk>,
        command: impl SubmissionEntry,
        last: bool,
    ) {
        // From here on the request is the completion's: the doorbell comes after.
        let (tag, generation) = io.put_in_flight_with_generation();
        let cid = Cid { tag, generation };
        self.submit(command.with_cid(cid.into_raw()), last);
    }

    #[inline]
    fn submit(&self, command: impl SubmissionEntry, last: bool) {
        let mut sq = self.sq.lock();

        sq.push(command);
        if last {
            sq.commit();
        }
    }

    /// Rings the doorbell, if commands were submitted since it was rung last.
    pub(crate) fn commit(&self) {
        self.sq.lock().commit();
    }

    /// Finishes the requests that the controller has completed. Returns whether there were any.
    pub(crate) fn process(&self, hw: &HwCtx<'bound, NvmeBlk>) -> bool {
        let mut cq = self.cq.lock();
        let Some(completion) = cq.pop() else {
            return false;
        };
        if !cq.is_empty() {
            self.process_several(hw, cq, completion);
            return true;
        }
        cq.commit();
        // Under the lock, as `process_several()` does. The rest is the request's alone, but where
        // `fail_io_timeout` loses its completion: it is in flight again then, for its timeout.
        let cid = Cid::from_raw(completion.cid());
        let io = hw.complete_generation(cid.tag, cid.generation);
        drop(cq);
        let status = completion.status();
        match io {
            Some(io) if io.op() == Op::Passthrough => {
                self.finish_own(io, status, completion.result, &mut Alone);
            }
            Some(io) if status.is_ok() => io.complete(Status::Ok),
            Some(io) => request::fail(self.ctrl.device(), io, status),
            None => self.warn_of(completion.cid()),
        }
        true
    }

    /// Finishes the request of `first`, and those of the other completions, together.
    ///
    /// One turn of the ring at most: a proper controller adds no completion before the doorbell,
    /// and a broken one cannot occupy the CPU for ever.
    ///
    /// The requests are finished under the lock, as in `nvme_poll()`: each completion is read once,
    /// and the next owner of the lock can rely on it that no completion was read whose request is
    /// still in flight. Usually only the queue's interrupt takes the lock; a timeout or a reset
    /// does, too.
    // Apart: what is set up for many is nothing to one.
    #[inline(never)]
    fn process_several<'q>(
        &'q self,
        hw: &HwCtx<'bound, NvmeBlk>,
        mut cq: SpinLockIrqGuard<'q, Cq<'bound>>,
        first: Completion,
    ) {
        hw.batch(|batch| {
            let (mut next, mut left) = (Some(first), self.entries);
            while let Some(completion) = next {
                let (cid, status) = (Cid::from_raw(completion.cid()), completion.status());
                match hw.complete_generation(cid.tag, cid.generation) {
                    Some(io) if io.op() == Op::Passthrough => {
                        self.finish_own(io, status, completion.result, batch);
                    }
                    Some(io) if status.is_ok() => io.complete_in(batch, Status::Ok),
                    Some(io) => request::fail(self.ctrl.device(), io, status),
                    None => self.warn_of(completion.cid()),
                }
                left -= 1;
                if left == 0 {
                    break;
                }
                if left % AT_ONCE == 0 {
                    cq.commit();
                    drop(cq);
                    cq = self.cq.lock();
                }
                next = cq.pop();
            }
            cq.commit();
            drop(cq);
        });
    }

    /// Finishes a request of the driver's own.
    #[inline(never)]
    fn finish_own(
        &self,
        mut io: Mapped<'_, 'bound, NvmeBlk>,
        status: NvmeStatus,
        result: u64,
        with: &mut impl Complete<'bound>,
    ) {
        match io.passthrough_mut().and_then(Payload::passthru_mut) {
            // Its sender sees what has failed.
            Some(passthru) => {
                passthru.set_answer(status, result);
                with.complete(io, status.to_blk());
            }
            // Its data is the buffer's, which stays mapped.
            None if status.is_ok() => with.complete_unmapped(io, Status::Ok),
            None => request::fail(self.ctrl.device(), io, status),
        }
    }

    /// Logs a completion without a request; once for each queue, as a broken controller could cause
    /// it without end.
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
}

/// The way in which requests complete: alone, or with others.
trait Complete<'bound> {
    /// Completes a request with `status`.
    fn complete(&mut self, io: Mapped<'_, 'bound, NvmeBlk>, status: Status);

    /// Completes a request that has nothing to unmap.
    fn complete_unmapped(&mut self, io: Mapped<'_, 'bound, NvmeBlk>, status: Status);
}

/// The only request that an interrupt has found: nothing is set up to flush or to end it with
/// others.
struct Alone;

impl<'bound> Complete<'bound> for Alone {
    #[inline(always)]
    fn complete(&mut self, io: Mapped<'_, 'bound, NvmeBlk>, status: Status) {
        io.complete(status);
    }

    #[inline(always)]
    fn complete_unmapped(&mut self, io: Mapped<'_, 'bound, NvmeBlk>, status: Status) {
        io.complete(status);
    }
}

impl<'bound> Complete<'bound> for CompletionBatch<'_, 'bound, NvmeBlk> {
    #[inline(always)]
    fn complete(&mut self, io: Mapped<'_, 'bound, NvmeBlk>, status: Status) {
        io.complete_in(self, status);
    }

    #[inline(always)]
    fn complete_unmapped(&mut self, io: Mapped<'_, 'bound, NvmeBlk>, status: Status) {
        io.complete_unmapped_in(self, status);
    }
}
