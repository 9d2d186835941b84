// SPDX-License-Identifier: GPL-2.0

//! The end of a request that the device has completed: on the CPU that wants the result, alone or
//! with others. A driver's interrupt handler calls [`Mapped::complete`], or
//! [`Mapped::complete_in`] in a [`HwCtx::batch`].
//!
//! C: `blk_mq_complete_request` and `struct io_comp_batch`
//! ([`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)).

use super::{
    batch::{
        add_to,
        UnlinkedRequests, //
    },
    bindings as helpers,
    hw::HwCtx,
    mapped::Mapped,
    operations::Operations,
    request::{
        Request,
        RequestInfo, //
    },
    status::Status,
    types::DriverTypes, //
};
use core::{
    marker::PhantomData,
    pin::pin, //
};
use kernel::bindings;
use phyr::IotlbGather;

#[cfg(CONFIG_FAIL_IO_TIMEOUT)]
use super::request::Origin;

impl<'a, 'bound, T: Operations> Mapped<'a, 'bound, T> {
    /// Brings the request to the CPU that wants its result, unmaps it there, and finishes it by
    /// [`Operations::complete`], which ends it with `status`.
    ///
    /// If that is this CPU, or one that shares its cache, it is done before this returns. For a
    /// device with one hardware queue it is left to the soft interrupt.
    ///
    /// Context: any; a lock of the driver's may be held that is not taken where requests end or
    /// begin.
    ///
    /// If the kernel makes I/O time out for a test (`CONFIG_FAIL_IO_TIMEOUT`), a request that
    /// [`HwCtx::complete_tag`] or [`HwCtx::complete_generation`] took goes back in flight instead,
    /// as if the device had not reported it. Any other request does not: it was given up already,
    /// and nobody would come for it again.
    ///
    /// C: `blk_mq_complete_request`.
    // Into an interrupt handler that finds one completion, though the driver has it elsewhere, too.
    #[inline(always)]
    pub fn complete(self, status: Status) {
        let Some(io) = self.unless_lost() else {
            return;
        };
        if let Some(here) = io.into_info().complete_remote(status) {
            T::complete(Self::from_info(here).unmap(), status);
        }
    }

    /// Completes as [`Mapped::complete`] does, but with the others of `batch`: all of them are
    /// unmapped with one flush of the IOTLB, as `batch` ends, and none of them ends before.
    ///
    /// If the request ends here, and well, it does so without [`Operations::complete`], except for
    /// one of a disk with an I/O scheduler, which ends by itself.
    ///
    /// The device must be done with the request: it is unlinked at once.
    // Into the loop over what has completed, though the driver has it in other places, too.
    #[inline(always)]
    pub fn complete_in(self, batch: &mut CompletionBatch<'_, 'bound, T>, status: Status) {
        let Some(io) = self.unless_lost() else {
            return;
        };
        let Err(alone) = add_to(&mut batch.unlinked, io, status) else {
            return;
        };
        if let Some(here) = alone.into_info().complete_remote(status) {
            batch.ended.end(Self::from_info(here).unmap(), status);
        }
    }

    /// Completes as [`Mapped::complete_in`] does, but waits for no flush: for a request without
    /// data, such as one of the driver's own, for memory that stays mapped. If it has data, that is
    /// unmapped by itself.
    #[inline]
    pub fn complete_unmapped_in(self, batch: &mut CompletionBatch<'_, 'bound, T>, status: Status) {
        let Some(io) = self.unless_lost() else {
            return;
        };
        let Some(here) = io.into_info().complete_remote(status) else {
            return;
        };
        batch.ended.end(here.into_request(), status);
    }

    /// Returns the request, unless the kernel wants its completion lost, to test what comes then.
    #[inline]
    fn unless_lost(self) -> Option<Self> {
        #[cfg(CONFIG_FAIL_IO_TIMEOUT)]
        if self.origin == Origin::Device && self.is_to_time_out() {
            self.put_in_flight();
            return None;
        }
        Some(self)
    }

    /// Returns whether the kernel wants it to time out. C: `blk_should_fake_timeout`, inline.
    #[cfg(CONFIG_FAIL_IO_TIMEOUT)]
    fn is_to_time_out(&self) -> bool {
        // SAFETY: by the invariants of `RequestInfo` the request and its queue are valid.
        let q = unsafe { (*self.raw()).q };
        // SAFETY: the queue `q` is valid; others may write the flags, and any value does.
        let flags = unsafe { core::ptr::read_volatile(&raw const (*q).queue_flags) };
        // SAFETY: the queue `q` is valid.
        flags & (1 << bindings::QUEUE_FLAG_FAIL_IO) != 0
            && unsafe { bindings::__blk_should_fake_timeout(q) }
    }

    /// Goes on with a request that [`Mapped::complete`] sent.
    #[inline]
    pub(crate) fn complete_here(info: RequestInfo<'a, 'bound, T>) {
        let status = info.pdu().status;
        T::complete(Self::from_info(info).unmap(), status);
    }
}

impl<T: Operations> Request<'_, '_, T> {
    /// Brings the request to the CPU that wants its result, and finishes it there by
    /// [`Operations::complete`], which ends it with `status`.
    ///
    /// Context: any, as [`Mapped::complete`].
    #[inline]
    pub fn complete(self, status: Status) {
        if let Some(here) = self.complete_remote(status) {
            T::complete(here, status);
        }
    }

    /// Brings the request to the CPU that wants its result; returns it if that is this one.
    #[inline]
    fn complete_remote(self, status: Status) -> Option<Self> {
        let here = self.into_unmapped().complete_remote(status)?;
        // SAFETY: it came as a `Request`, and so is not mapped.
        Some(unsafe { Self::from_info(here) })
    }
}

impl<'a, 'bound, T: DriverTypes> RequestInfo<'a, 'bound, T> {
    /// Returns the request of one that mostly has nothing to unmap, and holds nothing.
    #[inline]
    fn into_request(mut self) -> Request<'a, 'bound, T> {
        if !self.pdu().state.is_empty() {
            self.unmap_unlikely();
        }
        // SAFETY: it is not mapped, and holds nothing.
        unsafe { Request::from_info(self) }
    }

    #[cold]
    fn unmap_unlikely(&mut self) {
        self.unmap();
    }

    /// Brings the request to the CPU that wants its result; returns it if that is this one.
    ///
    /// C: `blk_mq_complete_request_remote`.
    #[inline]
    fn complete_remote(mut self, status: Status) -> Option<Self> {
        self.pdu_mut().status = status;
        // SAFETY: by the type invariants this is a started request, and `self`, its only owner,
        // gives it to the `complete` callback if this returns `true`.
        if unsafe { bindings::blk_mq_complete_request_remote(self.rq.as_ptr()) } {
            None
        } else {
            Some(self)
        }
    }
}

impl<'bound, T: Operations> HwCtx<'bound, T> {
    /// Calls `f` with a batch, flushes the IOTLB for the requests that [`Mapped::complete_in`] put
    /// in it, and ends them.
    ///
    /// `f` must not wait for any of them.
    #[inline]
    pub fn batch<R>(&self, f: impl FnOnce(&mut CompletionBatch<'_, 'bound, T>) -> R) -> R {
        let gather = pin!(IotlbGather::new());
        let mut batch = CompletionBatch {
            unlinked: UnlinkedRequests::new(self, gather),
            ended: Ended::new(),
        };
        let result = f(&mut batch);
        batch.flush();
        result
    }
}

/// Collects requests that have completed, to be unmapped with one flush and ended together: see
/// [`HwCtx::batch`].
pub struct CompletionBatch<'b, 'bound, T: Operations> {
    /// `None` where each is unmapped by itself.
    unlinked: Option<UnlinkedRequests<'b, 'bound, T>>,
    ended: Ended<T>,
}

impl<T: Operations> CompletionBatch<'_, '_, T> {
    /// Flushes once, and then completes all that were unlinked.
    // By reference: what ends them stays where it is.
    #[inline]
    fn flush(&mut self) {
        let Some(unlinked) = self.unlinked.take() else {
            return;
        };
        let mut flushed = unlinked.flush();
        while let Some((info, status)) = flushed.next_info() {
            if let Some(here) = info.complete_remote(status) {
                // SAFETY: it was unmapped, and holds nothing.
                self.ended.end(unsafe { Request::from_info(here) }, status);
            }
        }
    }
}

/// Collects requests that end well, so that their tags are freed together.
///
/// C: `struct io_comp_batch`.
///
/// # Invariants
///
/// `list` has started requests of tag sets of `T`, which were given up to it, and are not mapped.
struct Ended<T: Operations> {
    list: bindings::io_comp_batch,
    _requests: PhantomData<fn(T)>,
}

impl<T: Operations> Ended<T> {
    #[inline]
    fn new() -> Self {
        // INVARIANT: there are none.
        Self {
            list: pin_init::zeroed(),
            _requests: PhantomData,
        }
    }

    /// Ends a request, which is not mapped, and which `blk_mq_complete_request_remote()` has left
    /// to this processor: with the others, or by itself.
    #[inline(always)]
    fn end(&mut self, request: Request<'_, '_, T>, status: Status) {
        if !(status.is_ok() && self.has_room_for(&request)) {
            return complete_apart(request, status);
        }
        // INVARIANT: `request`, its only owner, is given up; it is not mapped.
        let _ = request.into_info();
    }

    /// Adds a request that ends well to the list, if it can end with others.
    #[inline]
    fn has_room_for(&mut self, request: &Request<'_, '_, T>) -> bool {
        // The end of a batch does not restart a context that waits for room.
        if T::WAITS_FOR_ROOM {
            return false;
        }
        // SAFETY: both are valid, and by the invariants of `RequestInfo` nobody else uses the
        // request.
        unsafe { helpers::phyr_blk_helper_add_to_batch(request.rq.as_ptr(), &mut self.list) }
    }
}

/// Calls [`Operations::complete`], not in line: few requests of a batch end so.
#[inline(never)]
fn complete_apart<T: Operations>(request: Request<'_, '_, T>, status: Status) {
    T::complete(request, status);
}

impl<T: Operations> Drop for Ended<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.list.req_list.head.is_null() {
            // SAFETY: by the type invariants the requests of the list are started, not mapped, and
            // were given up to it.
            unsafe { bindings::blk_mq_end_request_batch(&mut self.list) };
        }
    }
}
