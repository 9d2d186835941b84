// SPDX-License-Identifier: GPL-2.0

//! The operations of blk-mq, and the interrupt handler.
//!
//! ```text
//!            map()            setup                 start()
//!  Request ---------> DmaVec -------> PRP or SGL ------------> ring, doorbell
//!                                     in a command                   |
//!  end() <-- unmap() <-- complete() <-- complete_generation() <-- interrupt
//! ```
//!
//! There is one queue pair ([`IoQueue`]) for each hardware queue of blk-mq. On the I/O path nothing
//! allocates, and nothing sleeps but [`timeout`](Operations::timeout).

use super::{
    cmd::SubmissionEntry,
    disk,
    io_queue::IoQueue,
    namespace::Namespace,
    payload::Payload,
    request::{
        NvmeBlk,
        Retries, //
    },
    reset, //
};
use kernel::{
    irq::{
        Handler,
        IrqReturn, //
    },
    prelude::*,
    sync::Arc, //
};
use phyr_blk::{
    Attribute,
    Expired,
    HwCtx,
    Mapped,
    Op,
    Operations,
    QueueRqError,
    QueueRqResult,
    Request,
    Status,
    TagAndGeneration,
    TagSet,
    TimeoutAction, //
};

impl Operations for NvmeBlk {
    type Module = super::DriverModule;
    type HwQueue<'bound> = Arc<IoQueue<'bound>>;
    type DiskData<'bound> = Namespace;
    type RequestData = Retries;
    type Passthrough = Payload;
    type PerTag<'bound> = ();
    type CompletionId = TagAndGeneration;

    const MAPS_LISTS: bool = true;

    const ATTRIBUTES: &'static [Attribute<Self>] = disk::ATTRIBUTES;

    // Into the one function of `phyr_blk` that calls it.
    #[inline(always)]
    fn queue_rq<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        ns: &Namespace,
        rq: Request<'a, 'bound, Self>,
        last: bool,
    ) -> QueueRqResult<'a, 'bound, Self> {
        let queue = hw.queue();
        let state = queue.ctrl().state();
        if !state.is_live() {
            return Err(if state.is_dead() {
                QueueRqError::Failed(rq, Status::IoErr)
            } else {
                QueueRqError::Resource(rq)
            });
        }

        let mut io = rq.map()?;
        let command = match io.op() {
            Op::Read | Op::Write => queue.setup().read_write(ns, &mut io),
            Op::Passthrough => return queue_own(queue, ns, io, last),
            _ => return queue_other(queue, ns, io, last),
        };
        // As `start()`, which would take the most common request two instructions more.
        match command {
            Ok(command) => queue.start(io, command, last),
            Err(status) => return Err(QueueRqError::Failed(io.unmap(), status)),
        }
        Ok(())
    }

    fn commit_rqs<'a, 'bound>(hw: &'a HwCtx<'bound, Self>) {
        hw.queue().commit();
    }

    fn timeout<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        expired: Expired<'a, 'bound, Self>,
    ) -> TimeoutAction {
        let queue = hw.queue();
        let ctrl = queue.ctrl();
        let generation = ctrl.state().generation();

        // Was an interrupt missed?
        let found = queue.process(hw);
        if !expired.is_in_flight() {
            if found {
                dev_warn!(
                    ctrl.device(),
                    "queue {}: a completion came without interrupt\n",
                    queue.qid()
                );
            }
            return TimeoutAction::Done;
        }
        dev_warn!(
            ctrl.device(),
            "queue {}: command {} timed out; resetting the controller\n",
            queue.qid(),
            expired.tag()
        );
        reset::recover(ctrl, hw.tag_set().into(), generation);
        // `recover()` has taken it out of flight; otherwise keep the timer running.
        if expired.is_in_flight() {
            TimeoutAction::ResetTimer
        } else {
            TimeoutAction::Done
        }
    }
}

/// Starts a request with its `command`, or gives it back with the reason why it has none.
#[inline(always)]
fn start<'a, 'bound>(
    queue: &IoQueue<'bound>,
    io: Mapped<'a, 'bound, NvmeBlk>,
    command: Result<impl SubmissionEntry, Status>,
    last: bool,
) -> QueueRqResult<'a, 'bound, NvmeBlk> {
    match command {
        Ok(command) => queue.start(io, command, last),
        Err(status) => return Err(QueueRqError::Failed(io.unmap(), status)),
    }
    Ok(())
}

/// Starts a request for a command of user space.
#[inline(never)]
fn queue_own<'a, 'bound>(
    queue: &IoQueue<'bound>,
    ns: &Namespace,
    mut io: Mapped<'a, 'bound, NvmeBlk>,
    last: bool,
) -> QueueRqResult<'a, 'bound, NvmeBlk> {
    if io.passthrough().and_then(Payload::passthru).is_some() {
        return queue_passthru(queue, io, last);
    }
    let command = queue.setup().transfer(ns, &mut io);
    start(queue, io, command, last)
}

/// Starts a request that neither reads nor writes. Not inlined into the I/O path of the others.
#[inline(never)]
fn queue_other<'a, 'bound>(
    queue: &IoQueue<'bound>,
    ns: &Namespace,
    mut io: Mapped<'a, 'bound, NvmeBlk>,
    last: bool,
) -> QueueRqResult<'a, 'bound, NvmeBlk> {
    let command = queue.setup().other(ns, &mut io);
    start(queue, io, command, last)
}

/// Starts a command of user space that is sent as it is.
#[inline(never)]
fn queue_passthru<'a, 'bound>(
    queue: &IoQueue<'bound>,
    mut io: Mapped<'a, 'bound, NvmeBlk>,
    last: bool,
) -> QueueRqResult<'a, 'bound, NvmeBlk> {
    let command = queue.setup().passthru(&mut io);
    start(queue, io, command, last)
}

/// The interrupt of one I/O queue.
pub(crate) struct Interrupt<'bound> {
    pub(crate) tags: Arc<TagSet<'bound, NvmeBlk>>,
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
