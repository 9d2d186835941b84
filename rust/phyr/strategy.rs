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
        Plan, //
    },
    source::{
        Joined,
        Source, //
    },
    state::{
        Made,
        Slot,
        State, //
    },
    types::{
        DmaAddr,
        Granule,
        Phyr,
        PhysAddr, //
    }, //
};
use core::{
    cell::Cell,
    num::NonZeroUsize, //
};
use kernel::prelude::*;

impl Mapper<'_> {
    /// Maps what `source` yields, phyr by phyr: `dma_map_phys()` each.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_into`]; the device takes each phyr as one segment.
    pub(crate) unsafe fn map_each<S: Source>(
        &self,
        source: S,
        mode: Mode,
        slots: &mut [Slot],
    ) -> Result<State> {
        // The only phyr needs no slot: if there is none, it has the one of this function.
        let mut own = [Slot::EMPTY];
        let has_slots = !slots.is_empty();
        let slots = if has_slots { slots } else { &mut own };
        let slots = Cell::from_mut(slots).as_slice_of_cells();
        let mut done = Singles::new(self, slots, mode);
        for phyr in source {
            // SAFETY: by the requirements of this function.
            unsafe { done.map(phyr?) }?;
        }
        match (done.nr, slots.first()) {
            (0, _) | (_, None) => Err(EINVAL),
            (1, Some(only)) => {
                let (only, unmap) = (only.get(), self.needs_unmap());
                core::mem::forget(done);
                // SAFETY: just that is mapped, by `map_phys`, and nobody else unmaps it.
                Ok(unsafe { State::new(Made::Single, only, 1, mode, unmap) })
            }
            _ => Ok(done.close()),
        }
    }

    /// Maps what `source` yields in one IOVA range, as it comes: what should be one run of `len`
    /// bytes, in all: one phyr of that length is mapped by itself.
    ///
    /// Returns `None`, with nothing mapped, where it is something else, or there is no room for it.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_into`]; the device takes each phyr, and `len` bytes from where the
    /// first begins in its granule, as one segment.
    pub(crate) unsafe fn map_run<S: Source>(
        &self,
        source: S,
        len: NonZeroUsize,
        granule: Granule,
        mode: Mode,
    ) -> Result<Option<State>> {
        // There each link has a flush, if not many are made at once.
        if self.window().is_some() {
            return Ok(None);
        }
        let (mut range, mut end, raw) = (None::<IovaRange<'_>>, 0, mode.raw());
        for phyr in Joined::new(source) {
            let phyr = phyr?;
            let paddr = phyr.paddr();
            let range = match &mut range {
                Some(range) if granule.aligned(end | paddr.into_raw()) => range,
                None if phyr.len() == len.get() => {
                    // SAFETY: by the requirements of this function.
                    return unsafe { self.map_one(phyr, mode) }.map(Some);
                }
                None => match IovaRange::try_alloc(self, paddr, len.get(), mode) {
                    Some(new) => range.insert(new),
                    None => return Ok(None),
                },
                Some(_) => return Ok(None),
            };
            if phyr.len() > len.get() - range.linked() {
                return Ok(None);
            }
            end = phyr.end();
            // SAFETY: the memory is the caller's promise; there is room; the first phyr is the one
            // that the range was allocated for, and of the others it was just seen that they and
            // what is linked meet at granules. There is no window.
            unsafe { range.link_dma(paddr, phyr.len(), raw) }?;
        }
        match range {
            Some(mut range) if range.linked() == len.get() => {
                range.sync()?;
                Ok(Some(joined(range)))
            }
            _ => Ok(None),
        }
    }

    /// Maps the phyrs in `slots`, which are two or more, and leaves DMA ranges in them.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_into`]; `plan` is the plan of these phyrs.
    pub(crate) unsafe fn map_slots(
        &self,
        slots: &mut [Slot],
        granule: Granule,
        plan: Plan,
        mode: Mode,
    ) -> Result<State> {
        let slots = Cell::from_mut(slots).as_slice_of_cells();
        let made = match plan.packed {
            _ if plan.runs == 1 => {
                // SAFETY: by the requirements of this function; the plan says one run.
                unsafe { self.map_joined(slots, plan.bytes, mode) }
            }
            Some(packed) if self.packs() => {
                // SAFETY: by the requirements of this function; the plan is of these phyrs.
                unsafe { self.map_packed(granule, slots, plan.runs, packed, mode) }
            }
            _ => {
                // SAFETY: by the requirements of this function.
                return unsafe { self.map_runs(slots, mode) };
            }
        }?;
        if let Some(state) = made {
            return Ok(state);
        }
        // The phyrs are still in the slots: nothing was written.
        let mut done = Singles::new(self, slots, mode);
        for slot in slots {
            // SAFETY: by the requirements of this function, the slot holds a phyr to be mapped.
            unsafe { done.map(slot.get().phyr()?) }?;
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

        Ok(range.map(joined))
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

    /// One IOVA range for all runs. Returns `None` where there is no room for it; the slots are as
    /// before then, which they are not after an error.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_slots`]; `runs` and `packed` are what was planned for the phyrs;
    /// [`Mapper::packs`] holds.
    unsafe fn map_packed(
        &self,
        granule: Granule,
        slots: &[Cell<Slot>],
        runs: usize,
        packed: Packed,
        mode: Mode,
    ) -> Result<Option<State>> {
        let (start, len) = (PhysAddr::from_raw(0), usize::try_from(packed.len)?);
        let Some(mut range) = IovaRange::try_alloc(self, start, len, mode) else {
            return Ok(None);
        };
        let mut layout = Layout::new(granule, slots, range.addr());
        let whole = slots.iter().map(|slot| layout.place(slot));
        // SAFETY: the memory is the caller's promise, the rest of its granules comes with it as
        // `Mapper::packs` explains; the plan counted whole granules; all is aligned.
        unsafe { range.link_all(whole) }?;
        range.sync()?;

        let nr = u32::try_from(runs)?;
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
    unsafe fn map_runs(&self, slots: &[Cell<Slot>], mode: Mode) -> Result<State> {
        let mut done = Singles::new(self, slots, mode);
        let mut rest = slots;

        while let Some((nr, bytes)) = next_run(rest)? {
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
                unsafe { done.map(slot.get().phyr()?) }?;
            }
        }
        Ok(done.close())
    }
}

/// The state of a run that is linked whole.
#[inline]
fn joined(range: IovaRange<'_>) -> State {
    let mode = range.mode();
    let one = Slot::iova(range.close());
    // SAFETY: this range is linked with all of its bytes.
    unsafe { State::new(Made::Joined, one, 1, mode, true) }
}

/// Number of phyrs and bytes in the run with which `slots` begin.
fn next_run(slots: &[Cell<Slot>]) -> Result<Option<(usize, u64)>> {
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

/// Turns the phyrs in slots into the ranges that they have in a packed allocation, one a run.
///
/// # Invariants
///
/// `out` is not ahead of the slots that were placed: no slot is written before its phyr was read.
struct Layout<'a> {
    granule: Granule,
    /// Where the allocation begins.
    base: DmaAddr,
    out: core::slice::Iter<'a, Cell<Slot>>,
    /// The slot of the last run's range.
    run: Option<&'a Cell<Slot>>,
    /// Where the last run begins in the allocation, and where it ends so far.
    start: u64,
    end: u64,
}

impl<'a> Layout<'a> {
    #[inline]
    fn new(granule: Granule, slots: &'a [Cell<Slot>], base: DmaAddr) -> Self {
        Self {
            granule,
            base,
            out: slots.iter(),
            run: None,
            start: 0,
            end: 0,
        }
    }

    /// Places the next phyr, which is in `slot`. Returns the granules to link for it.
    #[inline]
    fn place(&mut self, slot: &Cell<Slot>) -> Result<Phyr> {
        let slot = slot.get();
        let phyr = slot.phyr()?;

        if slot.begins() {
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
        self.granule.around(phyr).ok_or(EOVERFLOW)
    }
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

    /// Maps `phyr`.
    ///
    /// # Safety
    ///
    /// Those of [`ops::map_phys`].
    #[inline]
    unsafe fn map(&mut self, phyr: Phyr) -> Result {
        let out = self.out.next().ok_or(E2BIG)?;
        // SAFETY: by the requirements of this function.
        let addr = unsafe { ops::map_phys(self.mapper, phyr.paddr(), phyr.len(), self.mode) };
        out.set(Slot::range(addr?, phyr.len()));
        // INVARIANT: the slot behind the last was just filled.
        self.nr += 1;
        Ok(())
    }

    /// Adds a range that is linked whole.
    fn add(&mut self, range: IovaRange<'_>) {
        // A range a phyr at the most, so there is always a slot.
        if let Some(out) = self.out.next() {
            out.set(Slot::iova(range.close()));
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
