// SPDX-License-Identifier: GPL-2.0

//! What a driver implements, and what it answers.
//!
//! C: `struct blk_mq_ops` ([`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)).

use super::{
    attribute::Attribute,
    completion::Completion,
    hw::HwCtx,
    inflight::Count,
    mapped::{
        MapError,
        Mapped, //
    },
    passthrough::Passthrough,
    request::Request,
    status::Status, //
};
use kernel::{
    module::ModuleMetadata,
    prelude::*, //
};

/// The answer to [`Operations::queue_rq`].
pub type Queued<'a, 'bound, T> = Result<(), Refused<'a, 'bound, T>>;

/// A block driver.
///
/// `'bound` is how long the driver is bound to its device, `'a` is one call.
pub trait Operations: Sized + 'static {
    /// The module with the driver's code, as `module!` and its like name it. It cannot be unloaded
    /// while one of its disks is open.
    type Module: ModuleMetadata;

    /// The driver's data of each hardware queue, such as a ring.
    type HwQueue<'bound>: Send + Sync + 'bound;

    /// The driver's data of each disk, such as a namespace's number.
    type DiskData<'bound>: Send + Sync + 'bound;

    /// The driver's data in each request. It is new when a request comes for the first time,
    /// and survives [`Request::requeue`]. Keep it small and simple: no allocation.
    type RequestData: Default + Send + 'static;

    /// The driver's data of each tag of each hardware queue, such as the command table that a
    /// device has for each of its slots, in DMA memory; `()` for a driver that keeps none.
    ///
    /// It is made with the [tag set](super::TagSet::with_per_tag) and stays with the tag, unlike
    /// [`Operations::RequestData`]. The owner of the request that has the tag has it, too, and
    /// nobody else: [`Mapped::per_tag`](super::Info::per_tag), [`Mapped::per_tag_mut`],
    /// [`Request::per_tag_mut`].
    type PerTag<'bound>: Send + 'bound;

    /// The way in which the device tells which request has completed:
    /// [`Generation`](super::Generation) in its identifier, or [`TagOnly`](super::TagOnly), which
    /// has a rule for the driver.
    type Completion: Completion;

    /// The content of a request that the driver makes itself, by a [`Queue`](super::Queue); for a
    /// driver that makes none, [`Infallible`](core::convert::Infallible).
    type Passthrough: Passthrough;

    /// Says whether [`Operations::queue_rq`] and [`Operations::commit_rqs`] sleep, such as for a
    /// mutex or a bus that is slow to talk to.
    ///
    /// Requests are then handed over by a worker or by a task that may sleep, which costs time.
    /// [`Request::map`] and all else work as always.
    ///
    /// C: `BLK_MQ_F_BLOCKING`.
    const BLOCKING: bool = false;

    /// Says whether [`Refused::DevBusy`] waits for a request to complete; otherwise it is the same
    /// as [`Refused::Busy`]. If so, requests end one by one: [batches](HwCtx::batch) do not look
    /// for requests that wait.
    const WAITS_FOR_ROOM: bool = false;

    /// The driver's files in the folder of each disk in sysfs.
    const ATTRIBUTES: &'static [Attribute<Self>] = &[];

    /// Starts a request. `last` tells that no other follows at once: ring the doorbell.
    ///
    /// The request has been started: its timer runs. `Ok` means that the driver has dealt with it,
    /// commonly by [`Mapped::park`]. What a driver held back of earlier requests that were not
    /// `last` it has to submit by the `last` one, or in [`Operations::commit_rqs`], which follows
    /// when a request is refused.
    ///
    /// Context: atomic, on any CPU; process context if [`Operations::BLOCKING`]. Calls of one
    /// hardware queue can run at the same time.
    ///
    /// # Errors
    ///
    /// [`Refused`] gives the request back to blk-mq.
    fn queue_rq<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        disk: &Self::DiskData<'bound>,
        rq: Request<'a, 'bound, Self>,
        last: bool,
    ) -> Queued<'a, 'bound, Self>;

    /// Submits what [`Operations::queue_rq`] held back for a `last` request that did not come.
    ///
    /// Context: as [`Operations::queue_rq`].
    fn commit_rqs<'a, 'bound>(_hw: &'a HwCtx<'bound, Self>) {}

    /// Finishes a request that [`Mapped::complete`] brought to the CPU that wants its result. What
    /// ends in a [batch](HwCtx::batch) goes without it.
    ///
    /// Context: atomic, on any CPU; with what the driver holds where it calls [`Mapped::complete`].
    fn complete<'a, 'bound>(io: Mapped<'a, 'bound, Self>, status: Status) {
        io.unmap().end(status);
    }

    /// A request in flight has taken too long.
    ///
    /// It can still complete at any time; [`Expired::take`] decides. A driver must have made sure
    /// that the device is done with a request before it takes it: it was aborted, or the device
    /// stopped.
    ///
    /// Context: may sleep. One call at a time for each disk, several for a tag set.
    fn timeout<'a, 'bound>(
        _hw: &'a HwCtx<'bound, Self>,
        _expired: Expired<'a, 'bound, Self>,
    ) -> TimeoutAction {
        TimeoutAction::ResetTimer
    }
}

/// The result of [`Operations::timeout`] for a request.
///
/// C: `enum blk_eh_timer_return`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutAction {
    /// The request has ended, or will for sure: its timer does not start again.
    Done,
    /// The request goes on waiting; the timer starts again.
    ResetTimer,
}

/// A request that a driver did not start.
#[must_use = "a refused request is an answer to `queue_rq`"]
pub enum Refused<'a, 'bound, T: Operations> {
    /// There is no room for it now. blk-mq tries it again in a moment.
    Busy(Request<'a, 'bound, T>),
    /// There is no room for it until another request of this hardware queue completes, and then
    /// there is. blk-mq tries it again when one of them ends, rather than in a moment (3 ms).
    ///
    /// If nothing is [in flight](Mapped::park) on the queue that would end, this is
    /// [`Refused::Busy`]: no request is forgotten, whatever the driver counts. It also is where
    ///
    /// - the driver did not say [`Operations::WAITS_FOR_ROOM`];
    /// - the tag set has more disks than one: what is in flight may be another disk's, whose end
    ///   this one does not notice.
    ///
    /// A request that has no room for another reason, such as memory, is [`Refused::Busy`].
    ///
    /// C: `BLK_STS_DEV_RESOURCE`.
    DevBusy(Request<'a, 'bound, T>),
    /// It fails with this status. With one that [`is_busy`](Status::is_busy) it is as
    /// [`Refused::Busy`].
    Failed(Request<'a, 'bound, T>, Status),
}

/// Busy where the error passes by itself (see [`Status::is_busy`]), else failed.
impl<'a, 'bound, T: Operations> From<MapError<'a, 'bound, T>> for Refused<'a, 'bound, T> {
    fn from(e: MapError<'a, 'bound, T>) -> Self {
        let status = Status::from(e.error());
        let rq = e.into_request();
        if status.is_busy() {
            Self::Busy(rq)
        } else {
            Self::Failed(rq, status)
        }
    }
}

/// A request whose time is over; see [`Operations::timeout`].
///
/// It stands for the request as it was in flight when the time was over: what is in flight under
/// the same tag later is another one, even if it is the same request that was tried again.
pub struct Expired<'a, 'bound, T: Operations> {
    tag: u16,
    count: Count,
    hw: &'a HwCtx<'bound, T>,
}

impl<'a, 'bound, T: Operations> Expired<'a, 'bound, T> {
    pub(crate) fn new(tag: u16, count: Count, hw: &'a HwCtx<'bound, T>) -> Self {
        Self { tag, count, hw }
    }

    /// Its tag.
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// Whether it is still in flight. It may complete before this returns.
    pub fn is_in_flight(&self) -> bool {
        self.hw.table().contains_counted(self.tag, self.count)
    }

    /// Takes the request, unless it has completed in the meantime.
    ///
    /// Whoever takes it says that the device is done with its memory: the command was aborted, or
    /// the device stopped.
    pub fn take(self) -> Option<Mapped<'a, 'bound, T>> {
        self.hw.take_expired(self.tag, self.count)
    }
}
