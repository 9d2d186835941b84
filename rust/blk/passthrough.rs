// SPDX-License-Identifier: GPL-2.0

//! Requests that the driver makes itself.
//!
//! They go the way of all others: through the block layer's queues to
//! [`Operations::queue_rq`](super::Operations::queue_rq), with a tag, a timeout and a place in the
//! table of requests in flight, so that resets and removal know of them. They have no pages of
//! their own. Their payload says what they are about; the driver gets it back when the request has
//! ended.
//!
//! C: passthrough requests, `blk_execute_rq_nowait` in
//! [`block/blk-mq.c`](srctree/block/blk-mq.c).

use super::{
    pdu::Pdu,
    status::Status,
    types::{
        DriverTypes,
        Passthrough, //
    },
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    dma::DataDirection,
    error::from_err_ptr,
    prelude::*, //
};
use phyr::fail::{
    self,
    Point, //
};

/// `REQ_NOWAIT`
const NOWAIT: u32 = 1 << bindings::req_flag_bits___REQ_NOWAIT;

/// `enum rq_end_io_ret`, with the type that kCFI sees in C; see `vtable.rs`.
#[repr(transparent)]
#[cfi_encoding = "13rq_end_io_ret"]
struct RqEndIoRet(bindings::rq_end_io_ret);

/// The type in C of `end_io` in `struct request`: `rq_end_io_fn *`.
type EndIo = unsafe extern "C" fn(
    *mut bindings::request,
    bindings::blk_status_t,
    *const bindings::io_comp_batch,
) -> RqEndIoRet;

/// The type of the same that the kernel's bindings have.
type RawEndIo = unsafe extern "C" fn(
    *mut bindings::request,
    bindings::blk_status_t,
    *const bindings::io_comp_batch,
) -> bindings::rq_end_io_ret;

/// Returns `f` with the type that the kernel's bindings have for it.
const fn raw_end_io(f: EndIo) -> RawEndIo {
    const { assert!(align_of::<RqEndIoRet>() == align_of::<c_uint>()) };
    // SAFETY: both are pointers to functions, of one signature but for the result, and `RqEndIoRet`
    // is a transparent wrapper of the other's: it is returned the same way.
    unsafe { core::mem::transmute::<EndIo, RawEndIo>(f) }
}

/// Queue of a [`GenDisk`](super::GenDisk), by which the driver sends requests of its own.
///
/// It can outlive the disk, and fails then. It keeps nothing of the driver's.
///
/// C: `struct request_queue`.
///
/// # Invariants
///
/// `queue` is a queue of a disk of `T`, to which this holds a reference.
pub struct RequestQueue<T: DriverTypes> {
    queue: NonNull<bindings::request_queue>,
    _driver: PhantomData<fn() -> T>,
}

// SAFETY: a reference to a queue belongs to no thread.
unsafe impl<T: DriverTypes> Send for RequestQueue<T> {}

// SAFETY: the block layer allocates requests on any thread.
unsafe impl<T: DriverTypes> Sync for RequestQueue<T> {}

impl<T: DriverTypes> RequestQueue<T> {
    /// # Errors
    ///
    /// - `ENODEV`: the disk is being removed.
    ///
    /// # Safety
    ///
    /// `queue` is valid, and that of a disk of `T`.
    pub(crate) unsafe fn new(queue: NonNull<bindings::request_queue>) -> Result<Self> {
        fail::at(Point::blk_get_queue)?;
        // SAFETY: the caller promises that `queue` is valid.
        if !unsafe { bindings::blk_get_queue(queue.as_ptr()) } {
            return Err(ENODEV);
        }
        // INVARIANT: the reference was taken just now.
        Ok(Self {
            queue,
            _driver: PhantomData,
        })
    }

    /// Allocates a request, on the hardware queue of this CPU, for data that goes in `direction`.
    /// A request of this kind has no bio: it is neither in the disk's statistics (`iostat`) nor
    /// under the limits of block cgroups, and no I/O scheduler sorts it.
    ///
    /// It waits for a tag, and for a disk that is frozen, if it `may_wait`.
    ///
    /// Context: sleeps if it `may_wait`.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the disk was removed.
    /// - `EAGAIN`: it would have to wait, and may not. A disk that was removed says this, too.
    #[inline]
    pub fn alloc(&self, direction: DataDirection, may_wait: bool) -> Result<PassthroughRequest<T>> {
        let op = match direction {
            DataDirection::FromDevice => bindings::req_op_REQ_OP_DRV_IN,
            _ => bindings::req_op_REQ_OP_DRV_OUT,
        };
        let (op, flags) = if may_wait {
            (op, 0)
        } else {
            (op | NOWAIT, bindings::BLK_MQ_REQ_NOWAIT)
        };
        fail::at(Point::blk_mq_alloc_request)?;
        // SAFETY: by the type invariants the queue is valid. If its disk was removed this looks no
        // further than at the queue: it stays frozen.
        let rq = unsafe { bindings::blk_mq_alloc_request(self.queue.as_ptr(), op, flags) };
        let rq = NonNull::new(from_err_ptr(rq)?).ok_or(ENOMEM)?;
        // INVARIANT: it was allocated just now, of the queue's tag set, which is one of `T`.
        Ok(PassthroughRequest {
            rq,
            _driver: PhantomData,
        })
    }
}

impl<T: DriverTypes> Drop for RequestQueue<T> {
    fn drop(&mut self) {
        // SAFETY: by the type invariants this holds a reference to the queue.
        unsafe { bindings::blk_put_queue(self.queue.as_ptr()) };
    }
}

/// A request of the driver's own that is not sent yet. It is in the queue's usage count: the disk
/// is not removed before it has ended or is dropped.
///
/// # Invariants
///
/// `rq` is a passthrough request of a tag set of `T` that was not executed, and `self` owns it.
#[must_use = "a request that is dropped is not sent"]
pub struct PassthroughRequest<T: DriverTypes> {
    rq: NonNull<bindings::request>,
    _driver: PhantomData<fn() -> T>,
}

// SAFETY: a request that was not executed belongs to no thread.
unsafe impl<T: DriverTypes> Send for PassthroughRequest<T> {}

impl<T: DriverTypes> PassthroughRequest<T> {
    /// Sends the request. Its payload comes back by [`Passthrough::end`], maybe before this
    /// returns.
    ///
    /// Context: process context.
    #[inline]
    pub fn execute(self, payload: T::Passthrough) {
        let rq = ManuallyDrop::new(self).rq;
        // SAFETY: by the type invariants the request is valid, with a private part that was made
        // with it and is the owner's.
        unsafe { (*Pdu::<T>::of(rq).as_ptr()).passthrough = Some(payload) };
        let rq = rq.as_ptr();
        // SAFETY: by the type invariants the request is valid, and `self` owns it.
        unsafe { (*rq).end_io = Some(raw_end_io(end_io::<T>)) };
        // SAFETY: by the type invariants the request was not executed; it is given up here.
        unsafe { bindings::blk_execute_rq_nowait(rq, false) };
    }
}

impl<T: DriverTypes> Drop for PassthroughRequest<T> {
    fn drop(&mut self) {
        // SAFETY: by the type invariants the request was not executed, and `self` owns it.
        unsafe { bindings::blk_mq_free_request(self.rq.as_ptr()) };
    }
}

/// # Safety
///
/// The block layer calls this once for a request that [`PassthroughRequest::execute`] sent, when it
/// has ended.
unsafe extern "C" fn end_io<T: DriverTypes>(
    rq: *mut bindings::request,
    status: bindings::blk_status_t,
    _batch: *const bindings::io_comp_batch,
) -> RqEndIoRet {
    // SAFETY: the block layer never passes null.
    let pdu = unsafe { Pdu::<T>::of(NonNull::new_unchecked(rq)) };
    // SAFETY: the request's last owner gave it up to end it, and with it the private part.
    let payload = unsafe { (*pdu.as_ptr()).passthrough.take() };
    if let Some(payload) = payload {
        payload.end(Status::from_raw(status));
    }
    RqEndIoRet(bindings::rq_end_io_ret_RQ_END_IO_FREE)
}
