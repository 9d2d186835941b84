// SPDX-License-Identifier: GPL-2.0

//! Slots while a mapping is made: phyrs on their way in, ranges on their way out.

use super::{
    plan::Planner,
    state::Slot, //
};
use crate::{
    limits::Limits,
    pinned::PinnedPhyr,
    types::{
        DmaAddr,
        Granule, //
    }, //
};
use core::cell::Cell;
use kernel::prelude::*;

/// Returns the number of phyrs, and of bytes, in the run with which `slots` begin.
pub(super) fn next_run(slots: &[Cell<Slot>]) -> Result<Option<(usize, u64)>> {
    let (mut nr, mut bytes) = (0, 0);
    for slot in slots {
        if nr != 0 && slot.get().begins() {
            break;
        }
        nr += 1;
        // No overflow: the planner has added up all of them.
        // CAST: a `usize` is at most 64 bits wide.
        bytes += slot.get().phyr()?.len() as u64;
    }
    Ok((nr != 0).then_some((nr, bytes)))
}

/// Slots that hold phyrs.
///
/// # Invariants
///
/// Each slot holds a phyr of pinned memory until it is written, and is read before that.
#[derive(Clone, Copy)]
pub(super) struct Phyrs<'a>(pub(super) &'a [Cell<Slot>]);

impl Phyrs<'_> {
    /// Reads the phyr in `slot`, which is one of these.
    #[inline]
    pub(super) fn read(self, slot: &Cell<Slot>) -> Result<PinnedPhyr> {
        let phyr = slot.get().phyr()?;
        // SAFETY: by the type invariant it is of pinned memory.
        Ok(unsafe { PinnedPhyr::again(phyr) })
    }
}

/// Collects phyrs in slots and plans them on the way.
pub(super) struct RunCollector<'a> {
    slots: core::slice::IterMut<'a, Slot>,
    pub(super) planner: Planner,
    /// The last phyr: the only one may have no slot.
    pub(super) last: Option<PinnedPhyr>,
}

impl<'a> RunCollector<'a> {
    #[inline]
    pub(super) fn new(granule: Granule, limits: Limits, slots: &'a mut [Slot]) -> Self {
        Self {
            slots: slots.iter_mut(),
            planner: Planner::new(granule, limits),
            last: None,
        }
    }

    // With the planner into the loop: what is planned stays in registers.
    #[inline(always)]
    pub(super) fn push(&mut self, phyr: PinnedPhyr) -> Result {
        let join = self.planner.push(phyr.phyr())?;
        match self.slots.next() {
            Some(slot) => *slot = Slot::from_phyr(phyr.phyr(), join).ok_or(EOVERFLOW)?,
            // The only phyr needs none.
            None if self.last.is_none() => {}
            None => return Err(E2BIG),
        }
        self.last = Some(phyr);
        Ok(())
    }
}

/// Turns the phyrs in slots into the ranges that they have in a packed allocation, one a run.
///
/// # Invariants
///
/// `out` is not ahead of the slots that were placed: no slot is written before its phyr was read.
pub(super) struct Layout<'a> {
    granule: Granule,
    phyrs: Phyrs<'a>,
    /// The beginning of the allocation.
    base: DmaAddr,
    out: core::slice::Iter<'a, Cell<Slot>>,
    /// The slot of the last run's range.
    run: Option<&'a Cell<Slot>>,
    /// The beginning of the last run in the allocation, and its end so far.
    start: u64,
    end: u64,
}

impl<'a> Layout<'a> {
    #[inline]
    pub(super) fn new(granule: Granule, phyrs: Phyrs<'a>, base: DmaAddr) -> Self {
        Self {
            granule,
            phyrs,
            base,
            out: phyrs.0.iter(),
            run: None,
            start: 0,
            end: 0,
        }
    }

    /// Places the next phyr, which is in `slot`. Returns the granules to link for it.
    #[inline]
    pub(super) fn place(&mut self, slot: &Cell<Slot>) -> Result<PinnedPhyr> {
        let (begins, pinned) = (slot.get().begins(), self.phyrs.read(slot)?);
        let phyr = pinned.phyr();

        if begins {
            // INVARIANT: no more runs have begun than slots were placed, with this one.
            self.run = self.out.next();
            let offset = self.granule.offset(phyr.paddr().into_raw());
            self.start = self.granule.align_up(self.end).ok_or(EOVERFLOW)? + offset;
            self.end = self.start;
        }
        // CAST: a `usize` is at most 64 bits wide.
        self.end += phyr.len() as u64;
        if let Some(run) = self.run {
            // CAST: not longer than the allocation, whose length is a `usize`.
            let len = (self.end - self.start) as usize;
            run.set(Slot::range(self.base.advanced(self.start), len));
        }
        pinned.around(self.granule).ok_or(EOVERFLOW)
    }
}
