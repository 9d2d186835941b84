// SPDX-License-Identifier: GPL-2.0

//! Requests that the driver makes itself.
//!
//! They go the way of all others: through the block layer's queues to
//! [`Operations::queue_rq`](super::Operations::queue_rq), with a tag, a timeout and a place in the
//! table of requests in flight, so that resets and removal know of them. Their payload says what
//! they are about; the driver gets it back when the request has ended.
//!
//! ```text
//! alloc() -> PassthroughRequest ---> execute()            without data
//!                               ---> execute_command()    a command of io_uring ends with it
//!                               '--> execute_and_wait()   the caller waits
//! ```
//!
//! The data of the last two can be memory of user space ([`UserMemory`](super::UserMemory)): its
//! pages are the request's until it has ended, and are mapped as those of any request.
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
    uring::{
        CommandResult,
        Pending,
        UringCmd,
        UringResult, //
    },
    user_memory::{
        self,
        UserMemory, //
    },
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    dma::DataDirection,
    error::from_err_ptr,
    prelude::*,
    time::{
        msecs_to_jiffies,
        Msecs, //
    }, //
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

/// Queue of a [`GenDisk`](super::GenDisk), or one [without](super::Queue), by which the driver
/// sends requests of its own.
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

    /// Returns the queue once more.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the disk was removed.
    pub fn try_clone(&self) -> Result<Self> {
        // SAFETY: by the type invariants the queue is valid, and that of a disk of `T`.
        unsafe { Self::new(self.queue) }
    }

    /// Allocates a request, on the hardware queue of this CPU, for data that goes in `direction`.
    /// A request of this kind is neither in the disk's statistics (`iostat`) nor under the limits
    /// of block cgroups, and no I/O scheduler sorts it.
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

/// `REQ_FAILFAST_DRIVER`
const FAILFAST_DRIVER: u32 = 1 << bindings::req_flag_bits___REQ_FAILFAST_DRIVER;

/// A request of the driver's own that is not sent yet. It is in the queue's usage count: the disk
/// is not removed before it has ended or is dropped.
///
/// # Invariants
///
/// `rq` is a passthrough request of a tag set of `T` that was not executed, and `self` owns it. Its
/// bios, if there are any, are of memory of user space that nobody else unmaps.
#[must_use = "a request that is dropped is not sent"]
pub struct PassthroughRequest<T: DriverTypes> {
    rq: NonNull<bindings::request>,
    _driver: PhantomData<fn() -> T>,
}

// SAFETY: a request that was not executed belongs to no thread.
unsafe impl<T: DriverTypes> Send for PassthroughRequest<T> {}

impl<T: DriverTypes> PassthroughRequest<T> {
    /// Has a failure reported at once rather than retried:
    /// [`is_noretry`](super::RequestInfo::is_noretry).
    pub fn no_retry(self) -> Self {
        // SAFETY: by the type invariants the request is valid, and `self` owns it.
        unsafe { (*self.rq.as_ptr()).cmd_flags |= FAILFAST_DRIVER };
        self
    }

    /// Sets the time after which [`Operations::timeout`](super::Operations::timeout) is called, in
    /// milliseconds; if it is zero, or is not set, it is that of the tag set.
    pub fn timeout(self, timeout: Msecs) -> Self {
        let jiffies = u32::try_from(msecs_to_jiffies(timeout)).unwrap_or(u32::MAX);
        // SAFETY: by the type invariants the request is valid, and `self` owns it.
        unsafe { (*self.rq.as_ptr()).timeout = jiffies };
        self
    }

    /// Sends the request. Its payload comes back by [`Passthrough::end`], maybe before this
    /// returns.
    ///
    /// Context: process context.
    #[inline]
    pub fn execute(self, payload: T::Passthrough) {
        self.send(payload, None);
    }

    /// Sends the request, with which `cmd` ends. `data` is its data, which the command unmaps in
    /// the context of its task.
    ///
    /// Its payload comes back by [`Passthrough::end`], maybe before this returns. Where the
    /// data cannot be had the command ends at once, with the errors of
    /// [`PassthroughRequest::execute_and_wait`], and the payload is dropped.
    ///
    /// Context: process context, may sleep if there is data.
    // So that the payload is made where it stays.
    #[inline(always)]
    pub fn execute_command<'a>(
        self,
        cmd: UringCmd<'a>,
        data: Option<UserMemory>,
        payload: T::Passthrough,
    ) -> UringResult<'a> {
        if let Some(data) = data {
            // SAFETY: by the type invariants the request is valid, was not executed, and is owned.
            // It ends before `cmd` does, which holds the buffers of its ring: it is the one that is
            // kept for the end below.
            if let Err(e) = unsafe { user_memory::map_for(&cmd, self.rq.as_ptr(), data) } {
                return cmd.done(Err(e));
            }
        }
        let (mut pending, result) = cmd.into_pending();
        // SAFETY: by the type invariants the request is valid, and owned.
        let bio = unsafe { (*self.rq.as_ptr()).bio };
        if !bio.is_null() {
            // SAFETY: by the type invariants `bio` is of user memory that nobody else unmaps: what
            // was sent is not dropped. `end_io` completes the command, when the request has ended.
            unsafe { pending.keep(bio) };
        }
        self.send(payload, Some(pending));
        result
    }

    /// Sends the request.
    #[inline(always)]
    fn send(self, payload: T::Passthrough, pending: Option<Pending>) {
        let rq = ManuallyDrop::new(self).rq;
        let pending = pending.map_or(ptr::null_mut(), Pending::into_raw);
        // SAFETY: by the type invariants the request is valid, with a private part that was made
        // with it and is the owner's. There is no payload in it: a request that ends gives it back.
        unsafe { (&raw mut (*Pdu::<T>::of(rq).as_ptr()).passthrough).write(Some(payload)) };
        let rq = rq.as_ptr();
        // SAFETY: by the type invariants the request is valid, and `self` owns it.
        unsafe {
            (*rq).end_io = Some(raw_end_io(end_io::<T>));
            (*rq).end_io_data = pending.cast();
        }
        // SAFETY: by the type invariants the request was not executed; it is given up here.
        unsafe { bindings::blk_execute_rq_nowait(rq, false) };
    }

    /// Sends the request, with `data` as its data, and waits until it has ended. Returns its
    /// payload, which is not [ended](Passthrough::end), and its status.
    ///
    /// Memory that the device cannot be given as it is (its alignment is not the
    /// [disk's](super::GenDiskBuilder::dma_alignment), or there is a gap that the
    /// [virt boundary](super::GenDiskBuilder::virt_boundary_mask) forbids) is copied.
    ///
    /// Context: process context, sleeps, which no signal ends.
    ///
    /// # Errors
    ///
    /// The request was not sent, but for `EFAULT` of a copy:
    ///
    /// - `EFAULT`: the memory is not there, or not for what the device does with it.
    /// - `EINVAL`: it is more than a request can have; or it is memory of another device.
    /// - `ENOMEM`: no memory.
    /// - Others of `blk_rq_map_user_io()`.
    pub fn execute_and_wait(
        self,
        data: Option<UserMemory>,
        payload: T::Passthrough,
    ) -> Result<(T::Passthrough, Status)> {
        if let Some(data) = data {
            // SAFETY: by the type invariants the request is valid, was not executed, and is owned.
            unsafe { user_memory::map(self.rq.as_ptr(), data) }?;
        }
        let rq = self.rq.as_ptr();
        // SAFETY: by the type invariants the private part is the owner's.
        let payload_place = unsafe { &raw mut (*Pdu::<T>::of(self.rq).as_ptr()).passthrough };
        // SAFETY: the place is in the private part, which is the owner's.
        unsafe { *payload_place = Some(payload) };
        // SAFETY: by the type invariants the request is valid, and owned.
        let bio = unsafe { (*rq).bio };
        // SAFETY: by the type invariants the request was not executed.
        let status = Status::from_raw(unsafe { bindings::blk_execute_rq(rq, false) });
        // INVARIANT: its bios are unmapped below; it is only freed as `self` is dropped.
        //
        // SAFETY: the request has ended, and its end left it to this call.
        unsafe { (*rq).bio = ptr::null_mut() };
        // SAFETY: as it has ended, the private part is the caller's again.
        let payload = unsafe { (*payload_place).take() };
        // SAFETY: `bio` is null or the first one of the request's user memory, by the type
        // invariants; the request has ended.
        unsafe { user_memory::unmap(bio) }?;
        Ok((payload.ok_or(EIO)?, status))
    }
}

impl<T: DriverTypes> Drop for PassthroughRequest<T> {
    fn drop(&mut self) {
        // SAFETY: by the type invariants `self` owns the request, and its bios are of user memory
        // that nobody else unmaps; no device knows of them. Nobody wants to see what was read.
        let _ = unsafe { user_memory::unmap((*self.rq.as_ptr()).bio) };
        // SAFETY: by the type invariants the request was not executed, or has ended, and `self`
        // owns it.
        unsafe { bindings::blk_mq_free_request(self.rq.as_ptr()) };
    }
}

/// # Safety
///
/// The block layer calls this once for a request that [`PassthroughRequest::send`] sent, when it
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
    let status = Status::from_raw(status);
    let result = payload.map_or_else(
        || CommandResult::from(status),
        |payload| payload.end(status),
    );
    // SAFETY: the request is valid until this returns.
    if let Some(cmd) = NonNull::new(unsafe { (*rq).end_io_data.cast() }) {
        // SAFETY: `send` stored what `Pending::into_raw` returned, for this.
        unsafe { Pending::from_raw(cmd) }.complete(result);
    }
    RqEndIoRet(bindings::rq_end_io_ret_RQ_END_IO_FREE)
}
