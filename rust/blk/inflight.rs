// SPDX-License-Identifier: GPL-2.0

//! The table of what a hardware queue has in flight: a tag finds its owner at most once.

use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        ordering,
        Atomic, //
    },
};

/// One place per tag. A pointer is put in by its owner and taken out by exactly one.
///
/// It is for tags that a device reports, which can be anything: those out of range and those that
/// hold nothing are no error.
///
/// # Invariants
///
/// A pointer in the table was put there by [`Table::put`], and is owned by the table.
pub(crate) struct Table<P> {
    places: KVVec<Atomic<*mut P>>,
}

impl<P> Table<P> {
    /// Makes a table for the tags `0..depth`.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    pub(crate) fn new(depth: u16) -> Result<Self> {
        let mut places = KVVec::with_capacity(depth.into(), GFP_KERNEL)?;
        for _ in 0..depth {
            places.push(Atomic::new(ptr::null_mut()), GFP_KERNEL)?;
        }
        // INVARIANT: there is no pointer in it.
        Ok(Self { places })
    }

    /// Number of tags.
    #[inline]
    pub(crate) fn depth(&self) -> u16 {
        // CAST: `new` made it from a `u16`.
        self.places.len() as u16
    }

    #[inline]
    fn place(&self, tag: u16) -> Option<&Atomic<*mut P>> {
        self.places.get(usize::from(tag))
    }

    /// Hands `pointer` over to the table, and tells whether it took it.
    ///
    /// It does not take what is out of range. All that the caller wrote before is seen by whoever
    /// takes the pointer. The caller vouches that the place is free: it is the one owner of `tag`.
    #[inline]
    #[must_use]
    pub(crate) fn put(&self, tag: u16, pointer: NonNull<P>) -> bool {
        let Some(place) = self.place(tag) else {
            return false;
        };
        // INVARIANT: the caller hands the pointer over.
        place.store(pointer.as_ptr(), ordering::Release);
        true
    }

    /// Takes what is in flight under `tag`, if anything; the caller owns it then.
    #[inline]
    pub(crate) fn take(&self, tag: u16) -> Option<NonNull<P>> {
        NonNull::new(self.place(tag)?.xchg(ptr::null_mut(), ordering::Acquire))
    }

    /// Takes `pointer`, if it is what is in flight under `tag`.
    #[inline]
    pub(crate) fn take_exact(&self, tag: u16, pointer: NonNull<P>) -> Option<NonNull<P>> {
        self.place(tag)?
            .cmpxchg(pointer.as_ptr(), ptr::null_mut(), ordering::Acquire)
            .ok()
            .and_then(NonNull::new)
    }

    /// Whether something is in flight under `tag`. It may be gone by the time this returns.
    #[inline]
    pub(crate) fn contains(&self, tag: u16) -> bool {
        !self.peek(tag).is_null()
    }

    /// What is in flight under `tag`, for comparison only: the caller does not own it.
    #[inline]
    pub(crate) fn peek(&self, tag: u16) -> *mut P {
        self.place(tag)
            .map_or(ptr::null_mut(), |place| place.load(ordering::Relaxed))
    }
}

#[kunit_tests(phyr_blk_inflight)]
mod tests {
    use super::*;

    fn pointer(value: &mut u32) -> NonNull<u32> {
        NonNull::from(value)
    }

    #[test]
    fn gives_back_exactly_once() -> Result {
        let table = Table::new(4)?;
        let mut value = 0u32;
        let owned = pointer(&mut value);
        for tag in 0..4 {
            assert!(!table.contains(tag));
            assert!(table.take(tag).is_none());
            assert!(table.put(tag, owned));
            assert!(table.contains(tag));
            assert_eq!(table.take(tag), Some(owned));
            assert!(table.take(tag).is_none());
        }
        Ok(())
    }

    #[test]
    fn ignores_tags_out_of_range() -> Result {
        for depth in [0u16, 1, 2, 1023] {
            let table = Table::new(depth)?;
            let mut value = 0u32;
            assert_eq!(table.depth(), depth);
            for tag in [depth, depth + 1, u16::MAX - 1, u16::MAX] {
                assert!(!table.put(tag, pointer(&mut value)));
                assert!(table.take(tag).is_none());
                assert!(table.take_exact(tag, pointer(&mut value)).is_none());
                assert!(!table.contains(tag));
            }
        }
        Ok(())
    }

    #[test]
    fn takes_the_full_range() -> Result {
        let table = Table::new(u16::MAX)?;
        let mut value = 0u32;
        assert!(table.put(u16::MAX - 1, pointer(&mut value)));
        assert!(table.take(u16::MAX).is_none());
        assert!(table.take(u16::MAX - 1).is_some());
        Ok(())
    }

    #[test]
    fn tags_do_not_touch_each_other() -> Result {
        let table = Table::new(3)?;
        let (mut a, mut b) = (1u32, 2u32);
        assert!(table.put(0, pointer(&mut a)));
        assert!(table.put(2, pointer(&mut b)));
        assert!(table.take(1).is_none());
        assert_eq!(table.take(2), Some(pointer(&mut b)));
        assert_eq!(table.take(0), Some(pointer(&mut a)));
        Ok(())
    }

    #[test]
    fn exact_wants_the_same_one() -> Result {
        let table = Table::new(1)?;
        let (mut a, mut b) = (1u32, 2u32);
        assert!(table.take_exact(0, pointer(&mut a)).is_none());
        assert!(table.put(0, pointer(&mut a)));
        assert!(table.take_exact(0, pointer(&mut b)).is_none());
        assert_eq!(table.take_exact(0, pointer(&mut a)), Some(pointer(&mut a)));
        assert!(table.take_exact(0, pointer(&mut a)).is_none());
        Ok(())
    }
}
