// SPDX-License-Identifier: GPL-2.0

//! A request that the driver owns, and that is not mapped.
//!
//! C: `struct request` ([`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)).

use super::{
    hw::HwCtx,
    op::{
        data_direction,
        DiscardRange,
        DiscardRanges,
        Op,
        OP_MASK, //
    },
    pdu::Pdu,
    source::rq_flags,
    status::Status,
    types::DriverTypes, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    bindings,
    prelude::*, //
};
use phyr::{
    DataDirection,
    Slot, //
};

/// The flags of `enum req_flag_bits` that bindgen has as bit numbers.
const FUA: u32 = 1 << bindings::req_flag_bits___REQ_FUA;
const NOUNMAP: u32 = 1 << bindings::req_flag_bits___REQ_NOUNMAP;
/// `REQ_FAILFAST_MASK`
const FAILFAST: u32 = 1 << bindings::req_flag_bits___REQ_FAILFAST_DEV
    | 1 << bindings::req_flag_bits___REQ_FAILFAST_TRANSPORT
    | 1 << bindings::req_flag_bits___REQ_FAILFAST_DRIVER;
/// `RQF_QUIET`
const QUIET: u32 = 1 << bindings::rqf_flags___RQF_QUIET;

/// The way by which the driver came to own a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It came with the call of `queue_rq` that is running, and was not in flight since.
    Call,
    /// It came with others, in a call that takes none back.
    List,
    /// The device reported it.
    Device,
    /// The driver took it by itself, from a device that does not know of it any more; or it is on
    /// its way to its end.
    Driver,
}

/// A started request and its place. [`Request`] and [`Mapped`](super::Mapped) dereference to it.
///
/// # Invariants
///
/// - `rq` is a started request of a queue of `hw`'s tag set, on `hw`, that has not ended.
/// - The `RequestInfo` is in the only value that owns the request, and with it the request's `Pdu`,
///   which is initialised, and the `PerTag` of its tag in `hw`.
/// - What the `Pdu` holds was taken from `hw`'s memory, and its state knows of it.
/// - If the `Pdu` has a mapping, `hw`'s mapper made it of the request's own pages with the slots
///   that the `Pdu` holds.
/// - If `origin` is `Origin::Call`, that call is running with `'a`.
pub struct RequestInfo<'a, 'bound, T: DriverTypes> {
    pub(crate) rq: NonNull<bindings::request>,
    pub(crate) hw: &'a HwCtx<'bound, T>,
    pub(crate) origin: Origin,
    /// The `Pdu` is owned.
    _data: PhantomData<(T::RequestData, T::Passthrough)>,
}

// SAFETY: an owned request can be ended on any CPU and in any context; `RequestData` and
// `Passthrough` are `Send`, and `HwCtx` is `Sync`.
unsafe impl<T: DriverTypes> Send for RequestInfo<'_, '_, T> {}

impl<'a, 'bound, T: DriverTypes> RequestInfo<'a, 'bound, T> {
    /// # Safety
    ///
    /// The arguments satisfy the type invariants: the caller hands ownership over.
    #[inline]
    pub(crate) unsafe fn new(
        rq: NonNull<bindings::request>,
        hw: &'a HwCtx<'bound, T>,
        origin: Origin,
    ) -> Self {
        // INVARIANT: the caller hands over the started request `rq` on `hw`, with its `Pdu` and its
        // `PerTag`.
        Self {
            rq,
            hw,
            origin,
            _data: PhantomData,
        }
    }

    /// Returns the request, for reading.
    #[inline]
    pub(crate) fn raw(&self) -> *const bindings::request {
        self.rq.as_ptr()
    }

    #[inline]
    pub(crate) fn pdu(&self) -> &Pdu<T> {
        // SAFETY: by the type invariants `rq` is a valid request of such a tag set, and `self`,
        // which is borrowed, owns its initialised `Pdu`.
        unsafe { Pdu::of(self.rq).as_ref() }
    }

    #[inline]
    pub(crate) fn pdu_mut(&mut self) -> &mut Pdu<T> {
        // SAFETY: by the type invariants `rq` is a valid request of such a tag set, and `self`,
        // which is borrowed mutably, owns its initialised `Pdu`.
        unsafe { Pdu::of(self.rq).as_mut() }
    }

    #[inline]
    fn flags(&self) -> u32 {
        // SAFETY: by the type invariants the request is valid, and only its owner changes it.
        unsafe { (*self.raw()).cmd_flags }
    }

    /// Returns the driver's data of the disk that the request is for.
    #[inline]
    pub fn disk(&self) -> &T::DiskData<'bound> {
        // SAFETY: by the type invariants the request is valid, and so is its queue; `GenDisk` set
        // the queue's data to a `DiskData<'bound>`, which outlives all of the queue's requests.
        unsafe { &*(*(*self.raw()).q).queuedata.cast::<T::DiskData<'bound>>() }
    }

    /// Returns the tag: unique among the requests in flight on the hardware queue, and below its
    /// depth.
    #[inline]
    pub fn tag(&self) -> u16 {
        // SAFETY: by the type invariants the request is valid, and has its tag while it is started.
        // CAST: tags are below the depth, which is a `u16`.
        unsafe { (*self.raw()).tag as u16 }
    }

    /// Returns the request's operation.
    #[inline]
    pub fn op(&self) -> Op {
        Op::from_raw(self.flags() & OP_MASK)
    }

    /// Returns the direction of the request's data; `None` if there is nothing to map.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: the meaning of its bytes is unknown.
    #[inline]
    pub(crate) fn data_direction(&self) -> Result<Option<DataDirection>> {
        data_direction(self.flags() & OP_MASK, self.bytes())
    }

    /// Returns the first sector, of 512 bytes.
    #[inline]
    pub fn sector(&self) -> u64 {
        // SAFETY: by the type invariants the request is valid, and only its owner changes it.
        unsafe { (*self.raw()).__sector }
    }

    /// Returns the number of bytes.
    #[inline]
    pub fn bytes(&self) -> u32 {
        // SAFETY: by the type invariants the request is valid, and only its owner changes it.
        unsafe { (*self.raw()).__data_len }
    }

    /// Returns whether the data must be on the medium when the request ends (forced unit access).
    #[inline]
    pub fn is_fua(&self) -> bool {
        self.flags() & FUA != 0
    }

    /// Returns whether [`Op::WriteZeroes`] must keep the sectors allocated.
    #[inline]
    pub fn is_nounmap(&self) -> bool {
        self.flags() & NOUNMAP != 0
    }

    /// Returns whether a failure is to be reported at once rather than retried.
    ///
    /// C: `blk_noretry_request`.
    #[inline]
    pub fn is_noretry(&self) -> bool {
        self.flags() & FAILFAST != 0
    }

    /// Returns whether a failure is not to be logged. C: `RQF_QUIET`.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        // SAFETY: by the type invariants the request is valid.
        unsafe { rq_flags(self.raw()) & QUIET != 0 }
    }

    /// Returns the ranges of a discard, at most `max_discard_segments` of the disk.
    #[inline]
    pub fn discard_ranges(&self) -> DiscardRanges<'_> {
        // SAFETY: by the type invariants the request and its queue are valid.
        let (several, bio) = unsafe {
            let several = (*(*self.raw()).q).limits.max_discard_segments > 1;
            (several, (*self.raw()).bio)
        };
        if several {
            // SAFETY: a bio that belongs to the request does so until the request ends, which takes
            // its owner, which is borrowed.
            unsafe { DiscardRanges::of_bios(bio) }
        } else {
            DiscardRanges::whole(DiscardRange {
                sector: self.sector(),
                sectors: self.bytes() >> bindings::SECTOR_SHIFT,
            })
        }
    }

    /// Returns the payload if the driver has made the request, which is [`Op::Passthrough`] then.
    #[inline]
    pub fn passthrough(&self) -> Option<&T::Passthrough> {
        self.pdu().passthrough.as_ref()
    }

    /// Returns the payload as [`Self::passthrough`] does, for an owner that is borrowed mutably.
    #[inline]
    pub(crate) fn passthrough_mut(&mut self) -> Option<&mut T::Passthrough> {
        self.pdu_mut().passthrough.as_mut()
    }

    /// Returns the driver's data of the request's tag, for an owner that is borrowed mutably.
    #[inline]
    pub(crate) fn per_tag_mut(&mut self) -> &mut T::PerTag<'bound> {
        // SAFETY: by the type invariants `self` owns the request, and is borrowed mutably.
        unsafe { &mut *self.hw.per_tag(self.tag()) }
    }

    /// Returns the driver's data of the request.
    #[inline]
    pub fn data(&self) -> &T::RequestData {
        &self.pdu().data
    }

    /// Returns the slots that the request has taken; none if it needed none.
    #[inline]
    pub(crate) fn slots(&self) -> &[Slot] {
        // SAFETY: by the type invariants what the request holds is of the memory of its queue. It
        // is given back, and its slots are written, by whoever has `self` mutably.
        unsafe { self.hw.memory().slots(&self.pdu().held) }
    }

    /// Gives back the memory that the request has taken, as it is not mapped any more.
    // What is not inlined is called with parts of `self`, which would be in memory otherwise.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        let hw = self.hw;
        // SAFETY: by the type invariants what the request holds is of the memory of its queue. The
        // mapping with the slots has ended, and the device is done with the request.
        let waiting = unsafe { hw.memory().put(&mut self.pdu_mut().held) };
        if waiting {
            self.run_queue();
        }
    }

    /// Runs the hardware queue of the request, on which others may wait.
    #[inline]
    pub(crate) fn run_queue(&self) {
        // SAFETY: by the type invariants the request is valid, and so are its context and queue,
        // until it ends.
        unsafe { bindings::blk_mq_run_hw_queue((*self.raw()).mq_hctx, true) };
    }

    /// Unmaps the data, and gives back what the request has taken. The device must be done with the
    /// request, or not know of it.
    // `unmap_in_place` is inlined always, and is to be so into the driver.
    #[inline(always)]
    pub(crate) fn unmap(&mut self) {
        let hw = self.hw;
        let Pdu { state, held, .. } = self.pdu_mut();
        // SAFETY: by the type invariants what the request holds is of `hw`'s memory, and is given
        // back below at the earliest.
        let slots = || unsafe { hw.memory().slots(held) };
        // SAFETY:
        // - By the type invariants the state came from `map_into` of this mapper with these slots,
        //   or has no use for any.
        // - By unmapping the driver says that the device is done with the request.
        if unsafe { hw.mapper().unmap_in_place(state, slots) } {
            self.give_back();
        }
    }
}

/// A request that the driver owns and that is not mapped.
///
/// When it is dropped it ends with [`Status::IoErr`].
///
/// # Invariants
///
/// The request's `Pdu` has no mapping, and holds nothing; unless `T::MAPS_LISTS`: then it may have
/// one, of which the device was not told.
#[must_use = "a request that is dropped ends with an error"]
pub struct Request<'a, 'bound, T: DriverTypes>(RequestInfo<'a, 'bound, T>);

impl<'a, 'bound, T: DriverTypes> Request<'a, 'bound, T> {
    /// # Safety
    ///
    /// The request is not mapped, and holds nothing.
    #[inline]
    pub(crate) unsafe fn from_info(info: RequestInfo<'a, 'bound, T>) -> Self {
        // INVARIANT: the caller promises that the request of `info` has no mapping and holds
        // nothing.
        Self(info)
    }

    /// Gives up the request as one that has no mapping.
    #[inline]
    pub(crate) fn into_unmapped(self) -> RequestInfo<'a, 'bound, T> {
        let mut info = self.into_info();
        if T::MAPS_LISTS && info.pdu().state.is_mapped() {
            info.unmap();
        }
        info
    }

    #[inline]
    pub(crate) fn into_info(self) -> RequestInfo<'a, 'bound, T> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, so that the value moves out of it.
        unsafe { ptr::read(&this.0) }
    }

    /// Returns the driver's data of the request, for writing.
    #[inline]
    pub fn data_mut(&mut self) -> &mut T::RequestData {
        &mut self.0.pdu_mut().data
    }

    /// Returns the driver's data of the request's tag, for writing; see
    /// [`Operations::PerTag`](super::Operations::PerTag).
    #[inline]
    pub fn per_tag_mut(&mut self) -> &mut T::PerTag<'bound> {
        self.0.per_tag_mut()
    }

    /// Ends the request on this CPU.
    ///
    /// [`Mapped::complete`](super::Mapped::complete) ends it on the CPU that wants the result.
    // Into an interrupt handler that finds one completion.
    #[inline(always)]
    pub fn end(self, status: Status) {
        let info = self.into_unmapped();
        // SAFETY: by the type invariants this is a started request, and `info`, its only owner, is
        // given up; it is not mapped. All of its bytes end, so that nothing of it is left over.
        unsafe { bindings::blk_mq_end_request(info.rq.as_ptr(), status.into_raw()) };
    }

    /// Gives the request back to blk-mq, which starts it again later, maybe with another tag.
    pub fn requeue(self) {
        let info = self.into_unmapped();
        // SAFETY: by the type invariants this is a started request, and `info`, its only owner, is
        // given up; it is not mapped.
        unsafe { bindings::blk_mq_requeue_request(info.rq.as_ptr(), true) };
    }
}

impl<'a, 'bound, T: DriverTypes> Deref for Request<'a, 'bound, T> {
    type Target = RequestInfo<'a, 'bound, T>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: DriverTypes> Drop for Request<'_, '_, T> {
    fn drop(&mut self) {
        self.0.unmap();
        // SAFETY: by the type invariants this is a started request, and `self`, its only owner, is
        // not used afterwards; it is not mapped.
        unsafe { bindings::blk_mq_end_request(self.0.rq.as_ptr(), Status::IoErr.into_raw()) };
    }
}
