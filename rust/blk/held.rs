// SPDX-License-Identifier: GPL-2.0

//! The places that a request has taken from the pools of its queue; `memory.rs` has the pools.

use super::free_list::Index;

/// The pools of a queue, in the order of [`Held`].
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    ShortSlots,
    LongSlots,
    ShortList,
    LongList,
}

/// Places that a request has, one at most of each pool: 0, or one more than the number of the
/// place.
///
/// It owns the places, and does not give them back by being dropped.
pub(crate) struct Held([u16; 4]);

impl Held {
    /// No place.
    pub(crate) const NONE: Self = Self([0; 4]);

    /// Returns the number of the place in the pool `kind`, if there is one.
    #[inline]
    pub(crate) fn get(&self, kind: Kind) -> Option<u16> {
        // PANIC: there are as many variants.
        // CAST: they are numbered.
        self.0[kind as usize].checked_sub(1)
    }

    /// Puts a place of the pool `kind` here. There must be none.
    #[inline]
    pub(crate) fn put(&mut self, kind: Kind, place: Index) {
        // PANIC: there are as many variants.
        // CAST: they are numbered. Places are below `u16::MAX`.
        self.0[kind as usize] = place.get() + 1;
    }

    /// Takes the place in the pool `kind`, if there is one.
    #[inline]
    pub(crate) fn take(&mut self, kind: Kind) -> Option<Index> {
        let place = self.get(kind).map(Index::new);
        // PANIC: there are as many variants.
        // CAST: they are numbered.
        self.0[kind as usize] = 0;
        place
    }
}
