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
//! the request waits. [`Pool::put`] then says so, so that the queue is run.
//!
//! A pool has `reserve` places from the start, and never fewer. So however little memory there is,
//! so many requests at a time have theirs, and each that ends makes room for another one.

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

/// A pool of places in blocks of type `B`.
///
/// # Invariants
///
/// - A place is in the free list, or was taken from it, exactly if its block is there.
/// - A block changes only while none of its places is in the free list or taken, and by one thread
///   at a time.
pub(crate) struct Pool<B> {
    free: FreeList,
    blocks: KVVec<UnsafeCell<Option<KBox<B>>>>,
    /// The number of places in a block is two to the power of this.
    shift: u32,
    reserve: u16,
    /// Places that have memory.
    total: Atomic<u32>,
    /// The fewest places that were free since the last [`Pool::shrink`], about.
    lowest: Atomic<u32>,
    /// A place was asked for in vain since the last one was given back.
    refused: Atomic<bool>,
}

// SAFETY: a pool owns its blocks.
unsafe impl<B: Send> Send for Pool<B> {}

// SAFETY: by the type invariants a block that others refer to does not change.
unsafe impl<B: Send + Sync> Sync for Pool<B> {}

/// A place that was taken from a pool.
pub(crate) struct Taken {
    pub(crate) place: Index,
    /// Few are left: the pool is to be [refilled](Pool::refill).
    pub(crate) is_low: bool,
}

impl<B> Pool<B> {
    /// Makes a pool of up to `places` places, of which there are `1 << shift` in a block. None has
    /// memory; [`Pool::refill`] is to follow.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    /// - `EINVAL`: too many places.
    pub(crate) fn new(places: u16, shift: u32, reserve: u16) -> Result<Self> {
        let nr = usize::from(places).div_ceil(1 << shift);
        let mut blocks = KVVec::with_capacity(nr, GFP_KERNEL | __GFP_NOWARN)?;
        for _ in 0..nr {
            blocks.push(UnsafeCell::new(None), GFP_KERNEL)?;
        }
        // INVARIANT: there is no block, and no place is in the list.
        Ok(Self {
            free: FreeList::new(nr << shift)?,
            blocks,
            shift,
            reserve: reserve.min(places),
            total: Atomic::new(0),
            lowest: Atomic::new(0),
            refused: Atomic::new(false),
        })
    }

    /// Returns the most places that it can have.
    fn capacity(&self) -> usize {
        self.blocks.len() << self.shift
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
            return None;
        };
        if u32::from(left) < self.lowest.load(Relaxed) {
            self.lowest.store(left.into(), Relaxed);
        }
        Some(Taken {
            place,
            is_low: left < self.reserve && self.can_grow(),
        })
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
    pub(crate) unsafe fn block(&self, index: u16) -> Option<(&B, usize)> {
        let cell = self.blocks.get(usize::from(index) >> self.shift)?;
        // SAFETY: by the type invariants the block of a place that was taken does not change.
        let block = unsafe { &*cell.get() }.as_deref()?;
        Some((block, usize::from(index) & ((1 << self.shift) - 1)))
    }

    /// Returns the number of places that it should have.
    ///
    /// If there are none, all are in use, and more may be wanted: half as many again, so that there
    /// is enough after a few rounds, and never much more than was ever in use at once. Otherwise as
    /// many as are missing from the reserve.
    fn wanted(&self) -> usize {
        let (free, total, reserve) = (self.free.count(), self.total(), usize::from(self.reserve));
        let more = if free == 0 {
            reserve.max(total / 2)
        } else {
            reserve.saturating_sub(free.into())
        };
        (total + more).min(self.capacity())
    }

    /// Adds blocks until there is a reserve again.
    ///
    /// Context: that of `alloc`.
    ///
    /// # Errors
    ///
    /// Those of `alloc`. What was added until then stays.
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
        let first = nr << self.shift;
        for index in first..first + (1 << self.shift) {
            // CAST: a place has 16 bits.
            let place = Index::new(index as u16);
            // SAFETY: by the type invariants the places of a block that was not there are neither
            // in the list nor taken.
            // INVARIANT: the block is there.
            unsafe { self.free.put(place) };
        }
        self.total.fetch_add(1 << self.shift, Relaxed);
    }

    /// Frees blocks of one place that nobody has needed since the last call, except the reserve.
    /// Returns whether there are more places left than that.
    ///
    /// Blocks of several places stay: they are of a page or so.
    ///
    /// # Safety
    ///
    /// No other [`Pool::refill`] or [`Pool::shrink`] is running.
    pub(crate) unsafe fn shrink(&self) -> bool {
        if self.shift != 0 {
            return false;
        }
        let unused = self.lowest.load(Relaxed);
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
        self.total() > self.reserve.into()
    }
}
