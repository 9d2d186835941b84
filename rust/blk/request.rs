// SPDX-License-Identifier: GPL-2.0

//! A request that the driver owns.
//!
//! C: `struct request` ([`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)).

use super::{
    hw::HwCtx,
    mapped::{
        MapError,
        Mapped, //
    },
    op::{
        Op,
        Range,
        Ranges,
        OP_MASK, //
    },
    operations::Operations,
    pdu::Pdu,
    source::RequestMemory,
    status::Status, //
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
    source::Source,
    trace,
    Mapper,
    MemoryKind,
    Pinned, //
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

/// How the driver came to own a request.
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

/// What [`Request`] and [`Mapped`] can both tell; they dereference to it.
///
/// # Invariants
///
/// - `rq` is a started request of a queue of `hw`'s tag set, on `hw`, that has not ended.
/// - The `Info` is in the only value that owns the request, and with it the request's `Pdu`,
///   which is initialised, and the slots and the `PerTag` of its tag in `hw`.
/// - If the `Pdu` has a mapping, `hw`'s mapper made it of the request's own pages with those
///   slots.
/// - If `origin` is `Origin::Call`, that call is running with `'a`.
pub struct Info<'a, 'bound, T: Operations> {
    pub(crate) rq: NonNull<bindings::request>,
    pub(crate) hw: &'a HwCtx<'bound, T>,
    pub(crate) origin: Origin,
    /// The `Pdu` is owned.
    _data: PhantomData<(T::RequestData, T::Passthrough)>,
}

// SAFETY: an owned request can be ended on any CPU and in any context; `RequestData` and
// `Passthrough` are `Send`, and `HwCtx` is `Sync`.
unsafe impl<T: Operations> Send for Info<'_, '_, T> {}

impl<'a, 'bound, T: Operations> Info<'a, 'bound, T> {
    /// Reports the mapping that was just made.
    #[cold]
    #[inline(never)]
    fn trace_map(&self) {
        // SAFETY: by the type invariants the request is owned; the iterators end here.
        let memory = unsafe { RequestMemory::new(self.rq.as_ptr()) };
        // SAFETY: by the type invariants the slots of the tag belong to `self`.
        let slots = unsafe { self.hw.slots(self.tag()) };
        let (bio_vecs, state) = (memory.count_bio_vecs(), &self.pdu().state);
        trace::map(self.hw.mapper(), bio_vecs, memory.phyrs(), state, slots);
    }

    /// # Safety
    ///
    /// The arguments satisfy the type invariants: the caller hands ownership over.
    #[inline]
    pub(crate) unsafe fn new(
        rq: NonNull<bindings::request>,
        hw: &'a HwCtx<'bound, T>,
        origin: Origin,
    ) -> Self {
        // INVARIANT: by the safety requirements.
        Self {
            rq,
            hw,
            origin,
            _data: PhantomData,
        }
    }

    /// The request for reading.
    #[inline]
    pub(crate) fn raw(&self) -> *const bindings::request {
        self.rq.as_ptr()
    }

    #[inline]
    pub(crate) fn pdu(&self) -> &Pdu<T> {
        // SAFETY: by the type invariants the request is valid, of such a tag set, and its `Pdu` is
        // initialised and owned by `self`, which is borrowed.
        unsafe { Pdu::of(self.rq).as_ref() }
    }

    #[inline]
    pub(crate) fn pdu_mut(&mut self) -> &mut Pdu<T> {
        // SAFETY: as in `pdu`, and borrowed mutably.
        unsafe { Pdu::of(self.rq).as_mut() }
    }

    #[inline]
    fn flags(&self) -> u32 {
        // SAFETY: by the type invariants the request is valid, and only its owner changes it.
        unsafe { (*self.raw()).cmd_flags }
    }

    /// The hardware queue that it is on.
    #[inline]
    pub fn hw(&self) -> &'a HwCtx<'bound, T> {
        self.hw
    }

    /// The driver's data of the disk that it is for.
    #[inline]
    pub fn disk(&self) -> &T::DiskData<'bound> {
        // SAFETY: by the type invariants the request is valid, and so is its queue; `Disk` set the
        // queue's data to a `DiskData<'bound>`, which outlives all of the queue's requests.
        unsafe { &*(*(*self.raw()).q).queuedata.cast::<T::DiskData<'bound>>() }
    }

    /// The tag: unique among what is in flight on the hardware queue, and below its depth.
    #[inline]
    pub fn tag(&self) -> u16 {
        // SAFETY: by the type invariants the request is valid, and has its tag while it is started.
        // CAST: tags are below the depth, which is a `u16`.
        unsafe { (*self.raw()).tag as u16 }
    }

    /// What it asks for.
    #[inline]
    pub fn op(&self) -> Op {
        Op::from_raw(self.flags() & OP_MASK)
    }

    /// Where it begins, in sectors of 512 bytes.
    #[inline]
    pub fn sector(&self) -> u64 {
        // SAFETY: by the type invariants the request is valid, and only its owner changes it.
        unsafe { (*self.raw()).__sector }
    }

    /// How much it covers, in bytes.
    #[inline]
    pub fn bytes(&self) -> u32 {
        // SAFETY: as in `sector`.
        unsafe { (*self.raw()).__data_len }
    }

    /// How much it covers, in sectors of 512 bytes.
    #[inline]
    pub fn sectors(&self) -> u32 {
        self.bytes() >> bindings::SECTOR_SHIFT
    }

    /// How many segments of memory it has at most, or, for a discard, how many [`Ranges`].
    #[inline]
    pub fn segments(&self) -> u16 {
        // SAFETY: as in `sector`.
        unsafe { (*self.raw()).nr_phys_segments }.max(1)
    }

    /// Whether the data must be on the medium when it ends (forced unit access).
    #[inline]
    pub fn is_fua(&self) -> bool {
        self.flags() & FUA != 0
    }

    /// Whether [`Op::WriteZeroes`] must keep the sectors allocated.
    #[inline]
    pub fn is_nounmap(&self) -> bool {
        self.flags() & NOUNMAP != 0
    }

    /// Whether a failure is to be reported at once rather than retried.
    ///
    /// C: `blk_noretry_request`.
    #[inline]
    pub fn is_noretry(&self) -> bool {
        self.flags() & FAILFAST != 0
    }

    /// Returns whether nothing is to be said in the log if it fails.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        // SAFETY: by the type invariants the request is valid; once it was started nobody changes
        // this flag.
        unsafe { (*self.raw()).rq_flags & QUIET != 0 }
    }

    /// What a discard is to discard: at most `max_discard_segments` of the disk.
    #[inline]
    pub fn ranges(&self) -> Ranges<'_> {
        // SAFETY: by the type invariants the request and its queue are valid.
        let (several, bio) = unsafe {
            let several = (*(*self.raw()).q).limits.max_discard_segments > 1;
            (several, (*self.raw()).bio)
        };
        if several {
            // SAFETY: a bio that belongs to the request does so until the request ends, which takes
            // its owner, which is borrowed.
            unsafe { Ranges::of_bios(bio) }
        } else {
            Ranges::whole(Range {
                sector: self.sector(),
                sectors: self.sectors(),
            })
        }
    }

    /// What the request carries, if the driver has made it: it is [`Op::Passthrough`] then.
    #[inline]
    pub fn passthrough(&self) -> Option<&T::Passthrough> {
        self.pdu().passthrough.as_ref()
    }

    /// Returns the driver's data of the request's tag; see [`Operations::PerTag`].
    #[inline]
    pub fn per_tag(&self) -> &T::PerTag<'bound> {
        // SAFETY: by the type invariants `self` owns the request; others get at what is kept for
        // the tag by a mutable reference to the owner only, which is borrowed.
        unsafe { &*self.hw.per_tag(self.tag()) }
    }

    /// The same, for an owner that is borrowed mutably.
    #[inline]
    pub(crate) fn per_tag_mut(&mut self) -> &mut T::PerTag<'bound> {
        // SAFETY: by the type invariants `self` owns the request, and is borrowed mutably.
        unsafe { &mut *self.hw.per_tag(self.tag()) }
    }

    /// What the driver keeps in the request.
    #[inline]
    pub fn data(&self) -> &T::RequestData {
        &self.pdu().data
    }
}

/// Says that a mapping failed as none can whose disk has the limits of its tag set and its mapper:
/// of a request of `bytes` bytes, for which there are `slots` slots.
#[cold]
fn report(mapper: &Mapper<'_>, error: Error, bytes: u32, slots: u16) {
    let (device, limits) = (mapper.device(), mapper.limits());
    if error == E2BIG {
        kernel::do_once_lite! {
            dev_warn!(
                device,
                "E2BIG: a request of {} bytes has more segments than the {} of its tag set\n",
                bytes,
                slots
            )
        }
    } else if error == EMSGSIZE {
        kernel::do_once_lite! {
            dev_warn!(
                device,
                "EMSGSIZE: a request of {} bytes has a segment over {} bytes or boundary {:#x}\n",
                bytes,
                limits.max_segment(),
                limits.boundary_mask()
            )
        }
    }
}

/// A request that the driver owns and that is not mapped.
///
/// When it is dropped it ends with [`Status::IoErr`].
///
/// # Invariants
///
/// The request's `Pdu` has no mapping.
#[must_use = "a request that is dropped ends with an error"]
pub struct Request<'a, 'bound, T: Operations>(Info<'a, 'bound, T>);

impl<'a, 'bound, T: Operations> Request<'a, 'bound, T> {
    /// # Safety
    ///
    /// The request is not mapped.
    #[inline]
    pub(crate) unsafe fn from_info(info: Info<'a, 'bound, T>) -> Self {
        // INVARIANT: by the safety requirements.
        Self(info)
    }

    #[inline]
    pub(crate) fn into_info(self) -> Info<'a, 'bound, T> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, so that the value moves out of it.
        unsafe { ptr::read(&this.0) }
    }

    /// What the driver keeps in the request.
    #[inline]
    pub fn data_mut(&mut self) -> &mut T::RequestData {
        &mut self.0.pdu_mut().data
    }

    /// Returns the driver's data of the request's tag, to write; see [`Operations::PerTag`].
    #[inline]
    pub fn per_tag_mut(&mut self) -> &mut T::PerTag<'bound> {
        self.0.per_tag_mut()
    }

    /// Maps the request's data for the device, in the direction that its operation says.
    ///
    /// A request without data maps to nothing: [`Mapped::dma_vecs`] is empty, and nothing was
    /// called. That is a flush, and whatever only names sectors, such as a discard: if the device
    /// wants a list of its [`Ranges`], that list is the driver's, in memory that it made for each
    /// tag at probe. (C drivers attach a page to the request, `RQF_SPECIAL_PAYLOAD`, which
    /// [`phyr::Mapper::map_into`] maps, too; they have to allocate it, and free it when the request
    /// ends.)
    ///
    /// This neither allocates nor sleeps.
    ///
    /// # Errors
    ///
    /// [`MapError`] has the request and the error:
    ///
    /// - `EOPNOTSUPP`: it is an [`Op::Other`] with bytes, such as a zone append.
    /// - `E2BIG`, `EMSGSIZE`: the limits of the disk are not those of the tag set and the mapper,
    ///   which is a fault of the driver; the kernel log says so, once.
    /// - What else [`phyr::Mapper::map_into`] says.
    #[inline]
    pub fn map(self) -> Result<Mapped<'a, 'bound, T>, MapError<'a, 'bound, T>> {
        let direction = match self.op().data(self.bytes()) {
            Ok(Some(direction)) => direction,
            Ok(None) => return Ok(Mapped::from_info(self.into_info())),
            Err(e) => return Err(MapError::new(e, self)),
        };
        let mut info = self.into_info();
        let (hw, rq, tag) = (info.hw, info.rq.as_ptr(), info.tag());
        // SAFETY: by the type invariants the request is valid, started and owned: the block layer
        // keeps its pages until it is completed, and its operation is what allows the direction. It
        // ends only by its owner, who unmaps it first: the mapping's state is in the `Pdu`, and
        // `Mapped::unmap` alone makes a `Request` of it.
        let memory = unsafe { Pinned::new(RequestMemory::new(rq), direction, MemoryKind::System) };
        // SAFETY: by the type invariants the slots of the tag belong to `info`, and so to the
        // mapping until it is unmapped; this is the only reference to them.
        let slots = || unsafe { hw.slots_mut(tag) };
        // INVARIANT: `hw`'s mapper makes the mapping with the tag's slots.
        let result = memory.and_then(|memory| hw.mapper().map_into(&memory, slots));
        match result {
            Ok(state) => {
                info.pdu_mut().state = state;
                if trace::map_enabled() {
                    info.trace_map();
                }
                Ok(Mapped::from_info(info))
            }
            Err(e) => {
                let slots = hw.tag_set().max_segments();
                report(hw.mapper(), e, info.bytes(), slots);
                // SAFETY: nothing was mapped.
                Err(MapError::new(e, unsafe { Self::from_info(info) }))
            }
        }
    }

    /// Ends the request here and now, whatever the CPU.
    ///
    /// See [`Mapped::complete`] for the way that considers who waits for it.
    #[inline]
    pub fn end(self, status: Status) {
        let info = self.into_info();
        // SAFETY: by the type invariants this is a started request, and `info`, its only owner, is
        // given up; it is not mapped. All of its bytes end, so that nothing of it is left over.
        unsafe { bindings::blk_mq_end_request(info.rq.as_ptr(), status.into_raw()) };
    }

    /// Gives the request back to blk-mq, which starts it again: later, maybe with another tag.
    pub fn requeue(self) {
        let info = self.into_info();
        // SAFETY: by the type invariants this is a started request, and `info`, its only owner, is
        // given up; it is not mapped.
        unsafe { bindings::blk_mq_requeue_request(info.rq.as_ptr(), true) };
    }
}

impl<'a, 'bound, T: Operations> Deref for Request<'a, 'bound, T> {
    type Target = Info<'a, 'bound, T>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: Operations> Drop for Request<'_, '_, T> {
    fn drop(&mut self) {
        // SAFETY: as in `end`; nobody uses `self` afterwards.
        unsafe { bindings::blk_mq_end_request(self.0.rq.as_ptr(), Status::IoErr.into_raw()) };
    }
}
