// SPDX-License-Identifier: GPL-2.0

//! Requests in flight: a driver puts them there before it rings the doorbell, and takes them out by
//! their tag, in its interrupt handler, a time-out or a reset.

use super::{
    hw::HwCtx,
    mapped::Mapped,
    request::{
        Origin,
        RequestInfo, //
    },
    tag_table::{
        Count,
        TagTable, //
    },
    types::{
        DriverTypes,
        TagAndGeneration,
        TagOnly, //
    },
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*, //
};

impl<'a, 'bound, T: DriverTypes> Mapped<'a, 'bound, T> {
    /// Returns the generation that the request has when it is put in flight next: 0 to 15, and
    /// another one the next time that its tag is in flight.
    ///
    /// A device that reports it back together with the tag, in an identifier such as `tag |
    /// generation << 12`, cannot name a request that it has completed before; see
    /// [`HwCtx::complete_generation`].
    #[inline]
    pub fn generation(&self) -> u8
    where
        T: DriverTypes<CompletionId = TagAndGeneration>,
    {
        self.hw.table().generation(self.tag())
    }

    /// Puts the request in flight and returns its tag.
    ///
    /// From here on [`HwCtx::complete_tag`] or its like finds it. Call this before the device can
    /// know of the request, that is before the doorbell: it can complete at once.
    #[inline]
    pub fn put_in_flight(self) -> u16 {
        self.put_generation_in_flight().0
    }

    /// Puts the request in flight as [`Mapped::put_in_flight`] does, and returns its
    /// [generation](Mapped::generation), too.
    #[inline]
    pub fn put_in_flight_with_generation(self) -> (u16, u8)
    where
        T: DriverTypes<CompletionId = TagAndGeneration>,
    {
        self.put_generation_in_flight()
    }

    // Into `queue_rq`, whose registers have all that it needs.
    #[inline(always)]
    fn put_generation_in_flight(self) -> (u16, u8) {
        let tag = self.tag();
        let info = self.into_info();
        let Some(generation) = info.hw.table().put(tag, info.rq) else {
            // blk-mq has no tags out of range. If it had, this would end with an error.
            drop(Self::from_info(info));
            return (tag, 0);
        };
        (tag, generation)
    }
}

impl<'bound, T: DriverTypes> HwCtx<'bound, T> {
    /// Takes the request that is in flight under `tag`, if there is one, because the device reports
    /// it.
    ///
    /// Of several callers one gets it. `tag` can be anything that a device may report. But if the
    /// tag is in use again when the device reports it once too often, this takes the wrong one.
    ///
    /// By taking a request, and then unmapping and ending it, the driver says that the device is
    /// done with its memory: here, because the device reported that it has completed. For what a
    /// device was stopped from completing there is [`HwCtx::drain`].
    ///
    /// For a device that reports [tags only](TagOnly), whose driver has a rule to keep.
    #[inline]
    pub fn complete_tag(&self, tag: u16) -> Option<Mapped<'_, 'bound, T>>
    where
        T: DriverTypes<CompletionId = TagOnly>,
    {
        let rq = self.table().take(tag)?;
        Some(self.taken(rq, Origin::Device))
    }

    /// Takes a request as [`HwCtx::complete_tag`] does, if it was put in flight with this
    /// [generation](Mapped::generation).
    ///
    /// For a device whose command identifiers have [room](TagAndGeneration) for it beside the tag:
    /// a completion that comes twice, or late, finds nothing then, though its tag may be in use
    /// again. Only after 16 more turns of the tag would it find one.
    #[inline]
    pub fn complete_generation(&self, tag: u16, generation: u8) -> Option<Mapped<'_, 'bound, T>>
    where
        T: DriverTypes<CompletionId = TagAndGeneration>,
    {
        let rq = self.table().take_generation(tag, generation)?;
        Some(self.taken(rq, Origin::Device))
    }

    #[inline]
    fn taken(&self, rq: NonNull<bindings::request>, origin: Origin) -> Mapped<'_, 'bound, T> {
        // SAFETY: `Mapped::put_in_flight` gave the request to this queue's table, with all that the
        // invariants of `RequestInfo` want; the table gave it to us alone.
        Mapped::from_info(unsafe { RequestInfo::new(rq, self, origin) })
    }

    /// Returns whether a request is in flight under `tag`. It may be gone by the time this returns.
    #[inline]
    pub fn is_in_flight(&self, tag: u16) -> bool {
        self.table().contains(tag)
    }

    /// Takes all requests in flight, one after the other.
    ///
    /// For a device that was stopped, and cannot access memory any more: `f` ends or requeues each,
    /// such as by `unmap().requeue()`. Requests that are put in flight meanwhile may be missed:
    /// call [`TagSet::quiesce`](super::TagSet::quiesce) before.
    ///
    /// The device does not know of these requests any more, so that none of them ever goes back in
    /// flight, whatever [`Mapped::complete`] does for a test.
    pub fn drain<F: FnMut(Mapped<'_, 'bound, T>)>(&self, f: F) {
        (0..self.depth())
            .filter_map(|tag| self.table().take(tag))
            .map(|rq| self.taken(rq, Origin::Driver))
            .for_each(f);
    }

    /// Makes the timer of the request in flight under `tag` expire now, so that
    /// [`Operations::timeout`](super::Operations::timeout) is called for it. Returns whether there
    /// is such a request. It may be gone by the time this returns, and then nothing happens.
    ///
    /// For an interrupt handler that learns that a request, or the device, needs help: `timeout` is
    /// called soon after, by a worker, and may sleep. A call for this request that is under way is
    /// enough: if that returns [`ResetTimer`](super::TimeoutAction::ResetTimer), there may be no
    /// other before the request's time is over. So the caller stores what it has learnt before it
    /// aborts, and `timeout` looks there last.
    ///
    /// This walks all tags of the tag set. It is for errors.
    ///
    /// Context: any, but a non-maskable interrupt.
    ///
    /// C: `blk_abort_request`.
    ///
    /// # Examples
    ///
    /// ```
    /// use phyr_blk::{HwCtx, Operations};
    ///
    /// /// The device says in an interrupt that it has failed at these tags, and has stopped.
    /// fn failed<T: Operations>(hw: &HwCtx<'_, T>, tags: u32) {
    ///     (0..32)
    ///         .filter(|tag| tags & 1 << tag != 0)
    ///         .for_each(|tag| {
    ///             hw.abort(tag);
    ///         });
    /// }
    /// ```
    pub fn abort(&self, tag: u16) -> bool {
        if !self.is_in_flight(tag) {
            return false;
        }
        let mut search = Abort {
            table: self.table(),
            tag,
            found: false,
        };
        // A request that is found in our table can end at any moment, and its memory can go. So
        // blk-mq looks for it, and holds it, and with it its queue, while `Abort::call` runs.
        //
        // SAFETY: by the invariants of `HwCtx` the tag set is allocated: nobody has a `HwCtx`
        // before. The callback is for an `Abort`, which nobody else uses meanwhile.
        unsafe {
            bindings::blk_mq_tagset_busy_iter(
                self.raw_tag_set(),
                Some(Abort::call),
                (&raw mut search).cast(),
            )
        };
        search.found
    }
}

/// The search for the request that is in flight under a tag.
struct Abort<'a> {
    table: &'a TagTable<bindings::request>,
    tag: u16,
    found: bool,
}

impl Abort<'_> {
    /// Aborts `rq` if it is the one, and returns whether to go on.
    ///
    /// # Safety
    ///
    /// blk-mq calls this with a request to which it holds a reference, and with an `Abort`.
    unsafe extern "C" fn call(rq: *mut bindings::request, search: *mut c_void) -> bool {
        // SAFETY: `search` is the `Abort` that was given to `blk_mq_tagset_busy_iter()`.
        let search = unsafe { &mut *search.cast::<Self>() };
        if !search.found && search.table.find(search.tag, rq).is_some() {
            // SAFETY: `rq` was in flight just now, and so had been started. If it has ended since,
            // blk-mq's reference still keeps it from being used for anything else, and its queue
            // from being removed; the time-out finds it ended, and nothing is done.
            unsafe { bindings::blk_abort_request(rq) };
            search.found = true;
        }
        !search.found
    }
}

/// A request whose time is over; see [`Operations::timeout`](super::Operations::timeout).
///
/// It stands for the request as it was in flight when the time was over. A request that is in
/// flight under the same tag later is another one, even if it is the same that was tried again.
pub struct Expired<'a, 'bound, T: DriverTypes> {
    tag: u16,
    count: Count,
    hw: &'a HwCtx<'bound, T>,
}

impl<'a, 'bound, T: DriverTypes> Expired<'a, 'bound, T> {
    pub(crate) fn new(tag: u16, count: Count, hw: &'a HwCtx<'bound, T>) -> Self {
        Self { tag, count, hw }
    }

    /// Returns the request's tag.
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// Returns whether the request is still in flight. It may complete before this returns.
    pub fn is_in_flight(&self) -> bool {
        self.hw.table().contains_counted(self.tag, self.count)
    }

    /// Takes the request, unless it has completed in the meantime.
    ///
    /// By taking it the driver says that the device is done with its memory: the command was
    /// aborted, or the device stopped.
    pub fn take(self) -> Option<Mapped<'a, 'bound, T>> {
        let rq = self.hw.table().take_counted(self.tag, self.count)?;
        Some(self.hw.taken(rq, Origin::Driver))
    }
}
