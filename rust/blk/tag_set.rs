// SPDX-License-Identifier: GPL-2.0

//! The tags and hardware queues of a device, shared by its disks.
//!
//! C: `struct blk_mq_tag_set` ([`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)).

use super::{
    hw::{
        Affinity,
        HwCtx, //
    },
    memory::QueueMemory,
    operations::Operations,
    pdu::Pdu,
    status::Status,
    vtable::VTable, //
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    bindings,
    container_of,
    error::to_result,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow,
        Mutex,
        UniqueArc, //
    },
    time::{
        msecs_to_jiffies,
        Msecs, //
    },
    types::Opaque, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    Mapper, //
};
use phyr_driver::scope::Scope;

/// Parameters of a [`TagSet`].
#[derive(Clone, Copy, Debug)]
pub struct Config {
    depth: u16,
    max_segments: u16,
    words: usize,
    timeout: Msecs,
    affinity: Affinity,
}

impl Config {
    /// The most words of a list of descriptors.
    const MAX_WORDS: usize = 1 << 20;

    /// Makes parameters for `depth` requests in flight per hardware queue, each of at most
    /// `max_segments` segments of memory. Neither can be zero. The block layer limits the depth to
    /// 10240.
    pub const fn new(depth: u16, max_segments: u16) -> Self {
        Self {
            depth,
            max_segments,
            words: 0,
            timeout: 0,
            affinity: Affinity::Spread,
        }
    }

    /// Sets the most words, of 64 bits each, that the device reads to find the memory of a request:
    /// a list of descriptors, see [`Mapped::describe`](super::Mapped::describe). None if not
    /// called.
    ///
    /// They need not be set aside for each tag: most requests need none. There are at most 2^20:
    /// one for each page of 4 KiB of the longest request, whose length has 32 bits.
    pub const fn descriptor_words(mut self, words: usize) -> Self {
        self.words = words;
        self
    }

    /// Sets the time, in milliseconds, after which [`Operations::timeout`] is called for a request;
    /// 30 seconds if zero.
    pub const fn timeout(mut self, timeout: Msecs) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the assignment of CPUs to hardware queues; [`Affinity::Spread`] if not called.
    pub const fn affinity(mut self, affinity: Affinity) -> Self {
        self.affinity = affinity;
        self
    }

    /// Checks the parameters of a tag set whose requests `mapper` maps.
    ///
    /// # Errors
    ///
    /// Those of [`TagSet::new`] for its numbers.
    fn check(&self, mapper: &Mapper<'_>) -> Result {
        if self.depth == 0 || self.max_segments == 0 || self.words > Self::MAX_WORDS {
            return Err(EINVAL);
        }
        // Lists are coherent memory, which the DMA API maps.
        if self.words != 0 && mapper.is_in_domain() {
            dev_err!(
                mapper.device(),
                "phyr: no lists of descriptors in a domain of the driver's own\n"
            );
            return Err(EOPNOTSUPP);
        }
        Ok(())
    }
}

/// The tags and hardware queues of a device; see the [crate documentation](crate).
///
/// # Invariants
///
/// - If `live`, `raw` is a tag set that `blk_mq_alloc_tag_set` made, with at most as many hardware
///   queues as `hw` has, and a depth of at most theirs; its `driver_data` points to the first of
///   `hw`, which does not move.
/// - Only a [`GenDisk`](super::GenDisk) or a [`Queue`](super::Queue) adds a queue to it, and holds
///   it for as long as the queue is there.
pub struct TagSet<'bound, T: Operations> {
    raw: Opaque<bindings::blk_mq_tag_set>,
    live: bool,
    hw: KVVec<HwCtx<'bound, T>>,
    mapper: Arc<Mapper<'bound>>,
    scope: Scope<'bound>,
    max_segments: u16,
    /// The number of [`Quiesced`] guards. Each queue of the tag set without
    /// [`FEAT_SKIP_TAGSET_QUIESCE`] is quiesced that many times; the lock is held to change either.
    quiesced: Pin<KBox<Mutex<u32>>>,
}

/// `BLK_FEAT_SKIP_TAGSET_QUIESCE`; bindgen does not see through the cast in the macro.
///
/// A queue with this feature is passed over by [`TagSet::quiesce`] and its end.
pub(crate) const FEAT_SKIP_TAGSET_QUIESCE: u32 = 1 << 13;

// SAFETY: `HwCtx` and `Mapper` are `Send`; a `blk_mq_tag_set` belongs to no thread.
unsafe impl<T: Operations> Send for TagSet<'_, T> {}

// SAFETY: `HwCtx` and `Mapper` are `Sync`; what is done to the `blk_mq_tag_set` by reference has
// locks in the block layer.
unsafe impl<T: Operations> Sync for TagSet<'_, T> {}

/// Returns the lock of a tag set.
///
/// lockdep wants one name for a class, and compares its address. Generic code is compiled into each
/// driver, with a copy of the name, and refers to the class here: a second driver would have
/// another name for it, and the first would leave a name behind that goes with its module.
#[inline(never)]
fn quiesced_lock() -> Result<Pin<KBox<Mutex<u32>>>> {
    KBox::pin_init(new_mutex!(0, "phyr_blk: quiesced"), GFP_KERNEL)
}

impl<'bound, T: Operations> TagSet<'bound, T> {
    /// Makes a tag set with one hardware queue for each of `queues`, and with the driver's data
    /// [of each tag](Operations::PerTag): `per_tag` is called for each tag of each queue, and may
    /// allocate.
    ///
    /// Its disks are removed when `scope` ends, at the latest: what the queues and the disks' data
    /// refer to is there until then.
    ///
    /// Allocates what the I/O path uses, with a reserve for long requests. If more of those are in
    /// flight at once a work item allocates more, and requests wait meanwhile. If there are more
    /// queues than CPUs, those at the end stay idle.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no queues or more than `u16::MAX`, a depth or number of segments of zero, or
    ///   more [words](Config::descriptor_words) than a list can have.
    /// - `EOPNOTSUPP`: lists of descriptors, and a mapper in a domain of the driver's own, from
    ///   which the device does not reach them.
    /// - `ENOMEM`: no memory.
    /// - The errors of `per_tag`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{dma::Coherent, io::io_write, prelude::*, sync::Arc};
    /// use phyr::{DmaAddr, Mapper};
    /// use phyr_driver::scope::Scope;
    /// use phyr_blk::{Config, Mapped, Operations, TagSet};
    ///
    /// /// The command table of one slot: address and length of each segment.
    /// type Table = Coherent<[u64]>;
    ///
    /// fn tag_set<'bound, T>(
    ///     scope: Scope<'bound>,
    ///     mapper: Arc<Mapper<'bound>>,
    ///     queues: KVec<T::HwQueue<'bound>>,
    /// ) -> Result<Arc<TagSet<'bound, T>>>
    /// where
    ///     T: Operations<PerTag<'bound> = Table>,
    /// {
    ///     TagSet::new(scope, mapper, queues, Config::new(32, 16), |_queue, _tag| {
    ///         Coherent::zeroed_slice(scope.device(), 2 * 16, GFP_KERNEL)
    ///     })
    /// }
    ///
    /// /// Fills the table of the request's slot, which nobody else uses, and returns its place.
    /// fn fill<'bound, T>(io: &mut Mapped<'_, 'bound, T>) -> Result<DmaAddr>
    /// where
    ///     T: Operations<PerTag<'bound> = Table>,
    /// {
    ///     let (table, vecs) = io.per_tag_and_dma_vecs();
    ///     for (n, vec) in vecs.enumerate() {
    ///         io_write!(table, [try: 2 * n], vec.addr().into_raw());
    ///         io_write!(table, [try: 2 * n + 1], vec.len() as u64);
    ///     }
    ///     Ok(DmaAddr::from_raw(table.dma_address()))
    /// }
    /// ```
    pub fn new(
        scope: Scope<'bound>,
        mapper: Arc<Mapper<'bound>>,
        queues: KVec<T::HwQueue<'bound>>,
        config: Config,
        mut per_tag: impl FnMut(&T::HwQueue<'bound>, u16) -> Result<T::PerTag<'bound>>,
    ) -> Result<Arc<Self>> {
        config.check(&mapper)?;
        let nr = u16::try_from(queues.len()).map_err(|_| EINVAL)?;
        // The block layer's own limit, which it cuts the depth to.
        // CAST: a small constant.
        let depth = config.depth.min(bindings::BLK_MQ_MAX_DEPTH as u16);
        let mut hw = KVVec::with_capacity(queues.len(), GFP_KERNEL | __GFP_NOWARN)?;
        for queue in queues {
            let memory =
                QueueMemory::new(scope.device(), depth, config.max_segments, config.words)?;
            let queue = HwCtx::new(
                scope,
                queue,
                depth,
                memory,
                config.affinity,
                mapper.clone(),
                &mut per_tag,
            )?;
            hw.push(queue, GFP_KERNEL)?;
        }
        let set = UniqueArc::new(
            // INVARIANT: not `live`.
            Self {
                raw: Opaque::new(Self::template(&config, nr)),
                live: false,
                hw,
                mapper,
                scope,
                max_segments: config.max_segments,
                quiesced: quiesced_lock()?,
            },
            GFP_KERNEL,
        )?;
        Self::bring_up(set)
    }

    fn template(config: &Config, nr_hw_queues: u16) -> bindings::blk_mq_tag_set {
        bindings::blk_mq_tag_set {
            ops: VTable::<T>::ops(),
            nr_maps: 1,
            nr_hw_queues: nr_hw_queues.into(),
            queue_depth: config.depth.into(),
            cmd_size: Pdu::<T>::SIZE,
            flags: if T::BLOCKING {
                bindings::BLK_MQ_F_BLOCKING
            } else {
                0
            },
            numa_node: bindings::NUMA_NO_NODE,
            timeout: u32::try_from(msecs_to_jiffies(config.timeout)).unwrap_or(u32::MAX),
            ..pin_init::zeroed()
        }
    }

    fn bring_up(mut set: UniqueArc<Self>) -> Result<Arc<Self>> {
        // SAFETY: the tag set is valid; this makes no reference to it.
        let raw = Opaque::cast_into(unsafe { &raw const (*UniqueArc::as_ptr(&set)).raw });
        for hw in &mut set.hw {
            // SAFETY: `raw` is the field of `set`, which holds `hw`, and is to be an `Arc`.
            unsafe { hw.set_tag_set(raw) };
        }
        // SAFETY: the tag set is not allocated yet, and nobody else knows of it.
        unsafe { (*raw).driver_data = set.hw.as_mut_ptr().cast() };
        fail::at(Point::blk_mq_alloc_tag_set)?;
        // SAFETY: `template` and the driver data fill `raw` in; it does not move, being in an `Arc`
        // of which nobody gets the content by value.
        to_result(unsafe { bindings::blk_mq_alloc_tag_set(raw) })?;
        // INVARIANT: it was allocated just now. The block layer makes fewer queues or tags than
        // asked for, never more.
        set.live = true;
        Ok(set.into())
    }

    #[inline]
    pub(crate) fn as_raw(&self) -> *mut bindings::blk_mq_tag_set {
        self.raw.get()
    }

    /// Waits for the callbacks of a queue that have yet to return, though all of its requests have
    /// ended, and no other can begin.
    ///
    /// Context: process context, sleeps.
    pub(crate) fn wait_for_callbacks(&self) {
        // A task that submits I/O can call `queue_rq` and `commit_rqs` by itself, and then has
        // nothing of the queue but the request. When that has ended, on some other CPU, the queue
        // is drained, though the callback is yet to return. blk-mq dispatches in a read-side
        // critical section of RCU, or of the tag set's SRCU if it may sleep; this waits for the one
        // that applies.
        //
        // SAFETY: the tag set is allocated while `self` is there.
        unsafe { bindings::blk_mq_wait_quiesce_done(self.as_raw()) };
        // A `complete` that has ended its request and is yet to return runs in an interrupt or a
        // soft interrupt, which is a section of RCU, too, whatever the tag set has.
        if T::BLOCKING {
            // SAFETY: the caller may sleep.
            unsafe { bindings::synchronize_rcu() };
        }
    }

    /// Returns the scope at whose end its disks are gone.
    pub(crate) fn scope(&self) -> Scope<'bound> {
        self.scope
    }

    /// Returns the mapper that maps the requests.
    #[inline]
    pub fn mapper(&self) -> &Arc<Mapper<'bound>> {
        &self.mapper
    }

    /// Returns the largest number of segments of memory of a request.
    #[inline]
    pub(crate) fn max_segments(&self) -> u16 {
        self.max_segments
    }

    /// Returns the hardware queue with this number.
    #[inline]
    pub fn hw(&self, index: usize) -> Option<&HwCtx<'bound, T>> {
        self.hw.get(index)
    }

    /// Returns all hardware queues, also those that stay idle.
    #[inline]
    pub fn hw_queues(&self) -> &[HwCtx<'bound, T>] {
        &self.hw
    }

    /// Stops starting requests, on all disks, until the returned value and all others like it are
    /// dropped. When this returns no [`Operations::queue_rq`] is running.
    ///
    /// A disk that is added meanwhile is stopped too: its `build()` waits to read it. Do not remove
    /// a disk from the task that is to end this: it waits for requests that cannot start.
    ///
    /// Context: sleeps. Not from [`Operations::queue_rq`].
    pub fn quiesce(set: Arc<Self>) -> Quiesced<'bound, T> {
        let mut quiesced = set.quiesced.lock();
        *quiesced += 1;
        // SAFETY: by the type invariants the tag set is allocated: nobody has an `Arc` before.
        unsafe { bindings::blk_mq_quiesce_tagset(set.as_raw()) };
        drop(quiesced);
        Quiesced { set }
    }

    /// Lets a new queue of the tag set take part in [`TagSet::quiesce`], from which it was left out
    /// by [`FEAT_SKIP_TAGSET_QUIESCE`]: it is now stopped as often as all others, and will be
    /// started as often.
    ///
    /// The lock must not be held while the queue is allocated: that waits for the requests of the
    /// other queues (`blk_mq_update_tag_set_shared`), which may have to wait for a reset, and so
    /// for [`TagSet::quiesce`].
    ///
    /// # Safety
    ///
    /// `queue` is valid, was made for this tag set with that feature, and is known to the caller
    /// only.
    pub(crate) unsafe fn admit(&self, queue: *mut bindings::request_queue) {
        let quiesced = self.quiesced.lock();
        for _ in 0..*quiesced {
            // SAFETY: `queue` is valid, and known to the caller only: nothing is running on it that
            // would be waited for.
            unsafe { bindings::blk_mq_quiesce_queue_nowait(queue) };
        }
        // SAFETY: `queue` is valid, and known to the caller only, so that nobody else changes its
        // limits; readers of this feature hold the lock.
        unsafe { (*queue).limits.features &= !FEAT_SKIP_TAGSET_QUIESCE };
    }

    /// Ends all requests in flight, on all queues, with `status`. The device must be done with
    /// them, as for [`HwCtx::drain`].
    pub fn cancel(&self, status: Status) {
        for hw in &self.hw {
            hw.drain_unmapped(|request| request.end(status));
        }
    }
}

impl<'bound, T: Operations> HwCtx<'bound, T> {
    /// Returns the tag set that the queue is in.
    pub fn tag_set(&self) -> ArcBorrow<'_, TagSet<'bound, T>> {
        let raw = Opaque::cast_from(self.raw_tag_set());
        // SAFETY: by the invariants of `HwCtx` this is the field of a tag set in an `Arc`: nobody
        // but `TagSet::new` has a queue before. It holds `self`, and so lives while that is
        // borrowed.
        unsafe { ArcBorrow::from_raw(container_of!(raw, TagSet<'bound, T>, raw)) }
    }
}

impl<T: Operations> Drop for TagSet<'_, T> {
    fn drop(&mut self) {
        if self.live {
            // SAFETY: by the type invariants it was allocated, and no queue uses it: each would
            // hold the tag set.
            unsafe { bindings::blk_mq_free_tag_set(self.raw.get()) };
        }
    }
}

/// A guard that keeps requests from being started; see [`TagSet::quiesce`]. Dropping it may sleep.
///
/// Leaking it stops the disks for ever.
#[must_use = "the queues start again when this is dropped"]
pub struct Quiesced<'bound, T: Operations> {
    set: Arc<TagSet<'bound, T>>,
}

impl<'bound, T: Operations> Quiesced<'bound, T> {
    /// Returns the tag set that is quiesced.
    pub fn tag_set(&self) -> &Arc<TagSet<'bound, T>> {
        &self.set
    }
}

impl<T: Operations> Drop for Quiesced<'_, T> {
    fn drop(&mut self) {
        let mut quiesced = self.set.quiesced.lock();
        // SAFETY: the tag set is allocated. Each of its queues was quiesced when `self` was made,
        // or by `admit` since then.
        unsafe { bindings::blk_mq_unquiesce_tagset(self.set.as_raw()) };
        *quiesced -= 1;
    }
}
