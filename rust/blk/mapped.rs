// SPDX-License-Identifier: GPL-2.0

//! A request whose data is mapped for the device.

use super::{
    pdu::Pdu,
    request::{
        Request,
        RequestInfo, //
    },
    source::RequestMemory,
    status::Status,
    types::DriverTypes, //
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
    source::Source,
    trace,
    DmaVec,
    DmaVecs,
    Mapper,
    MemoryKind,
    Pinned,
    Slot,
    State,
    Unsynced, //
};

impl<'a, 'bound, T: DriverTypes> Request<'a, 'bound, T> {
    /// Maps the request's data for the device, in the direction that its operation says.
    ///
    /// A request without data maps to nothing: [`Mapped::dma_vecs`] is empty, and nothing was
    /// called. Such are a flush, and a request that only names sectors, such as a discard. If the
    /// device wants a list of its [ranges](RequestInfo::discard_ranges), the driver writes it to
    /// memory that it made for each tag at probe. (C drivers attach a page to the request,
    /// `RQF_SPECIAL_PAYLOAD`, which this maps, too; they have to allocate it,
    /// and free it when the request ends.)
    ///
    /// This neither allocates nor sleeps. A request of several segments takes memory for their
    /// ranges from its queue's, which has enough for a few at a time and grows by itself.
    ///
    /// # Errors
    ///
    /// [`MapError`] has the request and the error:
    ///
    /// - `EOPNOTSUPP`: it is an [`Op::Other`](super::Op::Other) with bytes, such as a zone append.
    /// - `E2BIG`, `EMSGSIZE`: the limits of the disk are not those of the tag set and the mapper,
    ///   which is a fault of the driver; the kernel log says so, once.
    /// - `ENOMEM`: the queue's memory is in use, or the kernel's. It passes: the request is to
    ///   wait.
    /// - The other errors of [`phyr::Mapper::map_into`].
    #[inline]
    pub fn map(self) -> Result<Mapped<'a, 'bound, T>, MapError<'a, 'bound, T>> {
        let mut info = self.into_info();
        if T::MAPS_LISTS && info.pdu().state.is_mapped() {
            return Ok(Mapped::new(info));
        }
        match info.map() {
            Ok(()) => Ok(Mapped::new(info)),
            Err(error) => {
                let hw = info.hw;
                warn_of_limits(hw.mapper(), error, info.bytes(), hw.max_segments());
                info.give_back();
                // SAFETY: nothing was mapped, and what the request held was given back.
                let request = unsafe { Self::from_info(info) };
                Err(MapError { error, request })
            }
        }
    }
}

impl<'a, 'bound, T: DriverTypes> RequestInfo<'a, 'bound, T> {
    /// Returns the request's data, if it has any, with the room for its mapping.
    #[inline(always)]
    #[expect(clippy::type_complexity)]
    fn data_and_room<'s>(
        &'s mut self,
    ) -> Result<
        Option<(
            Pinned<RequestMemory>,
            impl FnOnce() -> Result<&'s mut [Slot]> + use<'s, 'a, 'bound, T>,
            &'s mut State,
        )>,
    > {
        let Some(direction) = self.data_direction()? else {
            return Ok(None);
        };
        let (hw, rq) = (self.hw, self.rq.as_ptr());
        // SAFETY: by the type invariants the request is valid, started and owned: the block layer
        // keeps its pages until it is completed, and its operation allows the direction. It ends
        // only by its owner, who unmaps it first: the mapping's state is in the `Pdu`, and only
        // what was unmapped ends.
        let memory = unsafe { Pinned::new(RequestMemory::new(rq), direction, MemoryKind::System) };
        let Pdu { state, held, .. } = self.pdu_mut();
        let slots = move || {
            // SAFETY: by the type invariants the request is valid.
            let segments = unsafe { (*rq).nr_phys_segments };
            // SAFETY: by the type invariants what the request holds is of `hw`'s memory; it is
            // given back when the request is unmapped, or was not mapped. This is the only
            // reference to the slots.
            unsafe { hw.memory().take_slots(held, segments) }
        };
        Ok(Some((memory?, slots, state)))
    }

    /// Maps the request's data, if it has any.
    #[inline(always)]
    fn map(&mut self) -> Result {
        let mapper = self.hw.mapper();
        match self.data_and_room()? {
            // INVARIANT: the mapper makes the mapping with the slots that the request holds.
            Some((memory, slots, state)) => mapper.map_into(memory, slots, state),
            None => Ok(()),
        }
    }

    /// Maps the request's data, but for the sync; what fails is tried again by [`Request::map`].
    /// `unsynced` is of this queue's mapper, and the driver says [`DriverTypes::MAPS_LISTS`].
    #[inline]
    pub(crate) fn map_early(mut self, unsynced: &Unsynced<'_>) {
        let is_mapped = match self.data_and_room() {
            // INVARIANT: the mapper makes the mapping with the slots that the request holds.
            Ok(Some((memory, slots, state))) => unsynced.map_into(memory, slots, state).is_ok(),
            _ => true,
        };
        if !is_mapped {
            self.give_back();
        }
    }
}

/// Reports the mapping of a request, if it has one, to the tracepoint.
#[cold]
#[inline(never)]
fn trace_map(mapper: &Mapper<'_>, memory: RequestMemory, state: &State, slots: &[Slot]) {
    if state.is_mapped() {
        let bio_vecs = memory.count_bio_vecs();
        trace::map(mapper, bio_vecs, memory.phyrs(), state, slots);
    }
}

/// Warns if a mapping of `bytes` bytes, with room for `slots` segments, failed with an error that
/// the limits of the tag set and the mapper exclude.
#[cold]
fn warn_of_limits(mapper: &Mapper<'_>, error: Error, bytes: u32, slots: u16) {
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

/// A request that could not be mapped; see [`Request::map`].
pub struct MapError<'a, 'bound, T: DriverTypes> {
    /// The reason.
    pub error: Error,
    /// The request, unchanged.
    pub request: Request<'a, 'bound, T>,
}

impl<T: DriverTypes> fmt::Debug for MapError<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapError").field(&self.error).finish()
    }
}

/// A request that the driver owns and whose data, if it has any, is mapped.
///
/// When it is dropped it is unmapped, and ends with [`Status::IoErr`].
#[must_use = "a request that is dropped ends with an error"]
pub struct Mapped<'a, 'bound, T: DriverTypes>(RequestInfo<'a, 'bound, T>);

impl<'a, 'bound, T: DriverTypes> Mapped<'a, 'bound, T> {
    #[inline]
    pub(crate) fn from_info(info: RequestInfo<'a, 'bound, T>) -> Self {
        Self(info)
    }

    #[inline]
    pub(crate) fn pdu_mut(&mut self) -> &mut Pdu<T> {
        self.0.pdu_mut()
    }

    /// Takes a request that was just mapped, and reports that to the tracepoint.
    #[inline]
    fn new(info: RequestInfo<'a, 'bound, T>) -> Self {
        if trace::map_enabled() {
            // SAFETY: by the invariants of `RequestInfo` the request is owned.
            let memory = unsafe { RequestMemory::new(info.raw()) };
            trace_map(info.hw.mapper(), memory, &info.pdu().state, info.slots());
        }
        Self(info)
    }

    #[inline]
    pub(crate) fn into_info(self) -> RequestInfo<'a, 'bound, T> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, so that the value moves out of it.
        unsafe { ptr::read(&this.0) }
    }

    /// Returns the ranges that the device sees, in the order of the data.
    #[inline]
    pub fn dma_vecs(&self) -> DmaVecs<'_> {
        self.0.pdu().state.dma_vecs(self.0.slots())
    }

    /// Returns the range that the device sees if it is the only one, which is most common, in fewer
    /// steps than [`Mapped::dma_vecs`]. May return `None` for a single range, never the reverse.
    #[inline]
    pub fn dma_vec(&self) -> Option<DmaVec> {
        self.0.pdu().state.dma_vec()
    }

    /// Returns the driver's data of the request, for writing.
    #[inline]
    pub fn data_mut(&mut self) -> &mut T::RequestData {
        &mut self.0.pdu_mut().data
    }

    /// Returns the payload if the driver has made the request, for writing: such as what the device
    /// has reported of it.
    #[inline]
    pub fn passthrough_mut(&mut self) -> Option<&mut T::Passthrough> {
        self.0.passthrough_mut()
    }

    /// Returns the driver's data of the request's tag, for writing; see
    /// [`Operations::PerTag`](super::Operations::PerTag).
    #[inline]
    pub fn per_tag_mut(&mut self) -> &mut T::PerTag<'bound> {
        self.0.per_tag_mut()
    }

    /// Returns the driver's data of the request's tag, and the ranges that the device sees, to
    /// write the ranges into the data.
    #[inline]
    pub fn per_tag_and_dma_vecs(&mut self) -> (&mut T::PerTag<'bound>, DmaVecs<'_>) {
        // SAFETY: by the invariants of `RequestInfo` the `PerTag` belongs to `self`, which is
        // borrowed mutably for as long as both references are used; the ranges lie elsewhere.
        let per_tag = unsafe { &mut *self.0.hw.per_tag(self.0.tag()) };
        (per_tag, self.dma_vecs())
    }

    /// Unmaps the data. The device must be done with the request.
    #[inline]
    pub fn unmap(self) -> Request<'a, 'bound, T> {
        let mut info = self.into_info();
        info.unmap();
        // SAFETY: it was unmapped just now.
        unsafe { Request::from_info(info) }
    }
}

impl<'a, 'bound, T: DriverTypes> Deref for Mapped<'a, 'bound, T> {
    type Target = RequestInfo<'a, 'bound, T>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: DriverTypes> Drop for Mapped<'_, '_, T> {
    fn drop(&mut self) {
        self.0.unmap();
        // SAFETY: by the invariants of `RequestInfo` this is a started request; it is not mapped
        // any more, and nobody uses `self` afterwards.
        unsafe { bindings::blk_mq_end_request(self.0.rq.as_ptr(), Status::IoErr.into_raw()) };
    }
}
