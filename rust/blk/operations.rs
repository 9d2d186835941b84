// SPDX-License-Identifier: GPL-2.0

//! What a driver implements, and what it answers.
//!
//! C: `struct blk_mq_ops` ([`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)).

use super::{
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

    /// What the driver keeps for each hardware queue, such as a ring.
    type HwQueue<'bound>: Send + Sync + 'bound;

    /// What the driver keeps for each disk, such as a namespace's number.
    type DiskData<'bound>: Send + Sync + 'bound;

    /// What the driver keeps in each request. It is new when a request comes for the first time,
    /// and survives [`Request::requeue`]. Keep it small and simple: no allocation.
    type RequestData: Default + Send + 'static;

    /// What a request carries that the driver makes itself, by a [`Queue`](super::Queue); for one
    /// that makes none, [`Infallible`](core::convert::Infallible).
    type Passthrough: Passthrough;

    /// Starts a request. `last` tells that no other follows at once: ring the doorbell.
    ///
    /// The request has been started: its timer runs. `Ok` means that the driver has dealt with it,
    /// commonly by [`Mapped::park`]. What a driver held back of earlier requests that were not
    /// `last` it has to submit by the `last` one, or in [`Operations::commit_rqs`], which follows
    /// when a request is refused.
    ///
    /// Context: atomic, on any CPU. Calls of one hardware queue can run at the same time.
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
    /// Context: atomic.
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

/// What [`Operations::timeout`] has done about a request.
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
