// SPDX-License-Identifier: GPL-2.0

//! The end of a request that the device has completed: on the CPU that wants the result, alone or
//! with others.
//!
//! C: `blk_mq_complete_request` and `struct io_comp_batch`
//! ([`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)).

use super::{
    bindings as helpers,
    hw::HwCtx,
    mapped::Mapped,
    op::Op,
    operations::Operations,
    request::RequestInfo,
    status::Status, //
};
use core::marker::PhantomData;
use kernel::{
    bindings,
    prelude::*, //
};

#[cfg(CONFIG_FAIL_IO_TIMEOUT)]
use super::request::Origin;

impl<'a, 'bound, T: Operations> Mapped<'a, 'bound, T> {
    /// Brings the request to the CPU that wants its result, and finishes it there by
    /// [`Operations::complete`]: unmaps it and ends it with `status`.
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
    #[inline]
    pub fn complete(self, status: Status) {
        if let Some(here) = self.complete_remote(status) {
            T::complete(here, status);
        }
    }

    /// Completes as [`Mapped::complete`] does; but if the request ends here, and well, it does so
    /// with the others of `batch`, and without [`Operations::complete`]. A request of the driver's
    /// own, and one of a disk with an I/O scheduler, ends by itself.
    #[inline]
    pub fn complete_in(self, batch: &mut CompletionBatch<T>, status: Status) {
        let Some(here) = self.complete_remote(status) else {
            return;
        };
        if !status.is_ok() {
            return T::complete(here, status);
        }
        // SAFETY: it is to end well, and was left to this processor.
        if let Err(info) = unsafe { batch.add(here.into_info()) } {
            T::complete(Self::from_info(info), status);
        }
    }

    /// Brings the request to the CPU that wants its result; returns it if that is this one.
    ///
    /// C: `blk_mq_complete_request_remote`.
    #[inline]
    fn complete_remote(mut self, status: Status) -> Option<Self> {
        #[cfg(CONFIG_FAIL_IO_TIMEOUT)]
        if self.origin == Origin::Device && self.is_to_time_out() {
            self.put_in_flight();
            return None;
        }
        self.pdu_mut().status = status;
        let info = self.into_info();
        // SAFETY: by the invariants of `RequestInfo` this is a started request, and `info`, its
        // only owner, gives it to the `complete` callback if this returns `true`.
        if unsafe { bindings::blk_mq_complete_request_remote(info.rq.as_ptr()) } {
            None
        } else {
            Some(Self::from_info(info))
        }
    }

    /// C: `blk_should_fake_timeout`, which is inline.
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
        T::complete(Self::from_info(info), status);
    }
}

impl<T: Operations> HwCtx<'_, T> {
    /// Calls `f` with a batch, and ends the requests that [`Mapped::complete_in`] put in it.
    ///
    /// `f` must not wait for any of them.
    #[inline]
    pub fn batch<R>(&self, f: impl FnOnce(&mut CompletionBatch<T>) -> R) -> R {
        f(&mut CompletionBatch::new())
    }
}

/// Collects requests that have completed well, so that their tags are freed together: see
/// [`HwCtx::batch`].
///
/// C: `struct io_comp_batch`.
///
/// # Invariants
///
/// `list` has started requests of tag sets of `T`, which were given up to it, and are not mapped.
pub struct CompletionBatch<T: Operations> {
    list: bindings::io_comp_batch,
    _requests: PhantomData<fn(T)>,
}

impl<T: Operations> CompletionBatch<T> {
    #[inline]
    fn new() -> Self {
        // INVARIANT: there are none.
        Self {
            list: pin_init::zeroed(),
            _requests: PhantomData,
        }
    }

    /// Adds a request if it can end in a batch.
    ///
    /// # Errors
    ///
    /// The request comes back: it has to end by itself.
    ///
    /// # Safety
    ///
    /// `info` stands for a request that is to end well, and
    /// `blk_mq_complete_request_remote()` has left it to this processor.
    #[inline]
    unsafe fn add<'a, 'bound>(
        &mut self,
        mut info: RequestInfo<'a, 'bound, T>,
    ) -> Result<(), RequestInfo<'a, 'bound, T>> {
        // The end of a batch does not restart a context that waits for room.
        if T::WAITS_FOR_ROOM || info.op() == Op::Passthrough {
            return Err(info);
        }
        // SAFETY: both are valid, and by the invariants of `RequestInfo` nobody else uses the
        // request.
        if !unsafe { helpers::phyr_blk_helper_add_to_batch(info.rq.as_ptr(), &mut self.list) } {
            return Err(info);
        }
        // INVARIANT: nobody but this batch ends it; it is not mapped any more, and `info`, its only
        // owner, is given up.
        Mapped::unmap_info(&mut info);
        Ok(())
    }
}

impl<T: Operations> Drop for CompletionBatch<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.list.req_list.head.is_null() {
            // SAFETY: by the type invariants the requests of the list are started, not mapped, and
            // were given up to it.
            unsafe { bindings::blk_mq_end_request_batch(&mut self.list) };
        }
    }
}
