// SPDX-License-Identifier: GPL-2.0

//! A request whose data is mapped for the device.

use super::{
    batch::Batch,
    completion::Generation,
    operations::Operations,
    pdu::Pdu,
    request::{
        Info,
        Request, //
    },
    status::Status, //
};
use core::{
    fmt,
    mem::ManuallyDrop,
    ops::Deref,
    ptr, //
};
use kernel::{
    bindings,
    prelude::*, //
};
use phyr::{
    DmaVec,
    DmaVecs, //
};

#[cfg(CONFIG_FAIL_IO_TIMEOUT)]
use super::request::Origin;

/// A request that the driver owns and whose data, if it has any, is mapped.
///
/// When it is dropped it is unmapped, and ends with [`Status::IoErr`].
#[must_use = "a request that is dropped ends with an error"]
pub struct Mapped<'a, 'bound, T: Operations>(Info<'a, 'bound, T>);

impl<'a, 'bound, T: Operations> Mapped<'a, 'bound, T> {
    #[inline]
    pub(crate) fn from_info(info: Info<'a, 'bound, T>) -> Self {
        Self(info)
    }

    #[inline]
    fn into_info(self) -> Info<'a, 'bound, T> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, so that the value moves out of it.
        unsafe { ptr::read(&this.0) }
    }

    /// The ranges that the device sees, in the order of the data.
    #[inline]
    pub fn dma_vecs(&self) -> DmaVecs<'_> {
        // SAFETY: by the invariants of `Info` the slots of the tag belong to `self`, and nobody
        // writes them while it is borrowed.
        let slots = unsafe { self.0.hw.slots(self.0.tag()) };
        self.0.pdu().state.dma_vecs(slots)
    }

    /// The range that the device sees, if it is but one: most often, and the same as that of
    /// [`Mapped::dma_vecs`], in fewer steps. `None` does not say that there are several.
    #[inline]
    pub fn dma_vec(&self) -> Option<DmaVec> {
        self.0.pdu().state.dma_vec()
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

    /// Returns the driver's data of the request's tag, and the ranges that the device sees, to
    /// write the ranges into the data.
    #[inline]
    pub fn per_tag_and_dma_vecs(&mut self) -> (&mut T::PerTag<'bound>, DmaVecs<'_>) {
        // SAFETY: by the invariants of `Info` what is kept for the tag belongs to `self`, which is
        // borrowed mutably for as long as both references are used; the ranges lie elsewhere.
        let per_tag = unsafe { &mut *self.0.hw.per_tag(self.0.tag()) };
        (per_tag, self.dma_vecs())
    }

    /// The generation that the request has when it is parked next: 0 to 15, and another one the
    /// next time that its tag is in flight.
    ///
    /// A device that reports it back together with the tag, in an identifier such as `tag |
    /// generation << 12`, cannot name a request that it has completed before; see
    /// [`HwCtx::take_generation`](super::HwCtx::take_generation).
    #[inline]
    pub fn generation(&self) -> u8
    where
        T: Operations<Completion = Generation>,
    {
        self.0.hw.table().generation(self.0.tag())
    }

    /// Puts the request in flight and returns its tag.
    ///
    /// From here on [`HwCtx::take`](super::HwCtx::take) or its like finds it. Park before the
    /// device can know of the request, that is before the doorbell: it can complete at once.
    #[inline]
    pub fn park(self) -> u16 {
        let tag = self.0.tag();
        let info = self.into_info();
        if !info.hw.table().put(tag, info.rq) {
            // blk-mq has no tags out of range. If it had, this would end with an error.
            drop(Self(info));
        }
        tag
    }

    /// Unmaps the data. The device must be done with the request.
    #[inline]
    pub fn unmap(self) -> Request<'a, 'bound, T> {
        let mut info = self.into_info();
        Self::unmap_info(&mut info);
        // SAFETY: it was unmapped just now.
        unsafe { Request::from_info(info) }
    }

    // As `unmap_in_place`, and for its sake.
    #[inline(always)]
    pub(crate) fn unmap_info(info: &mut Info<'a, 'bound, T>) {
        let (hw, tag) = (info.hw, info.tag());
        // SAFETY: by the invariants of `Info` the slots of the tag belong to it.
        let slots = || unsafe { hw.slots(tag) };
        // SAFETY:
        // - By the invariants of `Info` the state came from `map_into` of this mapper with these
        //   slots, or has no use for any.
        // - That the device is done with the request is what the driver says by unmapping.
        unsafe { hw.mapper().unmap_in_place(&mut info.pdu_mut().state, slots) };
    }

    /// Brings the request to the CPU that wants its result, and finishes it there by
    /// [`Operations::complete`]: unmaps it and ends it with `status`.
    ///
    /// If that is this CPU, or one that shares its cache, it is done before this returns. For a
    /// device with one hardware queue it is left to the soft interrupt.
    ///
    /// Context: any; a lock of the driver's may be held that is not taken where requests end or
    /// begin.
    ///
    /// Where the kernel can make I/O time out for a test (`CONFIG_FAIL_IO_TIMEOUT`) and is told to,
    /// a request that [`HwCtx::take`](super::HwCtx::take) or
    /// [`HwCtx::take_generation`](super::HwCtx::take_generation) took goes back in flight instead,
    /// as if the device had not reported it. Any other request does not: it was given up already,
    /// and nobody would come for it again.
    ///
    /// C: `blk_mq_complete_request`.
    #[inline]
    pub fn complete(self, status: Status) {
        if let Some(here) = self.bring(status) {
            T::complete(here, status);
        }
    }

    /// As [`Mapped::complete`]; but if it ends here, and well, it does so with the others of
    /// `batch`, and without [`Operations::complete`]. A request of the driver's own, and one of a
    /// disk with an I/O scheduler, ends by itself.
    #[inline]
    pub fn complete_in(self, batch: &mut Batch<T>, status: Status) {
        let Some(here) = self.bring(status) else {
            return;
        };
        if !status.is_ok() {
            return T::complete(here, status);
        }
        // SAFETY: it is to end well, and was left to this processor.
        if let Err(info) = unsafe { batch.add(here.into_info()) } {
            T::complete(Self(info), status);
        }
    }

    /// Brings the request to the CPU that wants its result, unless that is this one.
    #[inline]
    fn bring(mut self, status: Status) -> Option<Self> {
        #[cfg(CONFIG_FAIL_IO_TIMEOUT)]
        if self.0.origin == Origin::Device && self.is_to_time_out() {
            self.park();
            return None;
        }
        self.0.pdu_mut().status = status;
        let info = self.into_info();
        // SAFETY: by the invariants of `Info` this is a started request, and `info`, its only
        // owner, gives it to the `complete` callback if this returns `true`.
        if unsafe { bindings::blk_mq_complete_request_remote(info.rq.as_ptr()) } {
            None
        } else {
            Some(Self(info))
        }
    }

    /// C: `blk_should_fake_timeout`, which is inline.
    #[cfg(CONFIG_FAIL_IO_TIMEOUT)]
    fn is_to_time_out(&self) -> bool {
        // SAFETY: by the invariants of `Info` the request and its queue are valid.
        let q = unsafe { (*self.0.raw()).q };
        // SAFETY: as above; others may write the flags, any value does.
        let flags = unsafe { ptr::read_volatile(&raw const (*q).queue_flags) };
        // SAFETY: as above.
        flags & (1 << bindings::QUEUE_FLAG_FAIL_IO) != 0
            && unsafe { bindings::__blk_should_fake_timeout(q) }
    }

    /// Goes on with a request that [`Mapped::complete`] sent.
    ///
    /// # Safety
    ///
    /// The block layer calls back with the request that `info` stands for.
    #[inline]
    pub(crate) unsafe fn complete_here(info: Info<'a, 'bound, T>) {
        // SAFETY: by the invariants of `Info`, which the caller vouches for.
        let status = unsafe { (*Pdu::<T>::of(info.rq).as_ptr()).status };
        T::complete(Self(info), status);
    }
}

impl<'a, 'bound, T: Operations> Deref for Mapped<'a, 'bound, T> {
    type Target = Info<'a, 'bound, T>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: Operations> Drop for Mapped<'_, '_, T> {
    fn drop(&mut self) {
        Self::unmap_info(&mut self.0);
        // SAFETY: by the invariants of `Info` this is a started request; it is not mapped any more,
        // and nobody uses `self` afterwards.
        unsafe { bindings::blk_mq_end_request(self.0.rq.as_ptr(), Status::IoErr.into_raw()) };
    }
}

/// A request that could not be mapped, and why; see [`Request::map`].
pub struct MapError<'a, 'bound, T: Operations> {
    error: Error,
    request: Request<'a, 'bound, T>,
}

impl<'a, 'bound, T: Operations> MapError<'a, 'bound, T> {
    pub(crate) fn new(error: Error, request: Request<'a, 'bound, T>) -> Self {
        Self { error, request }
    }

    /// Why.
    pub fn error(&self) -> Error {
        self.error
    }

    /// The request, as it was before.
    pub fn into_request(self) -> Request<'a, 'bound, T> {
        self.request
    }
}

impl<T: Operations> fmt::Debug for MapError<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapError").field(&self.error).finish()
    }
}
