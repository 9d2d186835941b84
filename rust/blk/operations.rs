// SPDX-License-Identifier: GPL-2.0

//! The functions of a driver, which blk-mq calls, and their results.
//!
//! C: `struct blk_mq_ops` ([`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)).

use super::{
    attribute::Attribute,
    hw::HwCtx,
    in_flight::Expired,
    mapped::MapError,
    request::Request,
    status::Status,
    types::{
        CompletionId,
        DriverTypes,
        Passthrough, //
    },
};
use kernel::{
    module::ModuleMetadata,
    prelude::*, //
};

/// A block driver.
///
/// `'bound` is the time for which the driver is bound to its device, `'a` is one call.
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
    /// It is made with the [tag set](super::TagSet::new) and stays with the tag, unlike
    /// [`Operations::RequestData`]. The owner of the request that has the tag has it, too, and
    /// nobody else: [`Mapped::per_tag_mut`], [`Mapped::per_tag_and_dma_vecs`],
    /// [`Request::per_tag_mut`].
    ///
    /// [`Mapped::per_tag_mut`]: super::Mapped::per_tag_mut
    /// [`Mapped::per_tag_and_dma_vecs`]: super::Mapped::per_tag_and_dma_vecs
    type PerTag<'bound>: Send + 'bound;

    /// The identifier by which the device says which request has completed:
    /// [`TagAndGeneration`](super::TagAndGeneration), or [`TagOnly`](super::TagOnly), which has a
    /// rule for the driver.
    type CompletionId: CompletionId;

    /// The payload of a request that the driver makes itself, by a
    /// [`RequestQueue`](super::RequestQueue); [`Infallible`](core::convert::Infallible) for a
    /// driver that makes none.
    type Passthrough: Passthrough;

    /// True if [`Operations::queue_rq`] and [`Operations::commit_rqs`] sleep, such as for a mutex
    /// or a slow bus.
    ///
    /// Requests are then handed over by a worker or by a task that may sleep, which costs time.
    /// [`Request::map`] and all else work as always.
    ///
    /// C: `BLK_MQ_F_BLOCKING`.
    const BLOCKING: bool = false;

    /// True if [`QueueRqError::DevResource`] waits for a request to complete; otherwise it is the
    /// same as [`QueueRqError::Resource`]. If true, requests end one by one:
    /// [batches](HwCtx::batch) do not look for requests that wait.
    const WAITS_FOR_ROOM: bool = false;

    /// True if [`Operations::queue_rq`] maps nearly every request that has data. Those of a list
    /// (blk-mq's plug) are then mapped before the first of them is started, and an IOMMU that wants
    /// to be told of what is mapped is told once for all of them: [`Request::map`] finds it done.
    ///
    /// A request that is not mapped after all is unmapped when it ends, or is given back.
    const MAPS_LISTS: bool = false;

    /// The driver's files in the folder of each disk in sysfs.
    const ATTRIBUTES: &'static [Attribute<Self>] = &[];

    /// Starts a request. If it is the `last` one, no other follows at once: ring the doorbell.
    ///
    /// The request's timer runs already. `Ok` means that the driver has dealt with it, commonly by
    /// [`Mapped::put_in_flight`]. Requests that were not `last` may be held back until the `last`
    /// one, or until [`Operations::commit_rqs`], which follows when a request is refused.
    ///
    /// [`Mapped::put_in_flight`]: super::Mapped::put_in_flight
    ///
    /// Context: atomic, on any CPU; process context if [`Operations::BLOCKING`]. Calls of one
    /// hardware queue can run at the same time.
    ///
    /// # Errors
    ///
    /// [`QueueRqError`] gives the request back to blk-mq.
    fn queue_rq<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        disk: &Self::DiskData<'bound>,
        rq: Request<'a, 'bound, Self>,
        last: bool,
    ) -> QueueRqResult<'a, 'bound, Self>;

    /// Submits the requests that [`Operations::queue_rq`] held back for a `last` one that did not
    /// come.
    ///
    /// Context: the same as that of [`Operations::queue_rq`].
    fn commit_rqs<'a, 'bound>(_hw: &'a HwCtx<'bound, Self>) {}

    /// Finishes a request that [`Mapped::complete`] brought to the CPU that wants its result; it is
    /// unmapped. Not called for most of those that end in a [batch](HwCtx::batch).
    ///
    /// Context: atomic, on any CPU; with the locks that the driver holds where it calls
    /// [`Mapped::complete`].
    ///
    /// [`Mapped::complete`]: super::Mapped::complete
    #[inline(always)]
    fn complete<'a, 'bound>(request: Request<'a, 'bound, Self>, status: Status) {
        request.end(status);
    }

    /// Handles a request in flight that has taken too long.
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
    /// The request has ended, or will for sure: its timer does not start again. It does if the
    /// request is still started: it is in flight, or its owner may put it there.
    Done,
    /// The request goes on waiting; the timer starts again.
    ResetTimer,
}

/// The result of [`Operations::queue_rq`].
pub type QueueRqResult<'a, 'bound, T> = Result<(), QueueRqError<'a, 'bound, T>>;

/// A request that a driver did not start, and the reason.
#[must_use = "the request is given back by returning it from `queue_rq`"]
pub enum QueueRqError<'a, 'bound, T: Operations> {
    /// There is no room for the request now. blk-mq tries it again in a moment (3 ms).
    ///
    /// C: `BLK_STS_RESOURCE`.
    Resource(Request<'a, 'bound, T>),
    /// There is no room for the request until another one of this hardware queue completes, and
    /// then there is. blk-mq tries it again when one of them ends. For lack of something else, such
    /// as memory, return [`QueueRqError::Resource`].
    ///
    /// It is the same as [`QueueRqError::Resource`], so that no request is forgotten, if
    ///
    /// - nothing is [in flight](super::Mapped::put_in_flight) on the queue that would end;
    /// - [`Operations::WAITS_FOR_ROOM`] is false;
    /// - the tag set has more than one disk: the request in flight may be another disk's, whose end
    ///   this one does not notice.
    ///
    /// C: `BLK_STS_DEV_RESOURCE`.
    DevResource(Request<'a, 'bound, T>),
    /// The request fails with this status. [`Status::Resource`] and [`Status::DevResource`] are the
    /// same as [`QueueRqError::Resource`].
    Failed(Request<'a, 'bound, T>, Status),
}

/// [`QueueRqError::Resource`] if the error passes by itself (see [`Status`]), else
/// [`QueueRqError::Failed`].
impl<'a, 'bound, T: Operations> From<MapError<'a, 'bound, T>> for QueueRqError<'a, 'bound, T> {
    fn from(e: MapError<'a, 'bound, T>) -> Self {
        let status = Status::from(e.error);
        if status.is_busy() {
            Self::Resource(e.request)
        } else {
            Self::Failed(e.request, status)
        }
    }
}

impl<T: Operations> DriverTypes for T {
    type HwQueue<'bound> = T::HwQueue<'bound>;
    type DiskData<'bound> = T::DiskData<'bound>;
    type RequestData = T::RequestData;
    type PerTag<'bound> = T::PerTag<'bound>;
    type CompletionId = T::CompletionId;
    type Passthrough = T::Passthrough;
    const MAPS_LISTS: bool = T::MAPS_LISTS;
}
