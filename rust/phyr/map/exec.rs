// SPDX-License-Identifier: GPL-2.0

//! Carries out a strategy: one function each.
//!
//! Entry point: [`Target::map`]. A source that is known to be one run is linked as it comes. What
//! may have gaps is collected in slots and planned on the way; the functions that follow work in
//! place: phyrs go in, DMA ranges come out, and no slot is written before its phyr was read.
//!
//! Whatever fails on the way, what was mapped until then is unmapped by the Drop of the value that
//! holds it ([`IovaRange`] or [`MappedSegments`]).

use super::{
    choose::{
        choose,
        Reach,
        Shape,
        Strategy, //
    },
    plan::{
        Packed,
        PlanError,
        Planner, //
    },
    range::IovaRange,
    state::{
        Slot,
        State, //
    }, //
};
use crate::{
    attrs::MapAttrs,
    limits::Limits,
    mapper::Mapper,
    pinned::{
        Pinned,
        PinnedPhyr,
        PinnedPhyrs, //
    },
    source::Source,
    space::IovaSpace,
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

impl From<PlanError> for Error {
    fn from(e: PlanError) -> Self {
        match e {
            PlanError::Empty => EINVAL,
            PlanError::Overflow => EOVERFLOW,
        }
    }
}

/// The device, the address space, and the attributes for which memory is mapped.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a, A> {
    pub(crate) mapper: &'a Mapper<'a>,
    pub(crate) space: A,
    pub(crate) attrs: MapAttrs,
}

/// Facts that one look at all phyrs of a source has found.
pub(crate) struct Scan {
    /// Number of phyrs.
    pub(crate) phyrs: usize,
    /// The length of all, if they are one run.
    pub(crate) run: Option<NonZeroUsize>,
}

/// Looks at all phyrs of a source, before anything is mapped or set aside.
///
/// # Errors
///
/// - `EMSGSIZE`: one is over a limit.
/// - `EOVERFLOW`: the length of all overflows.
/// - What the source fails with.
#[inline]
pub(crate) fn scan(
    phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
    granule: Granule,
    limits: &Limits,
) -> Result<Scan> {
    let (mut nr, mut len, mut end, mut joins, mut offset) = (0, 0usize, 0, true, 0);
    for phyr in phyrs {
        let phyr = phyr?.phyr();
        check(limits, phyr)?;
        let start = phyr.paddr().into_raw();
        if nr == 0 {
            offset = granule.offset(start);
        } else {
            joins &= granule.joins(end, start);
        }
        nr += 1;
        end = phyr.end();
        len = len.checked_add(phyr.len()).ok_or(EOVERFLOW)?;
    }
    // CAST: a `usize` is at most 64 bits wide.
    let is_run = joins && len as u64 <= limits.room(offset);
    Ok(Scan {
        phyrs: nr,
        run: NonZeroUsize::new(len).filter(|_| is_run),
    })
}

/// Checks that `phyr` is a segment within `limits`.
///
/// # Errors
///
/// - `EMSGSIZE`: it is not.
#[inline]
pub(crate) fn check(limits: &Limits, phyr: Phyr) -> Result {
    // CAST: a `usize` is at most 64 bits wide.
    if phyr.len() as u64 > limits.room(phyr.paddr().into_raw()) {
        return Err(EMSGSIZE);
    }
    Ok(())
}

impl<'a, A: IovaSpace + Copy> Target<'a, A> {
    /// Maps all of `memory`. `slots` is asked for the slots where there are several phyrs.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::map_into`]; nothing is left mapped.
    #[inline]
    pub(crate) fn map<'s, S: Source>(
        self,
        memory: &Pinned<S>,
        slots: impl FnOnce() -> &'s mut [Slot],
    ) -> Result<State> {
        match memory.only() {
            Some(only) => {
                let only = only?;
                check(self.mapper.limits(), only.phyr())?;
                self.single(only)
            }
            None => self.several(memory, slots()),
        }
    }

    /// Maps a source of several pieces. A function of its own, so that the short path has few
    /// registers to save.
    #[inline(never)]
    fn several<S: Source>(self, memory: &Pinned<S>, slots: &mut [Slot]) -> Result<State> {
        let (granule, limits) = (self.mapper.granule(), self.mapper.limits());
        if let Some(pieces) = memory.pieces(limits) {
            let run = granule.and_then(|granule| memory.source().run_len(granule));
            return self.without_limits(pieces, run, slots);
        }
        let phyrs = memory.phyrs();
        let run = match granule {
            Some(granule) => scan(phyrs.clone(), granule, limits)?.run,
            None => None,
        };
        self.scattered(phyrs, run, slots, self.mapper.reach())
    }

    /// Maps pieces that adjoin or not, where no limit of the device is in the way. `run` is the
    /// length of all if they should be one run.
    #[inline]
    fn without_limits<I>(
        self,
        pieces: PinnedPhyrs<I>,
        run: Option<NonZeroUsize>,
        slots: &mut [Slot],
    ) -> Result<State>
    where
        I: Iterator<Item = Result<Phyr>> + Clone,
    {
        let reach = self.mapper.reach();
        match (choose(reach, Shape::of(run)), run) {
            (Strategy::Each, _) => return self.each(pieces.joined(), slots),
            (Strategy::Joined, Some(len)) => {
                if let Some(state) = self.run(pieces.clone().joined(), len)? {
                    return Ok(state);
                }
            }
            _ => {}
        }
        self.joined_gaps(pieces, slots, reach)
    }

    /// [`Target::planned`] of pieces, which may adjoin, without limits.
    // Apart, so that neither loop of its caller and this takes registers from the other.
    #[inline(never)]
    fn joined_gaps<I>(
        self,
        pieces: PinnedPhyrs<I>,
        slots: &mut [Slot],
        reach: Reach,
    ) -> Result<State>
    where
        I: Iterator<Item = Result<Phyr>> + Clone,
    {
        self.planned(pieces.joined(), slots, reach, &Limits::NONE)
    }

    /// Maps several phyrs within the limits of the device. `run` is the length of all if they are
    /// one run.
    #[inline]
    pub(crate) fn scattered(
        self,
        phyrs: impl Iterator<Item = Result<PinnedPhyr>> + Clone,
        run: Option<NonZeroUsize>,
        slots: &mut [Slot],
        reach: Reach,
    ) -> Result<State> {
        let limits = self.mapper.limits();
        match (choose(reach, Shape::of(run)), run) {
            (Strategy::Each, _) => {
                let within = phyrs.map(|phyr| {
                    let phyr = phyr?;
                    check(limits, phyr.phyr())?;
                    Ok(phyr)
                });
                return self.each(within, slots);
            }
            (Strategy::Joined, Some(len)) => {
                if let Some(state) = self.run(phyrs.clone(), len)? {
                    return Ok(state);
                }
            }
            _ => {}
        }
        self.planned(phyrs, slots, reach, limits)
    }

    /// Collects `phyrs` in the slots, plans them, and maps them as is chosen then.
    #[inline]
    fn planned(
        self,
        phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
        slots: &mut [Slot],
        reach: Reach,
        limits: &Limits,
    ) -> Result<State> {
        let granule = self.mapper.granule().ok_or(EINVAL)?;
        let mut collector = RunCollector::new(granule, *limits, slots);
        for phyr in phyrs {
            let phyr = phyr?;
            check(limits, phyr.phyr())?;
            collector.push(phyr)?;
        }
        let (plan, last) = (collector.planner.plan()?, collector.last);
        let shape = match (plan.phyrs, plan.runs) {
            (1, _) => Shape::One,
            (_, 1) => Shape::Run,
            _ => Shape::Gaps {
                fit: plan.packed.is_some(),
            },
        };
        let strategy = choose(reach, shape);
        if let (Strategy::Single, Some(only)) = (strategy, last) {
            return self.single(only);
        }
        // INVARIANT: the collector has just written the phyrs to these, which are pinned.
        let phyrs =
            Phyrs(Cell::from_mut(slots.get_mut(..plan.phyrs).ok_or(E2BIG)?).as_slice_of_cells());
        let state = match (strategy, plan.packed) {
            (Strategy::Joined, _) => self.joined_slots(phyrs, plan.bytes)?.map(joined),
            (Strategy::Packed, Some(packed)) => self.packed(granule, phyrs, plan.runs, packed)?,
            (Strategy::Runs, _) => return self.runs(phyrs),
            _ => None,
        };
        match (state, choose(Reach::NoRoom, shape)) {
            (Some(state), _) => Ok(state),
            // The phyrs are still in the slots: nothing was written.
            (None, _) => self.each_slot(phyrs),
        }
    }

    /// [`Strategy::Single`]
    #[inline]
    pub(crate) fn single(self, phyr: PinnedPhyr) -> Result<State> {
        let addr = self.space.map_phys(phyr, self.attrs)?;
        let range = Slot::range(addr, phyr.phyr().len());
        let unmap = self.mapper.needs_unmap();

        // SAFETY: just that is mapped.
        Ok(unsafe { State::new(Strategy::Single, range, 1, self.attrs, unmap) })
    }

    /// [`Strategy::Each`], of phyrs as they come.
    #[inline]
    fn each(
        self,
        phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
        slots: &mut [Slot],
    ) -> Result<State> {
        // The only phyr needs no slot: if there is none, it has the one of this function.
        let mut own = [Slot::EMPTY];
        let has_slots = !slots.is_empty();
        let slots = if has_slots { slots } else { &mut own };
        let slots = Cell::from_mut(slots).as_slice_of_cells();
        let mut done = MappedSegments::new(self, slots);
        for phyr in phyrs {
            done.map(phyr?)?;
        }
        match (done.nr, slots.first()) {
            (0, _) | (_, None) => Err(EINVAL),
            (1, Some(only)) => {
                let (only, unmap) = (only.get(), self.mapper.needs_unmap());
                core::mem::forget(done);
                // SAFETY: just that is mapped, by `map_phys`, and nobody else unmaps it.
                Ok(unsafe { State::new(Strategy::Single, only, 1, self.attrs, unmap) })
            }
            _ => Ok(done.close()),
        }
    }

    /// [`Strategy::Each`], of phyrs in slots.
    fn each_slot(self, phyrs: Phyrs<'_>) -> Result<State> {
        let mut done = MappedSegments::new(self, phyrs.0);
        for slot in phyrs.0 {
            done.map(phyrs.read(slot)?)?;
        }
        Ok(done.close())
    }

    /// [`Strategy::Joined`], of phyrs as they come, which should be `len` bytes in all; one phyr of
    /// that length is mapped by itself.
    ///
    /// Returns `None`, with nothing mapped, where they are something else, or there is no room.
    #[inline]
    pub(crate) fn run(
        self,
        phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
        len: NonZeroUsize,
    ) -> Result<Option<State>> {
        // There each link has a flush, if not many are made at once.
        if self.space.links_lists() {
            return Ok(None);
        }
        let Some(granule) = self.mapper.granule() else {
            return Ok(None);
        };
        let mut range = None::<IovaRange<A>>;
        for phyr in phyrs {
            let phyr = phyr?;
            let range = match &mut range {
                Some(range) => range,
                None if phyr.phyr().len() == len.get() => return self.single(phyr).map(Some),
                None => {
                    let start = phyr.phyr().paddr();
                    match IovaRange::alloc(self.space, granule, start, len.get(), self.attrs) {
                        Some(new) => range.insert(new),
                        None => return Ok(None),
                    }
                }
            };
            if !range.takes(phyr.phyr()) {
                return Ok(None);
            }
            range.link(phyr)?;
        }
        match range {
            Some(mut range) if range.linked() == len.get() => {
                range.sync()?;
                Ok(Some(joined(range)))
            }
            _ => Ok(None),
        }
    }

    /// [`Strategy::Joined`], of phyrs in slots. Returns `None` where there is no room for them.
    #[inline]
    fn joined_slots(self, run: Phyrs<'_>, bytes: u64) -> Result<Option<IovaRange<A>>> {
        let granule = self.mapper.granule().ok_or(EINVAL)?;
        let first = run.0.first().ok_or(EINVAL)?.get().phyr()?.paddr();
        let bytes = usize::try_from(bytes)?;
        let range = IovaRange::alloc(self.space, granule, first, bytes, self.attrs);
        let Some(mut range) = range else {
            return Ok(None);
        };
        range.link_all(run.0.iter().map(|slot| run.read(slot)))?;
        range.sync()?;
        Ok(Some(range))
    }

    /// [`Strategy::Packed`]. Returns `None` where there is no room for all runs; the slots are as
    /// before then, which they are not after an error.
    #[inline]
    fn packed(
        self,
        granule: Granule,
        phyrs: Phyrs<'_>,
        runs: usize,
        packed: Packed,
    ) -> Result<Option<State>> {
        let (start, len) = (PhysAddr::from_raw(0), usize::try_from(packed.len)?);
        let range = IovaRange::alloc(self.space, granule, start, len, self.attrs);
        let Some(mut range) = range else {
            return Ok(None);
        };
        let mut layout = Layout::new(granule, phyrs, range.addr());
        range.link_all(phyrs.0.iter().map(|slot| layout.place(slot)))?;
        range.sync()?;

        let nr = u32::try_from(runs)?;
        let one = Slot::iova(range.close());
        // SAFETY: this range is linked with all of its bytes, and `nr` ranges in it are in the
        // slots.
        let state = unsafe { State::new(Strategy::Packed, one, nr, self.attrs, true) };
        Ok(Some(state))
    }

    /// [`Strategy::Runs`]
    #[inline(never)]
    fn runs(self, phyrs: Phyrs<'_>) -> Result<State> {
        let mut done = MappedSegments::new(self, phyrs.0);
        let mut rest = phyrs.0;

        while let Some((nr, bytes)) = next_run(rest)? {
            let (run, behind) = rest.split_at_checked(nr).ok_or(EINVAL)?;
            rest = behind;

            if nr > 1 {
                // INVARIANT: a part of the slots, of which none was written yet.
                if let Some(range) = self.joined_slots(Phyrs(run), bytes)? {
                    done.add(range);
                    continue;
                }
            }
            for slot in run {
                done.map(phyrs.read(slot)?)?;
            }
        }
        Ok(done.close())
    }
}

impl Shape {
    /// Returns the shape of several phyrs that are one run, if `run` is known to be its length.
    #[inline(always)]
    fn of(run: Option<NonZeroUsize>) -> Self {
        match run {
            Some(_) => Self::Run,
            None => Self::Gaps { fit: true },
        }
    }
}

/// Returns the state of a run that is linked whole.
#[inline]
fn joined<A: IovaSpace>(range: IovaRange<A>) -> State {
    let attrs = range.attrs();
    let one = Slot::iova(range.close());
    // SAFETY: this range is linked with all of its bytes.
    unsafe { State::new(Strategy::Joined, one, 1, attrs, true) }
}

/// Returns the number of phyrs, and of bytes, in the run with which `slots` begin.
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

/// Slots that hold phyrs.
///
/// # Invariants
///
/// Each slot holds a phyr of pinned memory until it is written, and is read before that.
#[derive(Clone, Copy)]
struct Phyrs<'a>(&'a [Cell<Slot>]);

impl Phyrs<'_> {
    /// Reads the phyr in `slot`, which is one of these.
    #[inline]
    fn read(self, slot: &Cell<Slot>) -> Result<PinnedPhyr> {
        let phyr = slot.get().phyr()?;
        // SAFETY: by the type invariant it is of pinned memory.
        Ok(unsafe { PinnedPhyr::again(phyr) })
    }
}

/// Collects phyrs in slots and plans them on the way.
struct RunCollector<'a> {
    slots: core::slice::IterMut<'a, Slot>,
    planner: Planner,
    /// The last phyr: the only one may have no slot.
    last: Option<PinnedPhyr>,
}

impl<'a> RunCollector<'a> {
    #[inline]
    fn new(granule: Granule, limits: Limits, slots: &'a mut [Slot]) -> Self {
        Self {
            slots: slots.iter_mut(),
            planner: Planner::new(granule, limits),
            last: None,
        }
    }

    // With the planner into the loop: what is planned stays in registers.
    #[inline(always)]
    fn push(&mut self, phyr: PinnedPhyr) -> Result {
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
struct Layout<'a> {
    granule: Granule,
    phyrs: Phyrs<'a>,
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
    fn new(granule: Granule, phyrs: Phyrs<'a>, base: DmaAddr) -> Self {
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
    fn place(&mut self, slot: &Cell<Slot>) -> Result<PinnedPhyr> {
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

/// Segments that are mapped one by one; unmaps them when dropped.
///
/// # Invariants
///
/// The first `nr` slots hold ranges that are mapped for `target`.
struct MappedSegments<'a, A: IovaSpace + Copy> {
    target: Target<'a, A>,
    slots: &'a [Cell<Slot>],
    out: core::slice::Iter<'a, Cell<Slot>>,
    nr: u32,
}

impl<'a, A: IovaSpace + Copy> MappedSegments<'a, A> {
    #[inline]
    fn new(target: Target<'a, A>, slots: &'a [Cell<Slot>]) -> Self {
        // INVARIANT: there are none yet.
        Self {
            target,
            slots,
            out: slots.iter(),
            nr: 0,
        }
    }

    /// Maps `phyr`.
    #[inline]
    fn map(&mut self, phyr: PinnedPhyr) -> Result {
        let out = self.out.next().ok_or(E2BIG)?;
        let addr = self.target.space.map_phys(phyr, self.target.attrs)?;
        out.set(Slot::range(addr, phyr.phyr().len()));
        // INVARIANT: the slot behind the last was just filled.
        self.nr += 1;
        Ok(())
    }

    /// Adds a range that is linked whole.
    fn add(&mut self, range: IovaRange<A>) {
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
        let Target { mapper, attrs, .. } = self.target;
        let (nr, unmap) = (self.nr, mapper.needs_unmap());

        core::mem::forget(self);
        // SAFETY: by the type invariant; nobody unmaps these ranges but the owner of the state.
        unsafe { State::new(Strategy::Each, Slot::EMPTY, nr, attrs, unmap) }
    }
}

impl<A: IovaSpace + Copy> Drop for MappedSegments<'_, A> {
    fn drop(&mut self) {
        // CAST: a `usize` has at least 32 bits.
        for slot in self.slots.iter().take(self.nr as usize) {
            // SAFETY: by the type invariant it is mapped, in this space; the device never learned
            // of it.
            let mapped = unsafe { slot.get().reopen(self.target.attrs) };
            mapped.end(&self.target.space);
        }
    }
}
