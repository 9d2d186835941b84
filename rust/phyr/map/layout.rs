// SPDX-License-Identifier: GPL-2.0

//! Slots while a mapping is made. `exec.rs` reads phyrs from them and writes ranges in their place.

use super::{
    plan::{
        PushPhyr,
        Runs, //
    },
    state::Slot, //
};
use crate::{
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
        bytes += slot.get().phyr().ok_or(EINVAL)?.len() as u64;
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
        let phyr = slot.get().phyr().ok_or(EINVAL)?;
        // SAFETY: by the type invariant it is of pinned memory.
        Ok(unsafe { PinnedPhyr::again(phyr) })
    }

    /// Reads the first phyr.
    #[inline]
    pub(super) fn first(self) -> Result<PinnedPhyr> {
        self.read(self.0.first().ok_or(EINVAL)?)
    }
}

/// Collects phyrs in slots and plans them on the way.
pub(super) struct RunCollector<'a, P> {
    room: usize,
    slots: core::slice::IterMut<'a, Slot>,
    planner: P,
}

impl<'a, P: PushPhyr> RunCollector<'a, P> {
    #[inline]
    pub(super) fn new(planner: P, slots: &'a mut [Slot]) -> Self {
        Self {
            room: slots.len(),
            slots: slots.iter_mut(),
            planner,
        }
    }

    // With the planner into the loop: what is planned stays in registers.
    #[inline(always)]
    pub(super) fn push(&mut self, phyr: PinnedPhyr) -> Result {
        let join = self.planner.push(phyr.phyr())?;
        *self.slots.next().ok_or(E2BIG)? = Slot::from_phyr(phyr.phyr(), join);
        Ok(())
    }

    /// Returns the number of phyrs, and their runs. What is in the slots counts only then.
    #[inline]
    pub(super) fn finish(self) -> Result<(usize, Runs)> {
        let runs = self.planner.runs()?;
        Ok((self.room - self.slots.len(), runs))
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
    out: core::slice::Iter<'a, Cell<Slot>>,
    /// The slot of the last run's range.
    run: &'a Cell<Slot>,
    /// The beginning of the last run for the device, and its length so far.
    start: u64,
    len: usize,
}

impl<'a> Layout<'a> {
    /// Lays out `phyrs`, which were planned, in an allocation.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there are none.
    #[inline]
    pub(super) fn new(granule: Granule, phyrs: Phyrs<'a>) -> Result<Self> {
        Ok(Self {
            granule,
            phyrs,
            out: phyrs.0.iter(),
            run: phyrs.0.first().ok_or(EINVAL)?,
            start: 0,
            len: 0,
        })
    }

    /// Places the next phyr, which is in `slot`, in the granules from `addr` on, which are after
    /// those of the phyr before. Returns the granules to link for it.
    #[inline(always)]
    pub(super) fn place(&mut self, slot: &Cell<Slot>, addr: DmaAddr) -> Result<PinnedPhyr> {
        let (begins, pinned) = (slot.get().begins(), self.phyrs.read(slot)?);
        let phyr = pinned.phyr();

        if begins {
            // INVARIANT: no more runs have begun than slots were placed, with this one.
            self.run = self.out.next().ok_or(EINVAL)?;
            self.start = addr.into_raw() + self.granule.offset(phyr.paddr().into_raw());
            self.len = 0;
        }
        self.len += phyr.len();
        self.run
            .set(Slot::range(DmaAddr::from_raw(self.start), self.len));
        pinned.around(self.granule).ok_or(EOVERFLOW)
    }
}
