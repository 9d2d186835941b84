// SPDX-License-Identifier: GPL-2.0

//! How several phyrs are mapped: the strategies of [`scatter`](super::scatter), one function each.
//!
//! All work in place on the slots: phyrs go in, DMA ranges come out, and no slot is written before
//! its phyr has been read.

use super::{
    mapper::Mapper,
    ops::{
        self,
        IovaRange,
        Mode, //
    },
    plan::{
        Packed,
        Place,
        Plan,
        Planner, //
    },
    state::{
        Made,
        Slot,
        State, //
    },
    types::{
        DmaAddr,
        Granule,
        PhysAddr, //
    }, //
};
use core::cell::Cell;
use kernel::prelude::*;

impl Mapper<'_> {
    /// Maps the phyrs in `slots`, which are two or more, and leaves DMA ranges in them.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_into`]; `plan` is the plan of these phyrs.
    pub(crate) unsafe fn map_slots(
        &self,
        slots: &mut [Slot],
        plan: Option<Plan>,
        mode: Mode,
    ) -> Result<State> {
        let slots = Cell::from_mut(slots).as_slice_of_cells();
        let (Some(granule), Some(plan)) = (self.granule(), plan) else {
            // SAFETY: by the requirements of this function.
            return unsafe { self.map_each(slots, mode) };
        };

        let joined = match plan.packed {
            _ if plan.runs == 1 => {
                // SAFETY: by the requirements of this function; the plan says one run.
                unsafe { self.map_joined(slots, plan.bytes, mode) }
            }
            Some(packed) if self.packs() => {
                // SAFETY: by the requirements of this function; the plan is of these phyrs.
                unsafe { self.map_packed(granule, slots, packed, mode) }
            }
            _ => {
                // SAFETY: by the requirements of this function.
                return unsafe { self.map_runs(granule, slots, mode) };
            }
        }?;
        match joined {
            Some(state) => Ok(state),
            // The phyrs are still in the slots: nothing was written.
            // SAFETY: as above.
            None => unsafe { self.map_each(slots, mode) },
        }
    }

    /// One `dma_map_phys()` a phyr.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_slots`].
    unsafe fn map_each(&self, slots: &[Cell<Slot>], mode: Mode) -> Result<State> {
        let mut done = Singles::new(self, slots, mode);
        for slot in slots {
            // SAFETY: by the requirements of this function, the slot holds a phyr to be mapped.
            unsafe { done.map(slot.get()) }?;
        }
        Ok(done.close())
    }

    /// One IOVA range for one run. Returns `None` where there is no room for it.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_slots`]; the phyrs are one run of `bytes` bytes.
    unsafe fn map_joined(
        &self,
        slots: &[Cell<Slot>],
        bytes: u64,
        mode: Mode,
    ) -> Result<Option<State>> {
        // SAFETY: by the requirements of this function.
        let range = unsafe { self.link_run(slots, bytes, mode) }?;

        Ok(range.map(|range| {
            let one = Slot::iova(range.close());
            // SAFETY: this range is linked with all of its bytes.
            unsafe { State::new(Made::Joined, one, 1, mode, true) }
        }))
    }

    /// Links the phyrs of one run in a range of their own.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_joined`].
    #[inline]
    unsafe fn link_run(
        &self,
        run: &[Cell<Slot>],
        bytes: u64,
        mode: Mode,
    ) -> Result<Option<IovaRange<'_>>> {
        let first = run.first().ok_or(EINVAL)?.get().phyr()?.paddr();
        let bytes = usize::try_from(bytes)?;
        let Some(mut range) = IovaRange::try_alloc(self, first, bytes, mode) else {
            return Ok(None);
        };
        let phyrs = run.iter().map(|slot| Ok(slot.get().phyr()?));
        // SAFETY: the memory is the caller's promise; the range is for just these phyrs, and the
        // phyrs of a run join at granules.
        unsafe { range.link_all(phyrs) }?;
        range.sync()?;
        Ok(Some(range))
    }

    /// One IOVA range for all runs. Returns `None` where there is no room for it.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_slots`]; `packed` is the allocation that was planned for the phyrs;
    /// [`Mapper::packs`] holds.
    unsafe fn map_packed(
        &self,
        granule: Granule,
        slots: &[Cell<Slot>],
        packed: Packed,
        mode: Mode,
    ) -> Result<Option<State>> {
        let (start, len) = (PhysAddr::from_raw(0), usize::try_from(packed.len)?);
        let Some(mut range) = IovaRange::try_alloc(self, start, len, mode) else {
            return Ok(None);
        };
        let whole = slots
            .iter()
            .map(|slot| granule.around(slot.get().phyr()?).ok_or(EOVERFLOW));
        // SAFETY: the memory is the caller's promise, the rest of its granules comes with it as
        // `Mapper::packs` explains; the plan counted whole granules; all is aligned.
        unsafe { range.link_all(whole) }?;
        range.sync()?;

        let nr = write_packed(Planner::new(granule, *self.limits()), slots, range.addr())?;
        let one = Slot::iova(range.close());
        // SAFETY: this range is linked with all of its bytes, and `nr` ranges in it are in `slots`.
        let state = unsafe { State::new(Made::Packed, one, nr, mode, true) };
        Ok(Some(state))
    }

    /// An IOVA range a run, `dma_map_phys()` for a run of one phyr.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_slots`].
    unsafe fn map_runs(&self, granule: Granule, slots: &[Cell<Slot>], mode: Mode) -> Result<State> {
        let mut done = Singles::new(self, slots, mode);
        let mut rest = slots;

        while let Some((nr, bytes)) = self.next_run(granule, rest)? {
            let (run, behind) = rest.split_at_checked(nr).ok_or(EINVAL)?;
            rest = behind;

            if nr > 1 {
                // SAFETY: by the requirements of this function; `next_run` found a run.
                if let Some(range) = unsafe { self.link_run(run, bytes, mode) }? {
                    done.add(range);
                    continue;
                }
            }
            for slot in run {
                // SAFETY: by the requirements of this function.
                unsafe { done.map(slot.get()) }?;
            }
        }
        Ok(done.close())
    }

    /// Number of phyrs and bytes in the run with which `slots` begin.
    fn next_run(&self, granule: Granule, slots: &[Cell<Slot>]) -> Result<Option<(usize, u64)>> {
        let mut planner = Planner::new(granule, *self.limits());
        let mut bytes = 0;

        for (nr, slot) in slots.iter().enumerate() {
            let phyr = slot.get().phyr()?;
            if planner.push(phyr)? == Place::Begins && nr != 0 {
                return Ok(Some((nr, bytes)));
            }
            // CAST: a `usize` is at most 64 bits wide.
            bytes += phyr.len() as u64;
        }
        Ok((!slots.is_empty()).then_some((slots.len(), bytes)))
    }
}

/// Turns the phyrs in `slots` into the ranges that they have in a packed allocation at `base`, one
/// a run, and returns how many these are.
fn write_packed(mut planner: Planner, slots: &[Cell<Slot>], base: DmaAddr) -> Result<u32> {
    let mut out = slots.iter();
    let mut run = None;
    let mut nr = 0;

    for slot in slots {
        if planner.push(slot.get().phyr()?)? == Place::Begins {
            run = out.next();
            nr += 1;
        }
        // No slot is written before its phyr has been read: a run has a phyr at the least.
        if let Some(run) = run {
            let (start, len) = planner.last_run();
            // CAST: not longer than the allocation, whose length is a `usize`.
            run.set(Slot::range(base.advanced(start), len as usize));
        }
    }
    Ok(nr)
}

/// Ranges that are mapped one by one; unmaps them when dropped.
///
/// # Invariants
///
/// The first `nr` slots hold ranges that are mapped for `mode`.
struct Singles<'a> {
    mapper: &'a Mapper<'a>,
    slots: &'a [Cell<Slot>],
    out: core::slice::Iter<'a, Cell<Slot>>,
    nr: u32,
    mode: Mode,
}

impl<'a> Singles<'a> {
    #[inline]
    fn new(mapper: &'a Mapper<'a>, slots: &'a [Cell<Slot>], mode: Mode) -> Self {
        // INVARIANT: there are none yet.
        Self {
            mapper,
            slots,
            out: slots.iter(),
            nr: 0,
            mode,
        }
    }

    /// Maps the phyr in `slot`.
    ///
    /// # Safety
    ///
    /// Those of [`ops::map_phys`].
    #[inline]
    unsafe fn map(&mut self, slot: Slot) -> Result {
        let phyr = slot.phyr()?;

        // SAFETY: by the requirements of this function.
        let addr = unsafe { ops::map_phys(self.mapper, phyr.paddr(), phyr.len(), self.mode) };
        self.put(Slot::range(addr.ok_or(ENOMEM)?, phyr.len()));
        Ok(())
    }

    /// Adds a range that is linked whole.
    fn add(&mut self, range: IovaRange<'_>) {
        self.put(Slot::iova(range.close()));
    }

    #[inline]
    fn put(&mut self, range: Slot) {
        // A range a phyr at the most, so there is always a slot.
        if let Some(out) = self.out.next() {
            out.set(range);
            // INVARIANT: the slot behind the last was just filled.
            self.nr += 1;
        }
    }

    /// Hands the ranges over to a state.
    #[inline]
    fn close(self) -> State {
        let unmap = self.mapper.needs_unmap();
        let (nr, mode) = (self.nr, self.mode);

        core::mem::forget(self);
        // SAFETY: by the type invariant; nobody unmaps these ranges but the owner of the state.
        unsafe { State::new(Made::Each, Slot::EMPTY, nr, mode, unmap) }
    }
}

impl Drop for Singles<'_> {
    fn drop(&mut self) {
        // CAST: a `usize` has at least 32 bits.
        for slot in self.slots.iter().take(self.nr as usize) {
            // SAFETY: by the type invariant; the device never learned of the range.
            unsafe { self.mapper.unmap_slot(slot.get(), self.mode) };
        }
    }
}
