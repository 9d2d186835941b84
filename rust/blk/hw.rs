// SPDX-License-Identifier: GPL-2.0

//! A hardware queue: the driver's data, what is in flight, and the memory for mappings.
//!
//! C: `struct blk_mq_hw_ctx` ([`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)).

use super::{
    batch::Batch,
    completion::{
        Generation,
        TagOnly, //
    },
    inflight::{
        Count,
        Table, //
    },
    mapped::Mapped,
    operations::Operations,
    request::{
        Info,
        Origin, //
    },
    tag_set::{
        Affinity,
        TagSet, //
    },
};
use core::{
    cell::UnsafeCell,
    ptr::NonNull,
    slice, //
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    bindings,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    }, //
};
use phyr::{
    Mapper,
    Slot, //
};

/// One hardware queue of a [`TagSet`]. It serves every disk of the tag set.
///
/// Queues of different CPUs do not share a cache line.
///
/// # Invariants
///
/// - `slots` holds `max_segments` slots for each tag of `inflight`, and `per_tag` one element.
/// - `tag_set` is null while the tag set is being made; then it is the tag set that holds `self`,
///   in an [`Arc`].
#[repr(align(64))]
pub struct HwCtx<'bound, T: Operations> {
    queue: T::HwQueue<'bound>,
    inflight: Table<bindings::request>,
    slots: KVVec<UnsafeCell<Slot>>,
    per_tag: KVVec<UnsafeCell<T::PerTag<'bound>>>,
    max_segments: u16,
    index: u16,
    affinity: Affinity,
    mapper: Arc<Mapper<'bound>>,
    tag_set: *const TagSet<'bound, T>,
}

// SAFETY: `HwQueue`, `PerTag` and `Mapper` are `Send`, the slots are plain data, and the tag set
// that it points back to is the one that it is in.
unsafe impl<T: Operations> Send for HwCtx<'_, T> {}

// SAFETY: `HwQueue` and `Mapper` are `Sync`, and so is the table. The slots of a tag and what the
// driver keeps for it, which is `Send`, belong to the owner of the request with that tag.
unsafe impl<T: Operations> Sync for HwCtx<'_, T> {}

/// What the `unsafe impl`s of this crate rely on, and do not see for themselves.
const _: () = {
    const fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Arc<Mapper<'_>>>();
    assert_send_sync::<Table<bindings::request>>();
    assert_send_sync::<Slot>();
};

impl<'bound, T: Operations> HwCtx<'bound, T> {
    pub(crate) fn new(
        queue: T::HwQueue<'bound>,
        index: u16,
        depth: u16,
        max_segments: u16,
        affinity: Affinity,
        mapper: Arc<Mapper<'bound>>,
        make: &mut impl FnMut(&T::HwQueue<'bound>, u16) -> Result<T::PerTag<'bound>>,
    ) -> Result<Self> {
        let nr = usize::from(depth) * usize::from(max_segments);
        let mut slots = KVVec::with_capacity(nr, GFP_KERNEL | __GFP_NOWARN)?;
        for _ in 0..nr {
            slots.push(UnsafeCell::new(Slot::EMPTY), GFP_KERNEL)?;
        }
        let mut per_tag = KVVec::with_capacity(depth.into(), GFP_KERNEL | __GFP_NOWARN)?;
        for tag in 0..depth {
            per_tag.push(UnsafeCell::new(make(&queue, tag)?), GFP_KERNEL)?;
        }
        // INVARIANT: `nr` slots were made just above, and an element for each tag; the tag set is
        // yet to be made.
        Ok(Self {
            queue,
            inflight: Table::new(depth)?,
            slots,
            per_tag,
            max_segments,
            index,
            affinity,
            mapper,
            tag_set: core::ptr::null(),
        })
    }

    /// # Safety
    ///
    /// `tag_set` holds `self` and is in an [`Arc`].
    pub(crate) unsafe fn set_tag_set(&mut self, tag_set: *const TagSet<'bound, T>) {
        // INVARIANT: by the safety requirements.
        self.tag_set = tag_set;
    }

    /// The driver's data of the queue.
    #[inline]
    pub fn queue(&self) -> &T::HwQueue<'bound> {
        &self.queue
    }

    /// Its number in the tag set.
    #[inline]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// How many requests can be in flight: tags are below it.
    #[inline]
    pub fn depth(&self) -> u16 {
        self.inflight.depth()
    }

    /// The tag set that the queue is in.
    pub fn tag_set(&self) -> ArcBorrow<'_, TagSet<'bound, T>> {
        // SAFETY: by the type invariants this is a tag set in an `Arc`: nobody but `TagSet::new`
        // has a queue before. It holds `self`, and so lives while that is borrowed.
        unsafe { ArcBorrow::from_raw(self.tag_set) }
    }

    /// Takes the request that is in flight under `tag`, if there is one, because the device reports
    /// it.
    ///
    /// Of several who try, one gets it. `tag` can be anything that a device may report. But if the
    /// tag is in use again when the device reports it once too often, this takes the wrong one.
    ///
    /// Whoever takes a request, and then unmaps and ends it, says that the device is done with its
    /// memory: here, because the device reported that it has completed. What a device was stopped
    /// from completing is for [`HwCtx::drain`].
    ///
    /// For a device that reports [tags only](TagOnly), whose driver has a rule to keep.
    #[inline]
    pub fn take(&self, tag: u16) -> Option<Mapped<'_, 'bound, T>>
    where
        T: Operations<Completion = TagOnly>,
    {
        let rq = self.inflight.take(tag)?;
        Some(self.taken(rq, Origin::Device))
    }

    /// As [`HwCtx::take`], if the request was parked with this [generation](Mapped::generation).
    ///
    /// For a device whose command identifiers have [room](Generation) for it beside the tag: a
    /// completion that comes twice, or late, finds nothing then, though its tag may be in use
    /// again. Only after 16 more turns of the tag would it find one.
    #[inline]
    pub fn take_generation(&self, tag: u16, generation: u8) -> Option<Mapped<'_, 'bound, T>>
    where
        T: Operations<Completion = Generation>,
    {
        let rq = self.inflight.take_generation(tag, generation)?;
        Some(self.taken(rq, Origin::Device))
    }

    /// Takes a request that [`Table::find`] found, if it has been in flight ever since.
    pub(crate) fn take_expired(&self, tag: u16, count: Count) -> Option<Mapped<'_, 'bound, T>> {
        let rq = self.inflight.take_counted(tag, count)?;
        Some(self.taken(rq, Origin::Driver))
    }

    #[inline]
    fn taken(&self, rq: NonNull<bindings::request>, origin: Origin) -> Mapped<'_, 'bound, T> {
        // SAFETY: `Mapped::park` gave the request to this queue's table, with all that the
        // invariants of `Info` want; the table gave it to us alone.
        Mapped::from_info(unsafe { Info::new(rq, self, origin) })
    }

    /// Calls `f` with a batch; what [`Mapped::complete_in`] put in it ends as that returns.
    ///
    /// `f` must not wait for any of them.
    #[inline]
    pub fn batch<R>(&self, f: impl FnOnce(&mut Batch<T>) -> R) -> R {
        f(&mut Batch::new())
    }

    /// Whether a request is in flight under `tag`. It may be gone by the time this returns.
    #[inline]
    pub fn is_in_flight(&self, tag: u16) -> bool {
        self.inflight.contains(tag)
    }

    /// Has [`Operations::timeout`] called at once for the request that is in flight under `tag`, as
    /// if its time were over, and returns whether there is one. It may be gone by the time this
    /// returns, and then nothing happens.
    ///
    /// For an interrupt handler that learns that a request, or the device, needs help: `timeout` is
    /// called soon after, by a worker, and may sleep. A call for this request that is under way is
    /// enough: if that answers [`ResetTimer`](super::TimeoutAction::ResetTimer), there may be no
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
            table: &self.inflight,
            tag,
            found: false,
        };
        // A request that is found in our table can end at any moment, and its memory can go. So
        // blk-mq looks for it, and holds it, and with it its queue, while `Abort::call` runs.
        //
        // SAFETY: by the type invariants the tag set is allocated: nobody has a `HwCtx` before. The
        // callback is for an `Abort`, which nobody else uses meanwhile.
        unsafe {
            bindings::blk_mq_tagset_busy_iter(
                self.tag_set().as_raw(),
                Some(Abort::call),
                (&raw mut search).cast(),
            )
        };
        search.found
    }

    /// Takes all that is in flight, one after the other.
    ///
    /// For a device that was stopped, and cannot access memory any more: say to each what becomes
    /// of it, such as `unmap().requeue()`. What is parked meanwhile may be missed:
    /// [`TagSet::quiesce`] before.
    ///
    /// The device does not know of these requests any more, so that none of them ever goes back in
    /// flight, whatever [`Mapped::complete`] does for a test.
    pub fn drain<F: FnMut(Mapped<'_, 'bound, T>)>(&self, f: F) {
        (0..self.depth())
            .filter_map(|tag| self.inflight.take(tag))
            .map(|rq| self.taken(rq, Origin::Driver))
            .for_each(f);
    }

    /// How the tag set maps CPUs to queues; the same for all of them.
    pub(crate) fn affinity(&self) -> Affinity {
        self.affinity
    }

    #[inline]
    pub(crate) fn mapper(&self) -> &Mapper<'bound> {
        &self.mapper
    }

    #[inline]
    pub(crate) fn table(&self) -> &Table<bindings::request> {
        &self.inflight
    }

    /// The cells of the slots of `tag`; none where it is out of range.
    #[inline]
    fn cells(&self, tag: u16) -> &[UnsafeCell<Slot>] {
        let nr = usize::from(self.max_segments);
        let first = usize::from(tag) * nr;
        self.slots.get(first..first + nr).unwrap_or(&[])
    }

    /// Returns a pointer to the driver's data of `tag`.
    ///
    /// # Safety
    ///
    /// The caller owns the request with this tag, and has no reference to it that is used while the
    /// returned pointer is.
    #[inline]
    pub(crate) unsafe fn per_tag(&self, tag: u16) -> *mut T::PerTag<'bound> {
        let first = self.per_tag.as_ptr();
        debug_assert!(usize::from(tag) < self.per_tag.len());
        // SAFETY: a request's tag is below the depth, for which there is an element each.
        unsafe { UnsafeCell::raw_get(first.add(tag.into())) }
    }

    /// The slots of `tag`, to be written.
    ///
    /// # Safety
    ///
    /// The caller owns the request with this tag, and has no other reference to its slots for `'s`.
    #[inline]
    #[expect(clippy::mut_from_ref)]
    pub(crate) unsafe fn slots_mut<'s>(&'s self, tag: u16) -> &'s mut [Slot] {
        let cells = self.cells(tag);
        // SAFETY: `UnsafeCell<Slot>` has the layout of `Slot`; the cells are valid for `'s`, and by
        // the safety requirements nobody else uses them.
        unsafe { slice::from_raw_parts_mut(cells.as_ptr().cast_mut().cast(), cells.len()) }
    }

    /// The slots of `tag`, to be read.
    ///
    /// # Safety
    ///
    /// The caller owns the request with this tag, and nobody writes its slots for `'s`.
    #[inline]
    pub(crate) unsafe fn slots<'s>(&'s self, tag: u16) -> &'s [Slot] {
        let cells = self.cells(tag);
        // SAFETY: as in `slots_mut`, for reading.
        unsafe { slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }
}

/// The search for the request that is in flight under a tag.
struct Abort<'a> {
    table: &'a Table<bindings::request>,
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
