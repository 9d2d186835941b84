// SPDX-License-Identifier: GPL-2.0

//! Segments that `exec.rs` maps one by one; those that are mapped are unmapped if one fails.

use super::{
    choose::Strategy,
    range::IovaRange,
    state::{
        Slot,
        State, //
    }, //
};
use crate::{
    attrs::MapAttrs,
    mapper::Mapper,
    pinned::PinnedPhyr,
    space::IovaSpace, //
};
use core::{
    cell::Cell,
    mem::ManuallyDrop, //
};
use kernel::prelude::*;

/// Segments that are mapped one by one; unmaps them when dropped.
///
/// # Invariants
///
/// `out` is the end of `slots`; those in front of it hold ranges that are mapped in `space` for
/// `attrs`.
pub(super) struct MappedSegments<'a, A: IovaSpace> {
    space: A,
    attrs: MapAttrs,
    slots: &'a [Cell<Slot>],
    out: core::slice::Iter<'a, Cell<Slot>>,
}

impl<'a, A: IovaSpace> MappedSegments<'a, A> {
    #[inline]
    pub(super) fn new(space: A, attrs: MapAttrs, slots: &'a [Cell<Slot>]) -> Self {
        // INVARIANT: there are none yet.
        Self {
            space,
            attrs,
            slots,
            out: slots.iter(),
        }
    }

    /// Returns the number of ranges.
    #[inline]
    pub(super) fn nr(&self) -> usize {
        self.slots.len() - self.out.len()
    }

    /// Maps `phyr`.
    #[inline]
    pub(super) fn map(&mut self, phyr: PinnedPhyr) -> Result {
        let mut out = self.out.clone();
        let slot = out.next().ok_or(E2BIG)?;
        let addr = self.space.map_phys(phyr, self.attrs)?;
        slot.set(Slot::range(addr, phyr.phyr().len()));
        // INVARIANT: the slot after the last one was just filled.
        self.out = out;
        Ok(())
    }

    /// Adds a range that is linked whole.
    pub(super) fn add(&mut self, range: IovaRange<A>) {
        // A range a phyr at the most, so there is always a slot.
        if let Some(out) = self.out.next() {
            // INVARIANT: the slot after the last one is filled.
            out.set(Slot::iova(range.close()));
        }
    }

    /// Hands the ranges over to a state, which `mapper`, by which they are mapped, is to unmap.
    #[inline]
    pub(super) fn close(self, mapper: &Mapper<'_>) -> State {
        let (this, unmap) = (ManuallyDrop::new(self), mapper.needs_unmap());
        // CAST: a request or a list has fewer segments than 32 bits can count.
        let nr = this.nr() as u32;
        // SAFETY: by the type invariant; nobody unmaps these ranges but the owner of the state.
        unsafe { State::new(Strategy::Each, Slot::EMPTY, nr, this.attrs, unmap) }
    }

    /// Hands the only range over to a state, which needs no slot, for `mapper` to unmap.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there is none, or more than one.
    #[inline]
    pub(super) fn close_one(self, mapper: &Mapper<'_>) -> Result<State> {
        let (1, Some(only)) = (self.nr(), self.slots.first()) else {
            return Err(EINVAL);
        };
        let (only, unmap) = (only.get(), mapper.needs_unmap());
        let this = ManuallyDrop::new(self);
        // SAFETY: by the type invariant `only`, the first slot, is mapped, by `map_phys`, and
        // nobody unmaps it but the owner of the state.
        Ok(unsafe { State::new(Strategy::Single, only, 1, this.attrs, unmap) })
    }
}

impl<A: IovaSpace> Drop for MappedSegments<'_, A> {
    fn drop(&mut self) {
        for slot in self.slots.iter().take(self.nr()) {
            // SAFETY: by the type invariant it is mapped, in this space; the device never learned
            // of it.
            let mapped = unsafe { slot.get().reopen(self.attrs) };
            mapped.end(&self.space);
        }
    }
}
