// SPDX-License-Identifier: GPL-2.0

//! The places that a request has taken from the pools of its queue; `memory.rs` has the pools.

use super::free_list::Index;

/// A place of a pool, if there is one: 0, or one more than the number of the place.
///
/// It owns the place, and does not give it back by being dropped.
pub(crate) struct HeldPlace(u16);

impl HeldPlace {
    /// No place.
    const NONE: Self = Self(0);

    /// Returns whether there is one.
    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        self.0 != 0
    }

    /// Returns the number of the place, if there is one.
    #[inline]
    pub(crate) fn get(&self) -> Option<u16> {
        self.0.checked_sub(1)
    }

    /// Puts a place here. There must be none.
    #[inline]
    pub(crate) fn put(&mut self, place: Index) {
        // No overflow: places are below `u16::MAX`.
        self.0 = place.get().wrapping_add(1);
    }

    /// Takes the place, if there is one.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Index> {
        let place = self.get().map(Index::new);
        self.0 = 0;
        place
    }
}

/// The places that a request has, one at most of each pool of its queue's memory.
pub(crate) struct Held {
    /// Slots and a list, both short.
    pub(crate) short: HeldPlace,
    pub(crate) long_slots: HeldPlace,
    pub(crate) long_list: HeldPlace,
}

impl Held {
    /// No place.
    pub(crate) const NONE: Self = Self {
        short: HeldPlace::NONE,
        long_slots: HeldPlace::NONE,
        long_list: HeldPlace::NONE,
    };
}
