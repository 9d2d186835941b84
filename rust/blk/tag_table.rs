// SPDX-License-Identifier: GPL-2.0

//! The table of a hardware queue's requests in flight: a tag finds its request at most once.
//! `in_flight.rs` puts requests in and takes them out.

use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    prelude::*,
    sync::atomic::{
        ordering,
        Atomic, //
    },
};

/// Number of changes of a place: a pointer that comes into it and one that leaves it count one
/// each, so that the count is odd while there is one.
///
/// A request that was in flight under a tag a moment ago has another count than the one that is
/// there now, even if it is the same request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(u32);

impl Count {
    /// Number of generations: the four bits that a device's command identifier of 16 bits has left
    /// beside a tag.
    pub(crate) const GENERATIONS: u8 = 16;

    #[inline]
    fn is_in_flight(self) -> bool {
        self.0 % 2 != 0
    }

    /// Returns the next count. It takes 2^31 turns of one tag until a count is there twice.
    #[inline]
    fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// Returns the generation of the pointer that is in flight, or will be next.
    #[inline]
    fn generation(self) -> u8 {
        // CAST: cut to what is below `GENERATIONS` on purpose.
        (self.0 / 2) as u8 % Self::GENERATIONS
    }
}

/// Place of one tag.
///
/// # Invariants
///
/// While `count` is odd, `pointer` was put there by [`TagTable::put`], and is owned by the table.
struct Place<P> {
    /// A [`Count`]. Changing it takes or gives away the ownership of the pointer.
    count: Atomic<u32>,
    /// Written only by an owner, while `count` is even.
    pointer: Atomic<*mut P>,
}

impl<P> Place<P> {
    #[inline]
    fn count(&self) -> Count {
        Count(self.count.load(ordering::Relaxed))
    }

    /// Takes the pointer in flight, if the place has not changed since `count` was read from it.
    #[inline]
    fn take(&self, count: Count) -> Option<NonNull<P>> {
        if !count.is_in_flight() {
            return None;
        }
        // All that the last owner did before `TagTable::put` happened before this.
        self.count
            .cmpxchg(count.0, count.next().0, ordering::Acquire)
            .ok()?;
        // The pointer is ours. Nobody writes the next one before we have let this one go.
        NonNull::new(self.pointer.load(ordering::Relaxed))
    }
}

/// Table with one place per tag. A pointer is put in by its owner and taken out by exactly one
/// caller.
///
/// A device can report any tag: one out of range, and one that holds nothing, is no error.
pub(crate) struct TagTable<P> {
    places: KVVec<Place<P>>,
}

impl<P> TagTable<P> {
    /// Makes a table for the tags `0..depth`.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    pub(crate) fn new(depth: u16) -> Result<Self> {
        let mut places = KVVec::with_capacity(depth.into(), GFP_KERNEL | __GFP_NOWARN)?;
        for _ in 0..depth {
            // INVARIANT: zero is even.
            let place = Place {
                count: Atomic::new(0),
                pointer: Atomic::new(ptr::null_mut()),
            };
            places.push(place, GFP_KERNEL)?;
        }
        Ok(Self { places })
    }

    /// Returns the number of tags.
    #[inline]
    pub(crate) fn depth(&self) -> u16 {
        // CAST: `new` made it from a `u16`.
        self.places.len() as u16
    }

    #[inline]
    fn place(&self, tag: u16) -> Option<&Place<P>> {
        self.places.get(usize::from(tag))
    }

    /// Hands `pointer` over to the table, and returns its generation; or `None` for a tag out of
    /// range, for which the table does not take it.
    ///
    /// Everything that the caller wrote before is seen by the one who takes the pointer. The caller
    /// vouches that the place is free: it is the one owner of `tag`.
    #[inline]
    #[must_use]
    pub(crate) fn put(&self, tag: u16, pointer: NonNull<P>) -> Option<u8> {
        let place = self.place(tag)?;
        // Nobody else changes the place of a free tag.
        let count = place.count();
        place.pointer.store(pointer.as_ptr(), ordering::Relaxed);
        // INVARIANT: the count becomes odd, and the caller hands the pointer over.
        place.count.store(count.next().0, ordering::Release);
        Some(count.generation())
    }

    /// Returns the generation of the next [`TagTable::put`] under `tag`, if the caller is the owner
    /// of `tag`; zero for a tag out of range.
    #[inline]
    pub(crate) fn generation(&self, tag: u16) -> u8 {
        self.place(tag)
            .map_or(0, |place| place.count().generation())
    }

    /// Takes the pointer that is in flight under `tag`, if any; the caller owns it then.
    #[inline]
    pub(crate) fn take(&self, tag: u16) -> Option<NonNull<P>> {
        let place = self.place(tag)?;
        place.take(place.count())
    }

    /// Takes the pointer that is in flight under `tag`, if its generation is this one.
    #[inline]
    pub(crate) fn take_generation(&self, tag: u16, generation: u8) -> Option<NonNull<P>> {
        let place = self.place(tag)?;
        let count = place.count();
        if count.generation() != generation {
            return None;
        }
        place.take(count)
    }

    /// Takes the pointer that [`TagTable::find`] found, if it has been in flight ever since.
    #[inline]
    pub(crate) fn take_counted(&self, tag: u16, count: Count) -> Option<NonNull<P>> {
        self.place(tag)?.take(count)
    }

    /// Returns whether a pointer is in flight under `tag`. It may be gone by the time this returns.
    #[inline]
    pub(crate) fn contains(&self, tag: u16) -> bool {
        self.place(tag)
            .is_some_and(|place| place.count().is_in_flight())
    }

    /// Returns whether the pointer that [`TagTable::find`] found has been in flight ever since. It
    /// may be gone by the time this returns.
    #[inline]
    pub(crate) fn contains_counted(&self, tag: u16, count: Count) -> bool {
        self.place(tag)
            .is_some_and(|place| count.is_in_flight() && place.count() == count)
    }

    /// Finds `pointer`, which is only compared, if it is in flight under `tag`. It may be gone by
    /// the time this returns: [`TagTable::take_counted`] checks.
    pub(crate) fn find(&self, tag: u16, pointer: *const P) -> Option<Count> {
        let place = self.place(tag)?;
        let count = Count(place.count.load(ordering::Acquire));
        // If the place changes between the two loads, `count` is out of date and takes nothing.
        let found = place.pointer.load(ordering::Relaxed).cast_const();
        (count.is_in_flight() && found == pointer).then_some(count)
    }
}

#[kunit_tests(phyr_blk_tag_table)]
mod tests {
    // PANIC: an index that is out of range is a failed test.

    use super::*;

    fn pointer(value: &mut u32) -> NonNull<u32> {
        NonNull::from(value)
    }

    #[test]
    fn gives_back_exactly_once() -> Result {
        let table = TagTable::new(4)?;
        let mut value = 0u32;
        let owned = pointer(&mut value);
        for tag in 0..4 {
            assert!(!table.contains(tag));
            assert!(table.take(tag).is_none());
            assert!(table.put(tag, owned).is_some());
            assert!(table.contains(tag));
            assert_eq!(table.take(tag), Some(owned));
            assert!(table.take(tag).is_none());
        }
        Ok(())
    }

    #[test]
    fn ignores_tags_out_of_range() -> Result {
        for depth in [0u16, 1, 2, 1023] {
            let table = TagTable::new(depth)?;
            let mut value = 0u32;
            assert_eq!(table.depth(), depth);
            for tag in [depth, depth + 1, u16::MAX - 1, u16::MAX] {
                assert!(table.put(tag, pointer(&mut value)).is_none());
                assert!(table.take(tag).is_none());
                assert!(table.find(tag, &value).is_none());
                assert!(!table.contains(tag));
            }
        }
        Ok(())
    }

    #[test]
    fn takes_the_full_range() -> Result {
        let table = TagTable::new(u16::MAX)?;
        let mut value = 0u32;
        assert!(table.put(u16::MAX - 1, pointer(&mut value)).is_some());
        assert!(table.take(u16::MAX).is_none());
        assert!(table.take(u16::MAX - 1).is_some());
        Ok(())
    }

    #[test]
    fn tags_do_not_touch_each_other() -> Result {
        let table = TagTable::new(3)?;
        let (mut a, mut b) = (1u32, 2u32);
        assert!(table.put(0, pointer(&mut a)).is_some());
        assert!(table.put(2, pointer(&mut b)).is_some());
        assert!(table.take(1).is_none());
        assert_eq!(table.take(2), Some(pointer(&mut b)));
        assert_eq!(table.take(0), Some(pointer(&mut a)));
        Ok(())
    }

    #[test]
    fn a_duplicate_finds_nothing_when_the_tag_is_in_use_again() -> Result {
        let table = TagTable::new(2)?;
        let (mut a, mut b) = (1u32, 2u32);

        let first = table.generation(1);
        assert!(table.put(1, pointer(&mut a)).is_some());
        assert_eq!(table.take_generation(1, first), Some(pointer(&mut a)));
        assert!(table.take_generation(1, first).is_none());

        let second = table.generation(1);
        assert!(first != second);
        assert!(table.put(1, pointer(&mut b)).is_some());
        assert!(table.take_generation(1, first).is_none());
        assert!(table.contains(1));
        assert_eq!(table.take_generation(1, second), Some(pointer(&mut b)));
        Ok(())
    }

    #[test]
    fn generations_are_all_below_their_number() -> Result {
        let table = TagTable::new(1)?;
        let mut value = 0u32;
        for turn in 0..3 * u32::from(Count::GENERATIONS) {
            let generation = table.generation(0);
            assert_eq!(u32::from(generation), turn % u32::from(Count::GENERATIONS));
            // In flight it is the one that was foretold.
            assert_eq!(table.put(0, pointer(&mut value)), Some(generation));
            assert_eq!(table.generation(0), generation);
            for other in (0..=u8::MAX).filter(|&other| other != generation) {
                assert!(table.take_generation(0, other).is_none());
            }
            assert!(table.take_generation(0, generation).is_some());
        }
        for tag in [1, u16::MAX] {
            assert_eq!(table.generation(tag), 0);
            assert!(table.take_generation(tag, 0).is_none());
        }
        Ok(())
    }

    #[test]
    fn the_same_pointer_is_another_when_it_comes_again() -> Result {
        let table = TagTable::new(1)?;
        let (mut a, mut b) = (1u32, 2u32);
        let (a, b) = (pointer(&mut a), pointer(&mut b));
        assert!(table.find(0, a.as_ptr()).is_none());
        assert!(table.find(1, a.as_ptr()).is_none());
        assert!(table.put(0, a).is_some());
        assert!(table.find(0, b.as_ptr()).is_none());

        let old = table.find(0, a.as_ptr()).ok_or(ENOENT)?;
        assert!(table.contains_counted(0, old));
        assert_eq!(table.take(0), Some(a));
        assert!(table.find(0, a.as_ptr()).is_none());
        assert!(!table.contains_counted(0, old));
        assert!(table.put(0, a).is_some());
        assert!(!table.contains_counted(0, old));
        assert!(table.take_counted(0, old).is_none());

        let new = table.find(0, a.as_ptr()).ok_or(ENOENT)?;
        assert!(table.take_counted(1, new).is_none());
        assert_eq!(table.take_counted(0, new), Some(a));
        assert!(table.take_counted(0, new).is_none());
        Ok(())
    }

    #[test]
    fn the_count_goes_round() -> Result {
        let table = TagTable::new(1)?;
        let mut value = 0u32;
        table.places[0].count.store(u32::MAX - 1, ordering::Relaxed);
        for generation in [15, 0, 1] {
            assert_eq!(table.generation(0), generation);
            assert!(table.put(0, pointer(&mut value)).is_some());
            assert!(table.contains(0));
            assert!(table.take_generation(0, generation).is_some());
            assert!(!table.contains(0));
        }
        Ok(())
    }
}
