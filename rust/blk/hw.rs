// SPDX-License-Identifier: GPL-2.0

//! A hardware queue: the driver's data, the table of requests in flight, and pools of memory for
//! them.
//!
//! C: `struct blk_mq_hw_ctx` ([`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)).

use super::{
    memory::{
        QueueMemory,
        Refill, //
    },
    tag_table::TagTable,
    types::DriverTypes, //
};
use core::{
    cell::UnsafeCell,
    ptr, //
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    bindings,
    prelude::*,
    sync::Arc, //
};
use phyr::Mapper;
use phyr_driver::scope::{
    Registration,
    Scope, //
};

/// Assignment of CPUs to hardware queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// The CPUs are spread over the queues, neighbours together.
    Spread,
    /// Queue `n` serves the CPUs of interrupt vector `first + n`, by the vector's affinity. The
    /// same as [`Affinity::Spread`] if the device lacks one of these vectors.
    Interrupts {
        /// The vector of the first queue.
        first: u32,
    },
}

/// One hardware queue of a [`TagSet`](super::TagSet). It serves every disk of the tag set.
///
/// Queues of different CPUs do not share a cache line.
///
/// # Invariants
///
/// - `per_tag` holds an element for each tag of `in_flight`.
/// - `raw_tag_set` is null while the tag set is being made. Then it is the `raw` field of the
///   `TagSet<'bound, T>` that holds `self`, which is in an [`Arc`].
#[repr(align(64))]
pub struct HwCtx<'bound, T: DriverTypes> {
    queue: T::HwQueue<'bound>,
    in_flight: TagTable<bindings::request>,
    /// Ends before `memory` is given up.
    _refill: Registration<'bound, Refill>,
    memory: Arc<QueueMemory>,
    per_tag: KVVec<UnsafeCell<T::PerTag<'bound>>>,
    affinity: Affinity,
    mapper: Arc<Mapper<'bound>>,
    raw_tag_set: *mut bindings::blk_mq_tag_set,
}

// SAFETY: `HwQueue`, `PerTag`, `Mapper` and `QueueMemory` are `Send`, and the tag set that it
// points back to is the one that it is in.
unsafe impl<T: DriverTypes> Send for HwCtx<'_, T> {}

// SAFETY: `HwQueue`, `Mapper` and `QueueMemory` are `Sync`, and so is the table. The `PerTag` of a
// tag, which is `Send`, belongs to the owner of the request with that tag.
unsafe impl<T: DriverTypes> Sync for HwCtx<'_, T> {}

/// Checks at compile time what the `unsafe impl`s of this crate rely on.
const _: () = {
    const fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Arc<Mapper<'_>>>();
    assert_send_sync::<TagTable<bindings::request>>();
    assert_send_sync::<Arc<QueueMemory>>();
    assert_send_sync::<Registration<'_, Refill>>();
};

impl<'bound, T: DriverTypes> HwCtx<'bound, T> {
    pub(crate) fn new(
        scope: Scope<'bound>,
        queue: T::HwQueue<'bound>,
        depth: u16,
        memory: Arc<QueueMemory>,
        affinity: Affinity,
        mapper: Arc<Mapper<'bound>>,
        per_tag_of: &mut impl FnMut(&T::HwQueue<'bound>, u16) -> Result<T::PerTag<'bound>>,
    ) -> Result<Self> {
        let mut per_tag = KVVec::with_capacity(depth.into(), GFP_KERNEL | __GFP_NOWARN)?;
        for tag in 0..depth {
            per_tag.push(UnsafeCell::new(per_tag_of(&queue, tag)?), GFP_KERNEL)?;
        }
        // INVARIANT: an element for each tag was made just above; the tag set is being made.
        Ok(Self {
            queue,
            in_flight: TagTable::new(depth)?,
            _refill: Refill::new(scope, &memory)?,
            memory,
            per_tag,
            affinity,
            mapper,
            raw_tag_set: ptr::null_mut(),
        })
    }

    /// # Safety
    ///
    /// `raw` is the field of that name of the `TagSet<'bound, T>` that holds `self`, which is in an
    /// [`Arc`].
    pub(crate) unsafe fn set_tag_set(&mut self, raw: *mut bindings::blk_mq_tag_set) {
        // INVARIANT: the caller promises that `raw` belongs to the tag set that holds `self`.
        self.raw_tag_set = raw;
    }

    /// Returns the driver's data of the queue.
    #[inline]
    pub fn queue(&self) -> &T::HwQueue<'bound> {
        &self.queue
    }

    /// Returns the number of requests that can be in flight. Tags are below it.
    #[inline]
    pub fn depth(&self) -> u16 {
        self.in_flight.depth()
    }

    /// Returns the memory that the requests take from.
    #[inline]
    pub(crate) fn memory(&self) -> &QueueMemory {
        &self.memory
    }

    /// Returns the most segments of a request.
    #[inline]
    pub(crate) fn max_segments(&self) -> u16 {
        self.memory.segments()
    }

    /// Returns the tag set that the queue is in.
    #[inline]
    pub(crate) fn raw_tag_set(&self) -> *mut bindings::blk_mq_tag_set {
        self.raw_tag_set
    }

    /// Returns the assignment of CPUs to queues, which is the same for all queues of a tag set.
    pub(crate) fn affinity(&self) -> Affinity {
        self.affinity
    }

    #[inline]
    pub(crate) fn mapper(&self) -> &Mapper<'bound> {
        &self.mapper
    }

    #[inline]
    pub(crate) fn table(&self) -> &TagTable<bindings::request> {
        &self.in_flight
    }

    /// Returns a pointer to the driver's data of `tag`.
    ///
    /// # Safety
    ///
    /// The caller owns the request with this tag, and has no reference to the data that is used
    /// while the returned pointer is.
    #[inline]
    pub(crate) unsafe fn per_tag(&self, tag: u16) -> *mut T::PerTag<'bound> {
        let first = self.per_tag.as_ptr();
        debug_assert!(usize::from(tag) < self.per_tag.len());
        // SAFETY: the tag of a request that the caller owns is below the depth, and by the type
        // invariants there is an element for each such tag.
        unsafe { UnsafeCell::raw_get(first.add(tag.into())) }
    }
}
