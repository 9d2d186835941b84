// SPDX-License-Identifier: GPL-2.0

//! Memory of one size that a queue's requests take and give back.
//!
//! ```text
//!   take()                        put()              any context, no lock, no allocation
//!     ^                             |
//!     |      free places            v
//!   [ 5 ] -> [ 0 ] -> [ 3 ]
//!
//!   refill()                      shrink()           a work item: may sleep, GFP_KERNEL
//!     adds blocks                   frees blocks that nobody needed
//! ```
//!
//! A block is one allocation, and has one or several places. When there are few free places left
//! the pool [wants](Taken::is_low) to be refilled; when there is none, [`Pool::take`] fails, and
//! the request waits. The next [`Pool::put`] reports that, and its caller runs the queue.
//!
//! A pool has `reserve` places from the start, and never fewer. So even without free memory that
//! many requests at a time go on, and each that ends makes room for another one.

use super::free_list::{
    FreeList,
    Index, //
};
use core::cell::UnsafeCell;
use kernel::{
    alloc::flags::__GFP_NOWARN,
    prelude::*,
    sync::atomic::{
        ordering::Relaxed,
        Atomic, //
    }, //
};

/// A pool of places in blocks of type `B`, two to the power of `SHIFT` in each.
///
/// # Invariants
///
/// - A place is in the free list, or was taken from it, exactly if its block is there.
/// - A block changes only while none of its places is in the free list or taken, and by one thread
///   at a time.
pub(crate) struct Pool<B, const SHIFT: u32> {
    free: FreeList,
    blocks: KVVec<UnsafeCell<Option<KBox<B>>>>,
    reserve: u16,
    /// Places that have memory.
    total: Atomic<u32>,
    /// Approximately the fewest places that were free since the last [`Pool::shrink`]; only of a
    /// pool that shrinks.
    lowest: Atomic<u32>,
    /// Approximately the most places of the reserve that were in use at once since the last
    /// [`Pool::refill`].
    missing: Atomic<u32>,
    /// [`Pool::take`] has failed since the last place was given back.
    refused: Atomic<bool>,
}

// SAFETY: a pool owns its blocks.
unsafe impl<B: Send, const SHIFT: u32> Send for Pool<B, SHIFT> {}

// SAFETY: by the type invariants a block that others refer to does not change.
unsafe impl<B: Send + Sync, const SHIFT: u32> Sync for Pool<B, SHIFT> {}

/// A place that was taken from a pool.
pub(crate) struct Taken {
    pub(crate) place: Index,
    /// Few are left: the pool is to be [refilled](Pool::refill).
    pub(crate) is_low: bool,
}

impl<B, const SHIFT: u32> Pool<B, SHIFT> {
    /// Makes a pool of up to `places` places. None has memory; [`Pool::refill`] is to follow.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    /// - `EINVAL`: too many places.
    pub(crate) fn new(places: u16, reserve: u16) -> Result<Self> {
        let nr = usize::from(places).div_ceil(1 << SHIFT);
        let mut blocks = KVVec::with_capacity(nr, GFP_KERNEL | __GFP_NOWARN)?;
        for _ in 0..nr {
            blocks.push(UnsafeCell::new(None), GFP_KERNEL)?;
        }
        // INVARIANT: there is no block, and no place is in the list.
        Ok(Self {
            free: FreeList::new(nr << SHIFT)?,
            blocks,
            reserve: reserve.min(places),
            total: Atomic::new(0),
            lowest: Atomic::new(0),
            missing: Atomic::new(0),
            refused: Atomic::new(false),
        })
    }

    /// Returns the most places that it can have.
    fn capacity(&self) -> usize {
        self.blocks.len() << SHIFT
    }

    /// Returns the places that have memory.
    pub(crate) fn total(&self) -> usize {
        // CAST: not more than 16 bits.
        self.total.load(Relaxed) as usize
    }

    fn can_grow(&self) -> bool {
        self.total() < self.capacity()
    }

    /// Takes a place. `None`: none is free, and [`Pool::put`] will tell that one was refused.
    ///
    /// Context: any.
    #[inline]
    pub(crate) fn take(&self) -> Option<Taken> {
        let Some((place, left)) = self.free.take() else {
            self.refused.store(true, Relaxed);
            self.note_missing(0);
            return None;
        };
        if SHIFT == 0 && u32::from(left) < self.lowest.load(Relaxed) {
            self.lowest.store(left.into(), Relaxed);
        }
        let is_low = left < self.reserve && self.can_grow();
        if is_low {
            self.note_missing(left);
        }
        Some(Taken { place, is_low })
    }

    /// Notes what is missing of the reserve if `left` places are free: by the time of
    /// [`Pool::refill`] they may all be, and each request would ask for it again.
    #[cold]
    fn note_missing(&self, left: u16) {
        let missing = u32::from(self.reserve.saturating_sub(left));
        if missing > self.missing.load(Relaxed) {
            self.missing.store(missing, Relaxed);
        }
    }

    /// Gives a place back. Returns whether somebody was refused meanwhile, and may try again.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// The place was taken from this pool, and has no other owner.
    #[inline]
    pub(crate) unsafe fn put(&self, place: Index) -> bool {
        // SAFETY: the caller promises that the place was taken from the list, and has no other
        // owner.
        unsafe { self.free.put(place) };
        self.refused.load(Relaxed) && self.refused.xchg(false, Relaxed)
    }

    /// Returns the block of the place `index`, and the number of the place in the block.
    ///
    /// # Safety
    ///
    /// The place was taken from this pool, and is not given back while the block is used.
    #[inline]
    pub(crate) unsafe fn block(&self, index: u16) -> (&B, usize) {
        // SAFETY: the caller promises that the place was taken. By the type invariants its block is
        // there, and does not change.
        let block = unsafe {
            let cell = self.blocks.get_unchecked(usize::from(index) >> SHIFT);
            (*cell.get()).as_deref().unwrap_unchecked()
        };
        (block, usize::from(index) & ((1 << SHIFT) - 1))
    }

    /// Returns the number of places that it should have.
    ///
    /// If all were in use, more may be wanted: a quarter as many again, so that there is enough
    /// after some rounds, and never much more than was ever in use at once. Otherwise as many as
    /// were missing from the reserve.
    fn wanted(&self) -> usize {
        let (total, reserve) = (self.total(), usize::from(self.reserve));
        self.note_missing(self.free.count());
        // CAST: at most the reserve, which has 16 bits.
        let missing = self.missing.xchg(0, Relaxed) as usize;
        let more = if missing == reserve {
            reserve.max(total / 4)
        } else {
            missing
        };
        (total + more).min(self.capacity())
    }

    /// Adds blocks until there is a reserve again.
    ///
    /// Context: that of `alloc`.
    ///
    /// # Errors
    ///
    /// Those of `alloc`. Blocks that were added until then stay.
    ///
    /// # Safety
    ///
    /// No other [`Pool::refill`] or [`Pool::shrink`] is running.
    pub(crate) unsafe fn refill(&self, mut alloc: impl FnMut() -> Result<B>) -> Result {
        let wanted = self.wanted();
        for (nr, cell) in self.blocks.iter().enumerate() {
            if self.total() >= wanted {
                break;
            }
            // SAFETY: blocks change by this function and `shrink()` only, of which no other is
            // running.
            if unsafe { &*cell.get() }.is_some() {
                continue;
            }
            let block = KBox::new(alloc()?, GFP_KERNEL)?;
            // SAFETY: the block is not there. By the type invariants none of its places is in the
            // list or taken, so that nobody has a reference to the cell.
            unsafe { *cell.get() = Some(block) };
            self.give(nr);
        }
        Ok(())
    }

    /// Adds the places of block `nr`, which is new, to the free list.
    fn give(&self, nr: usize) {
        let first = nr << SHIFT;
        for index in first..first + (1 << SHIFT) {
            // CAST: a place has 16 bits.
            let place = Index::new(index as u16);
            // SAFETY: by the type invariants the places of a block that was not there are neither
            // in the list nor taken.
            // INVARIANT: the block is there.
            unsafe { self.free.put(place) };
        }
        self.total.fetch_add(1 << SHIFT, Relaxed);
    }

    /// Returns whether [`Pool::shrink`] may have something to free, now or later.
    ///
    /// Blocks of several places stay: they are of a page or so.
    pub(crate) fn can_shrink(&self) -> bool {
        SHIFT == 0 && self.total() > self.reserve.into()
    }

    /// Frees blocks that nobody has needed since the last call, except the reserve.
    ///
    /// # Safety
    ///
    /// No other [`Pool::refill`] or [`Pool::shrink`] is running.
    pub(crate) unsafe fn shrink(&self) {
        if SHIFT != 0 {
            return;
        }
        // A processor that has taken a place before the last call may have noted what it left only
        // since then, when there were more. The reserve stays whatever was noted.
        let unused = self.lowest.load(Relaxed).min(self.total.load(Relaxed));
        for _ in u32::from(self.reserve)..unused {
            let Some((place, _)) = self.free.take() else {
                break;
            };
            let Some(cell) = self.blocks.get(usize::from(place.get())) else {
                break;
            };
            self.total.fetch_sub(1, Relaxed);
            // SAFETY: its only place was taken just now, and is given up: nobody has a reference to
            // the cell.
            // INVARIANT: the place is neither in the list nor taken.
            drop(unsafe { &mut *cell.get() }.take());
        }
        self.lowest.store(self.free.count().into(), Relaxed);
    }
}

#[kunit_tests(phyr_blk_pool)]
mod tests {
    use super::*;
    use kernel::{
        sync::{
            Arc,
            Completion, //
        },
        workqueue::{
            impl_has_work,
            new_work,
            system_unbound,
            Work,
            WorkItem, //
        }, //
    };

    /// A block, which counts those that are there.
    struct Counted<'a>(&'a Atomic<u32>);

    impl<'a> Counted<'a> {
        fn new(count: &'a Atomic<u32>) -> Result<Self> {
            count.add(1, Relaxed);
            Ok(Self(count))
        }
    }

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Relaxed);
        }
    }

    /// A pool with its reserve.
    fn filled<const SHIFT: u32>(
        places: u16,
        reserve: u16,
        count: &Atomic<u32>,
    ) -> Result<Pool<Counted<'_>, SHIFT>> {
        let pool = Pool::new(places, reserve)?;
        // SAFETY: nobody else has the pool.
        unsafe { pool.refill(|| Counted::new(count))? };
        Ok(pool)
    }

    fn refill<'a, const SHIFT: u32>(
        pool: &Pool<Counted<'a>, SHIFT>,
        count: &'a Atomic<u32>,
    ) -> Result {
        // SAFETY: a test has one thread.
        unsafe { pool.refill(|| Counted::new(count)) }
    }

    fn take<B, const SHIFT: u32>(pool: &Pool<B, SHIFT>) -> Result<Index> {
        Ok(pool.take().ok_or(ENOMEM)?.place)
    }

    fn put<B, const SHIFT: u32>(pool: &Pool<B, SHIFT>, place: Index) -> bool {
        // SAFETY: the tests give back what they took from the pool, once.
        unsafe { pool.put(place) }
    }

    #[test]
    fn an_empty_one_refuses_and_goes_on_when_one_comes_back() -> Result {
        let count = Atomic::new(0);
        let pool = filled::<0>(100, 2, &count)?;
        let (a, b) = (take(&pool)?, take(&pool)?);
        assert!(pool.take().is_none());
        // Whoever was refused is told of the first one that comes back, once.
        assert!(put(&pool, a));
        assert!(!put(&pool, b));
        let a = take(&pool)?;
        assert!(!put(&pool, a));
        assert_eq!(count.load(Relaxed), 2);
        Ok(())
    }

    #[test]
    fn it_says_when_it_runs_low() -> Result {
        let count = Atomic::new(0);
        let pool = filled::<0>(100, 2, &count)?;
        assert!(pool.take().ok_or(ENOMEM)?.is_low);
        // Three of three places: it cannot grow.
        let small = filled::<0>(3, 8, &count)?;
        assert_eq!(small.total(), 3);
        assert!(!small.take().ok_or(ENOMEM)?.is_low);
        Ok(())
    }

    #[test]
    fn it_asks_once_for_what_is_always_in_use() -> Result {
        let count = Atomic::new(0);
        let pool = filled::<0>(100, 2, &count)?;
        for (is_low, total) in [(true, 3), (false, 3), (false, 3)] {
            let taken = pool.take().ok_or(ENOMEM)?;
            assert_eq!(taken.is_low, is_low);
            // The request has ended when the work item runs.
            put(&pool, taken.place);
            refill(&pool, &count)?;
            assert_eq!(pool.total(), total);
        }
        Ok(())
    }

    #[test]
    fn it_follows_what_is_in_use() -> Result {
        let count = Atomic::new(0);
        let pool = filled::<0>(100, 2, &count)?;
        let mut taken = KVVec::new();
        for total in [
            4, 6, 8, 10, 12, 15, 18, 22, 27, 33, 41, 51, 63, 78, 97, 100, 100,
        ] {
            while let Some(Taken { place, .. }) = pool.take() {
                taken.push(place, GFP_KERNEL)?;
            }
            refill(&pool, &count)?;
            assert_eq!(pool.total(), total);
        }
        // Used until a moment ago; not any more; for good.
        for place in taken {
            put(&pool, place);
        }
        for (total, more) in [(100, true), (2, false), (2, false)] {
            // SAFETY: a test has one thread.
            unsafe { pool.shrink() };
            assert_eq!(pool.can_shrink(), more);
            assert_eq!(pool.total(), total);
            assert_eq!(count.load(Relaxed) as usize, total);
        }
        // And again.
        let (a, b) = (take(&pool)?, take(&pool)?);
        refill(&pool, &count)?;
        assert_eq!(pool.total(), 4);
        put(&pool, a);
        put(&pool, b);
        drop(pool);
        assert_eq!(count.load(Relaxed), 0);
        Ok(())
    }

    #[test]
    fn the_reserve_stays_whatever_was_noted() -> Result {
        let count = Atomic::new(0);
        let pool = filled::<0>(100, 2, &count)?;
        // As by a processor that was interrupted in `take()` when there were as many.
        pool.lowest.store(99, Relaxed);
        // SAFETY: a test has one thread.
        unsafe { pool.shrink() };
        assert_eq!((pool.total(), count.load(Relaxed)), (2, 2));
        Ok(())
    }

    #[test]
    fn it_goes_on_when_there_is_no_memory() -> Result {
        let count = Atomic::new(0);
        let pool = filled::<0>(100, 2, &count)?;
        for _ in 0..10 {
            let (a, b) = (take(&pool)?, take(&pool)?);
            assert!(pool.take().is_none());
            // SAFETY: a test has one thread.
            assert_eq!(unsafe { pool.refill(|| Err(ENOMEM)) }, Err(ENOMEM));
            assert!(put(&pool, a));
            put(&pool, b);
        }
        let held = (take(&pool)?, take(&pool)?);
        // One more, and then no memory: that one stays.
        let mut left = 1;
        let alloc = || {
            if left == 0 {
                return Err(ENOMEM);
            }
            left -= 1;
            Counted::new(&count)
        };
        // SAFETY: a test has one thread.
        assert_eq!(unsafe { pool.refill(alloc) }, Err(ENOMEM));
        assert_eq!(pool.total(), 3);
        let third = take(&pool)?;
        for place in [held.0, held.1, third] {
            put(&pool, place);
        }
        Ok(())
    }

    #[test]
    fn places_of_a_block_are_told_apart() -> Result {
        let count = Atomic::new(0);
        let pool = filled::<2>(5, 3, &count)?;
        let mut seen = 0;
        for _ in 0..4 {
            let place = take(&pool)?;
            // SAFETY: the place was taken, and is not given back.
            let (_, nr) = unsafe { pool.block(place.get()) };
            seen |= 1 << nr;
        }
        assert!(seen == 0b1111 && pool.take().is_none());
        // Of another block; blocks of several places stay.
        refill(&pool, &count)?;
        assert_eq!((pool.total(), count.load(Relaxed)), (8, 2));
        // SAFETY: a test has one thread.
        unsafe { pool.shrink() };
        assert_eq!((pool.total(), pool.can_shrink()), (8, false));
        Ok(())
    }

    /// A pool that threads share, and how many of them have ended.
    #[pin_data]
    struct Shared {
        pool: Pool<Atomic<u32>, 0>,
        taken: Atomic<u32>,
        wrong: Atomic<u32>,
        running: Atomic<u32>,
        #[pin]
        over: Completion,
    }

    const THREADS: u32 = 4;

    /// One of them. Not `Queue::try_spawn()`: its lock class has one key in all modules, and a name
    /// in each, of which lockdep warns.
    #[pin_data]
    struct Thread {
        id: u32,
        shared: Arc<Shared>,
        #[pin]
        work: Work<Thread>,
    }

    impl_has_work! {
        impl HasWork<Self> for Thread { self.work }
    }

    impl WorkItem for Thread {
        type Pointer = Arc<Self>;

        fn run(this: Arc<Self>) {
            this.shared.run(this.id);
        }
    }

    impl Shared {
        /// Takes places and gives them back. Nobody else has one meanwhile.
        fn run(&self, id: u32) {
            for turn in 0..20_000 {
                let Some(Taken { place, .. }) = self.pool.take() else {
                    continue;
                };
                // SAFETY: the place was taken, and is not given back meanwhile.
                let (owner, _) = unsafe { self.pool.block(place.get()) };
                let was = owner.xchg(id, Relaxed);
                let still = owner.xchg(0, Relaxed);
                if was != 0 || still != id {
                    self.wrong.add(1, Relaxed);
                }
                put(&self.pool, place);
                self.taken.add(1, Relaxed);
                if turn % 64 == 0 {
                    // SAFETY: yielding has no requirements in a work item.
                    unsafe { kernel::bindings::schedule() };
                }
            }
            if self.running.fetch_sub(1, Relaxed) == 1 {
                self.over.complete_all();
            }
        }
    }

    #[test]
    fn threads_do_not_get_the_same_place() -> Result {
        let shared = Arc::pin_init(
            pin_init!(Shared {
                pool: Pool::new(3, 1)?,
                taken: Atomic::new(0),
                wrong: Atomic::new(0),
                running: Atomic::new(THREADS),
                over <- Completion::new(),
            }? Error),
            GFP_KERNEL,
        )?;
        // SAFETY: nobody else refills it.
        unsafe { shared.pool.refill(|| Ok(Atomic::new(0)))? };
        for id in 1..=THREADS {
            let shared = shared.clone();
            let thread = Arc::pin_init(
                pin_init!(Thread {
                    id,
                    shared,
                    work <- new_work!("Thread::work"),
                }),
                GFP_KERNEL,
            )?;
            if system_unbound().enqueue(thread).is_err() {
                return Err(EBUSY);
            }
        }
        // Meanwhile it grows and shrinks.
        while shared.running.load(Relaxed) != 0 {
            // SAFETY: nobody else refills or shrinks it.
            unsafe {
                shared.pool.refill(|| Ok(Atomic::new(0)))?;
                shared.pool.shrink();
            }
            // SAFETY: yielding has no requirements in process context.
            unsafe { kernel::bindings::schedule() };
        }
        shared.over.wait_for_completion();
        assert_eq!(shared.wrong.load(Relaxed), 0);
        assert!(shared.taken.load(Relaxed) > 0);
        Ok(())
    }
}
