// SPDX-License-Identifier: GPL-2.0

//! The callbacks of blk-mq, which call a driver's [`Operations`].
//!
//! The lifetimes begin here: each callback picks one that ends with it for both `'a` and `'bound`.
//! A driver's functions are the same for all of them, and can tell neither apart from the true one.

use super::{
    hw::{
        Affinity,
        HwCtx, //
    },
    in_flight::Expired,
    mapped::Mapped,
    operations::{
        Operations,
        QueueRqError,
        TimeoutAction, //
    },
    pdu::Pdu,
    request::{
        Origin,
        Request,
        RequestInfo, //
    },
    status::Status, //
};
use core::{
    marker::PhantomData,
    mem,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    bindings,
    prelude::*,
    sync::barrier::{
        smp_mb,
        Full, //
    }, //
};
use phyr::Unsynced;
use phyr_driver::irq::has_vectors;

/// `enum blk_eh_timer_return`, with the type that kCFI sees in C.
///
/// Before C calls through a pointer, a kernel with `CONFIG_CFI` compares a hash of the type that it
/// expects with the one in front of the function. An enumeration is a type of its own there, but a
/// `u32` in the kernel's bindings: a function of just the field's type has another hash, and the
/// first call traps. This is passed as a `u32` is, and hashed as in C; the kernel's own
/// `bindgen_parameters` do the same for other enumerations.
///
/// `tests/host/kcfi` compares the hashes of all callbacks with those of C.
#[repr(transparent)]
#[cfi_encoding = "19blk_eh_timer_return"]
struct EhTimerReturn(bindings::blk_eh_timer_return);

/// The type in C of `timeout` in `struct blk_mq_ops`.
type Timeout = unsafe extern "C" fn(*mut bindings::request) -> EhTimerReturn;

/// Returns `f` with the type that the kernel's bindings have for it.
const fn raw_timeout(
    f: Timeout,
) -> unsafe extern "C" fn(*mut bindings::request) -> bindings::blk_eh_timer_return {
    const { assert!(align_of::<EhTimerReturn>() == align_of::<c_uint>()) };
    // SAFETY: both are pointers to functions, of one signature but for the result, and
    // `EhTimerReturn` is a transparent wrapper of the other's: it is returned the same way.
    unsafe { mem::transmute::<Timeout, _>(f) }
}

/// Iterates over the requests of a list. Each is read before the one in front of it is returned.
///
/// # Safety
///
/// The list is one of requests that are not queued, and linked as blk-mq does it; each stays so
/// until it was returned.
#[inline]
unsafe fn requests(
    first: *mut bindings::request,
) -> impl Iterator<Item = NonNull<bindings::request>> {
    // SAFETY: the list is linked by this member, and ends with null.
    core::iter::successors(NonNull::new(first), |rq| unsafe {
        NonNull::new((*rq.as_ptr()).__bindgen_anon_1.rq_next)
    })
}

/// The `struct blk_mq_ops` of a driver.
pub(crate) struct VTable<T>(PhantomData<T>);

impl<T: Operations> VTable<T> {
    const OPS: bindings::blk_mq_ops = bindings::blk_mq_ops {
        queue_rq: Some(Self::queue_rq),
        commit_rqs: Some(Self::commit_rqs),
        complete: Some(Self::complete),
        timeout: Some(raw_timeout(Self::timeout)),
        init_hctx: Some(Self::init_hctx),
        init_request: Some(Self::init_request),
        exit_request: Some(Self::exit_request),
        map_queues: Some(Self::map_queues),
        queue_rqs: Some(Self::queue_rqs),
        ..pin_init::zeroed()
    };

    pub(crate) const fn ops() -> &'static bindings::blk_mq_ops {
        &Self::OPS
    }

    /// # Safety
    ///
    /// - `hctx` is one that [`Self::init_hctx`] was called for, and valid.
    /// - A queue of the tag set lives for `'a`.
    #[inline]
    unsafe fn hw<'a, 'bound>(hctx: *const bindings::blk_mq_hw_ctx) -> &'a HwCtx<'bound, T> {
        // SAFETY: `hctx` is valid, and `init_hctx` made its data point to an `HwCtx` of the tag
        // set, which lives as long as its queues: one lives for `'a`.
        unsafe { &*(*hctx).driver_data.cast::<HwCtx<'bound, T>>() }
    }

    /// # Safety
    ///
    /// blk-mq calls this with a request of its own that it wants started.
    unsafe extern "C" fn queue_rq(
        _hctx: *mut bindings::blk_mq_hw_ctx,
        bd: *const bindings::blk_mq_queue_data,
    ) -> bindings::blk_status_t {
        // SAFETY: `bd` is valid for the call.
        let (rq, last) = unsafe { ((*bd).rq, (*bd).last) };
        // SAFETY: blk-mq never passes null.
        let rq = unsafe { NonNull::new_unchecked(rq) };
        // SAFETY: blk-mq wants `rq` started by this call.
        unsafe {
            Self::start(rq);
            Self::queue(rq, last, Origin::Call)
        }
    }

    /// Starts the requests of a list, each as [`Self::queue_rq`] does. None is left in the list:
    /// one that the driver gives back is tried again, or ends.
    ///
    /// # Safety
    ///
    /// blk-mq calls this with a list of requests of its own, of one queue, that it wants started.
    unsafe extern "C" fn queue_rqs(list: *mut bindings::rq_list) {
        // SAFETY: the list is valid for the call.
        let first = unsafe { mem::take(&mut *list) }.head;
        // SAFETY: blk-mq wants the requests of the list started.
        let are_started = T::MAPS_LISTS && unsafe { Self::map_list(first) };
        // SAFETY: the list is linked, and ours; each request is looked at before it is queued.
        let mut requests = unsafe { requests(first) }.peekable();
        while let Some(rq) = requests.next() {
            // SAFETY: both are valid, and not queued yet.
            let context = |rq: &NonNull<bindings::request>| unsafe { (*rq.as_ptr()).mq_hctx };
            let last = requests.peek().map(context) != Some(context(&rq));
            // SAFETY: `rq` is valid, and not queued yet, so that this member is still ours.
            unsafe { (*rq.as_ptr()).__bindgen_anon_1.rq_next = ptr::null_mut() };
            // SAFETY: blk-mq wants it started by this call.
            unsafe {
                if !are_started {
                    Self::start(rq);
                }
                Self::queue(rq, last, Origin::List);
            }
        }
    }

    /// Starts the requests of a list and maps them, with one sync, if there are several and that
    /// saves one. Returns whether they are started. What is not mapped then, for whatever reason,
    /// is mapped by itself later.
    ///
    /// # Safety
    ///
    /// The list is one that [`Self::queue_rqs`] was given.
    #[inline(never)]
    unsafe fn map_list(first: *mut bindings::request) -> bool {
        // SAFETY: the list is linked, and ours.
        let requests = || unsafe { requests(first) };
        let (Some(rq), Some(_)) = (NonNull::new(first), requests().nth(1)) else {
            return false;
        };
        // SAFETY: the request is valid; its context is one of a queue that lives.
        let hw = unsafe { Self::hw((*rq.as_ptr()).mq_hctx) };
        // All queues of a tag set have the same mapper.
        let Some(unsynced) = Unsynced::new(hw.mapper()) else {
            return false;
        };
        for rq in requests() {
            // SAFETY: blk-mq wants it started.
            unsafe { Self::start(rq) };
            // SAFETY: it is started, and not with the driver yet.
            unsafe { Self::info(rq, Origin::List) }.map_early(&unsynced);
        }
        if unsynced.sync().is_err() {
            // SAFETY: they are started, and not with the driver yet.
            requests().for_each(|rq| unsafe { Self::info(rq, Origin::List) }.unmap());
        }
        true
    }

    /// Starts one request.
    ///
    /// # Safety
    ///
    /// `rq` is a request of blk-mq's own that it wants started.
    #[inline]
    unsafe fn start(rq: NonNull<bindings::request>) {
        // SAFETY: blk-mq gives the request to us, with the private part that `init_request` made,
        // and it is not started yet.
        unsafe { Pdu::<T>::prepare(rq) };
        // From here on its timer runs.
        //
        // SAFETY: the request is valid, and still ours alone.
        unsafe { bindings::blk_mq_start_request(rq.as_ptr()) };
    }

    /// Makes the owner of a request.
    ///
    /// # Safety
    ///
    /// `rq` is a request of blk-mq's own that it wants started, and that [`Self::start`] has
    /// started; its queue lives for `'a`. No other owner of it is used after this.
    #[inline]
    unsafe fn info<'a, 'bound>(
        rq: NonNull<bindings::request>,
        origin: Origin,
    ) -> RequestInfo<'a, 'bound, T> {
        // SAFETY: the request is valid, and its context is one of a queue that lives for `'a`.
        let hw = unsafe { Self::hw((*rq.as_ptr()).mq_hctx) };
        // SAFETY:
        // - The request is a started one on `hw`'s context, and its private part was made by
        //   `init_request`.
        // - blk-mq gave it to us, with its tag. No request that had the tag before is left with us:
        //   each had to end or be given back to free its tag. A flush can have the tag of the
        //   request that it is for (`blk_kick_flush`, without an I/O scheduler). That request keeps
        //   the tag and is not with us either: it waits in the flush queue, before its data is
        //   written or after that has ended, until the flush has ended.
        // - It has no mapping, as a request ends and is given back unmapped only, or the one that
        //   `map_list` has made of it.
        // - It came with this call, or in a list.
        unsafe { RequestInfo::new(rq, hw, origin) }
    }

    /// Hands one request to the driver.
    ///
    /// # Safety
    ///
    /// `rq` is a request of blk-mq's own that it wants started, and that [`Self::start`] has
    /// started; its queue lives during the call.
    // One function with all of the driver's part: in the loop over a list it would run out of
    // registers.
    #[inline(never)]
    unsafe fn queue(
        rq: NonNull<bindings::request>,
        last: bool,
        origin: Origin,
    ) -> bindings::blk_status_t {
        // SAFETY: the caller says that it was just started.
        let info = unsafe { Self::info(rq, origin) };
        let hw = info.hw;
        // SAFETY: the request and its queue are valid; `GenDisk` set the queue's data.
        let disk = unsafe { &*(*(*rq.as_ptr()).q).queuedata.cast::<T::DiskData<'_>>() };
        // SAFETY: it has no mapping, or one that the device was not told of if `T::MAPS_LISTS`.
        let request = unsafe { Request::from_info(info) };
        match T::queue_rq(hw, disk, request, last) {
            Ok(()) => Status::Ok.into_raw(),
            Err(refused) => Self::refuse(hw, refused, last),
        }
    }

    /// Returns the status for blk-mq of a request that [`Operations::queue_rq`] gave back.
    #[cold]
    fn refuse(hw: &HwCtx<'_, T>, refused: QueueRqError<'_, '_, T>, last: bool) -> u8 {
        let (request, status) = match refused {
            QueueRqError::Failed(request, status) if !status.is_busy() => (request, status),
            QueueRqError::DevResource(request) if Self::will_make_room(&request) => {
                (request, Status::DevResource)
            }
            // `DevResource` would promise that something in flight makes room.
            QueueRqError::Resource(request)
            | QueueRqError::DevResource(request)
            | QueueRqError::Failed(request, _) => (request, Status::Resource),
        };
        if request.origin == Origin::Call && !status.is_ok() {
            // The request is the one of this call: there is one of this origin in a call, and its
            // type does not let it leave. blk-mq takes it back with the status: it ends it, or
            // tries it again, and calls `commit_rqs`.
            let _ = request.into_info();
            return status.into_raw();
        }
        // A request of a list; or another one, which was in flight; or one that has failed with
        // success. None of these can be given to blk-mq by the return value.
        if status.is_busy() {
            request.requeue();
        } else {
            request.end(status);
        }
        if last {
            T::commit_rqs(hw);
        }
        Status::Ok.into_raw()
    }

    /// Returns whether blk-mq is sure to notice the end of a request that is in flight on the same
    /// context as `refused`, and then to try again what came back with [`Status::DevResource`].
    ///
    /// blk-mq marks a context for a restart before it dispatches requests that came back. It looks
    /// for the mark when a request of the context is freed, and once more itself when it has put
    /// away what came back now. So there must be a request that is not freed yet, and that was in
    /// flight rather than on its way to `queue_rq`, from where it could come back, too. `refused`
    /// itself is not in flight.
    fn will_make_room(refused: &Request<'_, '_, T>) -> bool {
        // SAFETY: by the invariants of `RequestInfo` the request is valid and owned, so that it has
        // a context. While it is with us the flag does not change (`blk_mq_update_tag_set_shared`
        // freezes the queue), and without it there are no requests of other queues in flight.
        let flags = unsafe { (*(*refused.raw()).mq_hctx).flags };
        // CAST: a `usize` has at least as many bits.
        let shared = flags & bindings::BLK_MQ_F_TAG_QUEUE_SHARED as usize != 0;
        if !T::WAITS_FOR_ROOM || shared {
            return false;
        }
        // Orders blk-mq's mark before the reads of the table. On the other side a request is taken
        // from the table before the mark is looked for: its reference count is between them
        // (`req_ref_put_and_test`), which is a full barrier.
        smp_mb(Full);
        let hw = refused.hw;
        (0..hw.depth()).any(|tag| hw.is_in_flight(tag))
    }

    /// # Safety
    ///
    /// blk-mq calls this with a context of a queue of the tag set.
    unsafe extern "C" fn commit_rqs(hctx: *mut bindings::blk_mq_hw_ctx) {
        // SAFETY: `hctx` is the context of a queue that lives during the call.
        T::commit_rqs(unsafe { Self::hw(hctx) });
    }

    /// # Safety
    ///
    /// blk-mq calls this for a request that [`Mapped::complete`] passed to it.
    unsafe extern "C" fn complete(rq: *mut bindings::request) {
        // SAFETY: the request is valid, and so is its context; it did not end, so that its queue
        // lives.
        let hw = unsafe { Self::hw((*rq).mq_hctx) };
        // SAFETY: blk-mq never passes null.
        let rq = unsafe { NonNull::new_unchecked(rq) };
        // SAFETY: `Mapped::complete` gave up the request with all that the invariants want.
        let info = unsafe { RequestInfo::new(rq, hw, Origin::Driver) };
        Mapped::complete_here(info);
    }

    /// # Safety
    ///
    /// blk-mq calls this with a reference to a request of the tag set.
    unsafe extern "C" fn timeout(rq: *mut bindings::request) -> EhTimerReturn {
        // The request is not ours: it can complete at any moment, or be given back and lose its
        // tag. But blk-mq's reference keeps it, its context and its queue. Only a request that is
        // found in flight under its tag is shown to the driver, who has to win it from the others.
        //
        // SAFETY: the request is valid. Others may write its tag; any value does.
        let tag = unsafe { ptr::read_volatile(&raw const (*rq).tag) };
        // SAFETY: a request that blk-mq has a reference to has a context, of a queue that lives.
        let hw = unsafe { Self::hw((*rq).mq_hctx) };
        let found = u16::try_from(tag)
            .ok()
            .and_then(|tag| hw.table().find(tag, rq).map(|count| (tag, count)));
        let action = match found {
            Some((tag, count)) => T::timeout(hw, Expired::new(tag, count, hw)),
            None => TimeoutAction::Done,
        };
        let action = match action {
            TimeoutAction::ResetTimer => action,
            // SAFETY: the request is valid.
            TimeoutAction::Done => unsafe { Self::unless_started(rq) },
        };
        EhTimerReturn(match action {
            TimeoutAction::Done => bindings::blk_eh_timer_return_BLK_EH_DONE,
            TimeoutAction::ResetTimer => bindings::blk_eh_timer_return_BLK_EH_RESET_TIMER,
        })
    }

    /// Returns what to do with the timer of a request that is thought to have ended. One that is
    /// still started may have an owner, who may put it back in flight: a driver with more to do for
    /// it, or one that has lost its completion (a fault made on purpose). blk-mq, whose reference
    /// keeps the request this one, is to look again.
    ///
    /// # Safety
    ///
    /// `rq` is valid for reads.
    unsafe fn unless_started(rq: *const bindings::request) -> TimeoutAction {
        // SAFETY: `rq` is valid for reads. Others may write its state; any value does.
        let state = unsafe { ptr::read_volatile(&raw const (*rq).state) };
        if state == bindings::mq_rq_state_MQ_RQ_IN_FLIGHT {
            TimeoutAction::ResetTimer
        } else {
            TimeoutAction::Done
        }
    }

    /// # Safety
    ///
    /// blk-mq calls this for a new context, with the tag set's `driver_data`.
    unsafe extern "C" fn init_hctx(
        hctx: *mut bindings::blk_mq_hw_ctx,
        data: *mut c_void,
        index: c_uint,
    ) -> c_int {
        // CAST: an index is at most a `u16`.
        //
        // SAFETY: by the invariants of `TagSet` the data points to as many `HwCtx` as blk-mq has
        // hardware queues, or more.
        let hw = unsafe { data.cast::<HwCtx<'_, T>>().add(index as usize) };
        // SAFETY: the context is ours to set up.
        unsafe { (*hctx).driver_data = hw.cast() };
        0
    }

    /// # Safety
    ///
    /// blk-mq calls this for a new request with `cmd_size` bytes after it.
    unsafe extern "C" fn init_request(
        _set: *mut bindings::blk_mq_tag_set,
        rq: *mut bindings::request,
        _hctx_idx: c_uint,
        _numa_node: c_int,
    ) -> c_int {
        // SAFETY: blk-mq never passes null; the private part is there, aligned and unused.
        unsafe { Pdu::<T>::of(NonNull::new_unchecked(rq)).write(Pdu::new()) };
        0
    }

    /// # Safety
    ///
    /// blk-mq calls this once for each request that [`Self::init_request`] was called for, when
    /// nobody uses it.
    unsafe extern "C" fn exit_request(
        _set: *mut bindings::blk_mq_tag_set,
        rq: *mut bindings::request,
        _hctx_idx: c_uint,
    ) {
        // SAFETY: blk-mq never passes null; `init_request` made the private part, and nobody uses
        // it.
        unsafe { Pdu::<T>::of(NonNull::new_unchecked(rq)).drop_in_place() };
    }

    /// # Safety
    ///
    /// blk-mq calls this from `blk_mq_alloc_tag_set`.
    unsafe extern "C" fn map_queues(set: *mut bindings::blk_mq_tag_set) {
        // SAFETY: the set is valid, and by the invariants of `TagSet` its data points to its first
        // `HwCtx`, of at least one.
        let hw = unsafe { &*(*set).driver_data.cast::<HwCtx<'_, T>>() };
        // PANIC: a set has room for more maps than one.
        //
        // SAFETY: the set has one map, that is being filled in.
        let map = unsafe { &raw mut (*set).map[0] };
        // SAFETY: the map is valid.
        let (device, nr) = (hw.mapper().device(), unsafe { (*map).nr_queues });
        match hw.affinity() {
            Affinity::Interrupts { first } if has_vectors(device, first, nr) => {
                // SAFETY: the map is that of the set; the device is bound, and has these vectors.
                unsafe { bindings::blk_mq_map_hw_queues(map, phyr::raw::device(device), first) };
            }
            Affinity::Spread | Affinity::Interrupts { .. } => {
                // SAFETY: the map is that of the set, which is being filled in.
                unsafe { bindings::blk_mq_map_queues(map) };
            }
        }
    }
}
