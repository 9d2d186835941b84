// SPDX-License-Identifier: GPL-2.0

//! A list of free places, without a lock: a processor takes one, and any processor gives it back.
//!
//! ```text
//!  head  | turn: 32 bits | number of free places: 16 | first free place: 16 |
//!                                                           |
//!  next  [ 3 ] [ - ] [ 0 ] [ end ]     the place after each, if it is free
//! ```
//!
//! Only numbers are in it. The memory of a place is the business of the one who took it.

use kernel::{
    alloc::flags::__GFP_NOWARN,
    prelude::*,
    sync::atomic::{
        ordering,
        Atomic, //
    },
};

/// The first free place and the number of all, in one word that is exchanged whole.
///
/// `turn` counts the exchanges (the ABA problem): between the read of the head and its exchange the
/// same place can have been taken and given back, with others after it, and only the turn shows
/// that. It is the same again after 2^32 exchanges, a minute's worth: a thread that is preempted
/// between the two would have to come back after just a multiple of so many, and find the same
/// place and number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head(u64);

impl Head {
    /// No place: there are fewer than this.
    const END: u16 = u16::MAX;

    /// One more exchange, and one more place, in the word.
    const TURN: u64 = 1 << 32;
    const COUNT: u64 = 1 << 16;

    const fn new(count: u16, first: u16) -> Self {
        // CAST: to more bits.
        Self((count as u64) << 16 | first as u64)
    }

    /// Returns the next head, with one place less, if there is one: `first` is in front.
    const fn one_less(self, first: u16) -> Self {
        Self(self.0.wrapping_add(Self::TURN - Self::COUNT)).with_first(first)
    }

    /// Returns the next head, with one place more: `first` is in front.
    const fn one_more(self, first: u16) -> Self {
        Self(self.0.wrapping_add(Self::TURN + Self::COUNT)).with_first(first)
    }

    const fn with_first(self, first: u16) -> Self {
        // CAST: to more bits.
        Self(self.0 & !(u16::MAX as u64) | first as u64)
    }

    const fn count(self) -> u16 {
        // CAST: 16 of the bits.
        (self.0 >> 16) as u16
    }

    const fn first(self) -> u16 {
        // CAST: 16 of the bits.
        self.0 as u16
    }
}

/// A set of free places, which are numbers.
///
/// What was written to a place's memory before the place was given is seen by whoever takes it.
///
/// # Invariants
///
/// A place was given once more often than it was taken if it is in the list, and as often if it is
/// not. So a place that was taken has one owner.
pub(crate) struct FreeList {
    head: Atomic<u64>,
    /// The place after each free one. Never freed while the list is used: [`FreeList::take`] reads
    /// that of a place that another processor has just taken.
    next: KVVec<Atomic<u32>>,
}

/// The number of a place that was taken: its owner has what belongs to the place.
///
/// It is not given back by being dropped.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a place that is lost is never free again"]
pub(crate) struct Index(u16);

impl Index {
    /// Returns the number.
    #[inline]
    pub(crate) fn get(&self) -> u16 {
        self.0
    }

    /// Makes the number of a place again.
    #[inline]
    pub(crate) fn new(index: u16) -> Self {
        Self(index)
    }
}

impl FreeList {
    /// Makes a list of the places below `places`, none of which is free.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    /// - `EINVAL`: too many places.
    pub(crate) fn new(places: usize) -> Result<Self> {
        if places > usize::from(Head::END) {
            return Err(EINVAL);
        }
        let mut next = KVVec::with_capacity(places, GFP_KERNEL | __GFP_NOWARN)?;
        for _ in 0..places {
            next.push(Atomic::new(Head::END.into()), GFP_KERNEL)?;
        }
        Ok(Self {
            head: Atomic::new(Head::new(0, Head::END).0),
            next,
        })
    }

    /// Returns the number of free places. It may be another one by the time this returns.
    #[inline]
    pub(crate) fn count(&self) -> u16 {
        Head(self.head.load(ordering::Relaxed)).count()
    }

    /// Takes a free place, and returns it with the number of those that are left. `None` if there
    /// is none.
    ///
    /// Context: any.
    #[inline]
    pub(crate) fn take(&self) -> Option<(Index, u16)> {
        let mut old = self.head.load(ordering::Acquire);
        loop {
            let head = Head(old);
            // None is left if the first one is `END`, which is out of range.
            let next = self.next.get(usize::from(head.first()))?;
            // CAST: a place has 16 bits.
            let next = next.load(ordering::Relaxed) as u16;
            let new = head.one_less(next);
            // INVARIANT: the head is still the one with this place, which is taken out of the list.
            match self.head.cmpxchg(old, new.0, ordering::Acquire) {
                Ok(_) => return Some((Index(head.first()), new.count())),
                // Read without an order of its own. The next place is read by an address that
                // depends on it, and so after it.
                Err(other) => old = other,
            }
        }
    }

    /// Gives a place back.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// The place was taken from this list, or was never in it, and has no other owner.
    #[inline]
    pub(crate) unsafe fn put(&self, place: Index) {
        let Some(next) = self.next.get(usize::from(place.0)) else {
            return;
        };
        let mut old = self.head.load(ordering::Relaxed);
        loop {
            let head = Head(old);
            next.store(head.first().into(), ordering::Relaxed);
            let new = head.one_more(place.0);
            // INVARIANT: the caller promises that it is not in the list.
            match self.head.cmpxchg(old, new.0, ordering::Release) {
                Ok(_) => return,
                Err(other) => old = other,
            }
        }
    }
}

#[kunit_tests(phyr_blk_free_list)]
mod tests {
    // PANIC: an `unwrap` that fails is a failed test.

    use super::*;

    /// A list of `places`, of which all are free.
    fn full(places: u16) -> Result<FreeList> {
        let list = FreeList::new(places.into())?;
        for index in 0..places {
            // SAFETY: it was never in the list.
            unsafe { list.put(Index::new(index)) };
        }
        Ok(list)
    }

    #[test]
    fn gives_each_place_once() -> Result {
        for places in [0, 1, 2, 1023] {
            let list = full(places)?;
            assert_eq!(list.count(), places);
            let mut seen = KVVec::from_elem(false, places.into(), GFP_KERNEL)?;
            for left in (0..places).rev() {
                let (place, count) = list.take().ok_or(ENOENT)?;
                assert_eq!(count, left);
                assert!(!core::mem::replace(
                    &mut seen[usize::from(place.get())],
                    true
                ));
            }
            assert!(list.take().is_none());
            assert_eq!(list.count(), 0);
        }
        Ok(())
    }

    #[test]
    fn the_last_that_came_is_the_first_that_goes() -> Result {
        let list = full(3)?;
        let (a, _) = list.take().ok_or(ENOENT)?;
        let (b, _) = list.take().ok_or(ENOENT)?;
        let (first, second) = (a.get(), b.get());
        // SAFETY: both were taken from it just now.
        unsafe {
            list.put(a);
            list.put(b);
        }
        assert_eq!(list.count(), 3);
        assert_eq!(
            list.take().map(|(place, left)| (place.0, left)),
            Some((second, 2))
        );
        assert_eq!(
            list.take().map(|(place, left)| (place.0, left)),
            Some((first, 1))
        );
        Ok(())
    }

    #[test]
    fn a_head_of_before_is_another_one() -> Result {
        let list = full(2)?;
        let before = list.head.load(ordering::Relaxed);
        let (place, _) = list.take().ok_or(ENOENT)?;
        // SAFETY: it was taken from it just now.
        unsafe { list.put(place) };
        let after = list.head.load(ordering::Relaxed);
        // The same place and number, but another turn.
        assert_eq!(before & 0xffff_ffff, after & 0xffff_ffff);
        assert!(before != after);
        // The turn goes round without touching the rest.
        list.head
            .store(after | 0xffff_ffff << 32, ordering::Relaxed);
        let (place, left) = list.take().ok_or(ENOENT)?;
        assert_eq!(left, 1);
        // SAFETY: it was taken from it just now.
        unsafe { list.put(place) };
        assert_eq!(list.count(), 2);
        Ok(())
    }

    #[test]
    fn there_are_so_many_places_at_most() -> Result {
        assert_eq!(FreeList::new(65536).err(), Some(EINVAL));
        assert_eq!(full(65535)?.count(), 65535);
        Ok(())
    }
}
