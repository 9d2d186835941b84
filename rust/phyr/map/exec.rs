// SPDX-License-Identifier: GPL-2.0

//! Carries out a strategy: one function each.
//!
//! Entry points: [`Target::single`] and [`Target::several`]. A source that is known to be one run
//! is linked as it comes. What may have gaps is collected in slots and planned on the way; the
//! functions that follow work in place: phyrs go in, DMA ranges come out, and no slot is written
//! before its phyr was read.
//!
//! Each writes the state of what it has mapped in its place, as the last step. Whatever fails on
//! the way, what was mapped until then is unmapped by the Drop of the value that holds it
//! ([`IovaRange`] or [`MappedSegments`]), and the state is as before.

use super::{
    choose::{
        choose,
        Reach,
        Shape,
        Strategy, //
    },
    layout::{
        next_run,
        Phyrs, //
    },
    plan::{
        Packed,
        Plan,
        PlanError,
        Planner,
        PushPhyr,
        UnlimitedPlanner, //
    },
    range::IovaRange,
    segments::MappedSegments,
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

/// Checks that `phyr` is a segment within `limits`.
///
/// # Errors
///
/// - `EMSGSIZE`: it is not.
#[inline]
pub(super) fn check(limits: &Limits, phyr: Phyr) -> Result {
    // CAST: a `usize` is at most 64 bits wide.
    if limits.allow_range(phyr.paddr().into_raw(), phyr.len() as u64) {
        return Ok(());
    }
    Err(EMSGSIZE)
}

/// Yields `phyrs` that are within `limits`, and `EMSGSIZE` for those that are not.
#[inline]
fn within(
    phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
    limits: &Limits,
) -> impl Iterator<Item = Result<PinnedPhyr>> {
    let limits = *limits;
    phyrs.map(move |phyr| {
        let phyr = phyr?;
        check(&limits, phyr.phyr())?;
        Ok(phyr)
    })
}

/// Collects `phyrs` in the slots and plans them with a planner that `begin` makes.
// Apart, with the planner made here: what is planned stays in registers.
#[inline(never)]
fn collect<P: PushPhyr>(
    phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
    begin: impl FnOnce() -> Option<P>,
    slots: &mut [Slot],
) -> Result<Plan> {
    let mut planner = begin().ok_or(EINVAL)?;
    let mut slots = slots.iter_mut();
    for phyr in phyrs {
        let phyr = phyr?.phyr();
        let join = planner.push(phyr)?;
        *slots.next().ok_or(E2BIG)? = Slot::from_phyr(phyr, join);
    }
    Ok(planner.plan()?)
}

impl<'a, A: IovaSpace + Copy> Target<'a, A> {
    /// Plans `phyrs`, which must be within the limits of the device.
    pub(super) fn plan(self, phyrs: impl Iterator<Item = Result<PinnedPhyr>>) -> Result<Plan> {
        let limits = self.mapper.limits();
        let granule = self.mapper.granule().unwrap_or(Granule::ONE);
        let mut planner = Planner::new(granule, *limits);
        for phyr in within(phyrs, limits) {
            planner.push(phyr?.phyr())?;
        }
        Ok(planner.plan()?)
    }

    /// Maps a source of several pieces.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::map_into`]; nothing is left mapped.
    #[inline]
    pub(super) fn several<'s, S: Source>(
        self,
        memory: &Pinned<S>,
        slots: impl FnOnce() -> Result<&'s mut [Slot]>,
        state: &mut State,
    ) -> Result {
        let (granule, limits) = (self.mapper.granule(), self.mapper.limits());
        if let Some(pieces) = memory.pieces(limits) {
            let run = granule.and_then(|granule| memory.source().run_len(granule));
            return self.without_limits(pieces, run, slots, state);
        }
        self.scattered(memory.phyrs(), slots, self.mapper.reach(), state)
    }

    /// Maps pieces that adjoin or not, where no limit of the device is in the way. `run` is the
    /// length of all if they should be one run.
    #[inline]
    fn without_limits<'s, I>(
        self,
        pieces: PinnedPhyrs<I>,
        run: Option<NonZeroUsize>,
        slots: impl FnOnce() -> Result<&'s mut [Slot]>,
        state: &mut State,
    ) -> Result
    where
        I: Iterator<Item = Result<Phyr>> + Clone,
    {
        let reach = self.mapper.reach();
        match (choose(reach, Shape::of(run)), run) {
            (Strategy::Each, _) => return self.each(pieces.joined(), slots()?, state),
            (Strategy::Joined, Some(len)) => {
                if self.run(pieces.clone().joined(), len, state)? {
                    return Ok(());
                }
            }
            _ => {}
        }
        self.joined_gaps(pieces, slots()?, reach, state)
    }

    /// Plans and maps pieces, which may adjoin, without limits: see [`Target::planned`].
    // Apart, so that neither loop of its caller and this takes registers from the other.
    #[inline(never)]
    fn joined_gaps<I>(
        self,
        pieces: PinnedPhyrs<I>,
        slots: &mut [Slot],
        reach: Reach,
        state: &mut State,
    ) -> Result
    where
        I: Iterator<Item = Result<Phyr>> + Clone,
    {
        self.planned(pieces.joined(), slots, reach, &Limits::NONE, state)
    }

    /// Maps several phyrs within the limits of the device.
    #[inline]
    pub(crate) fn scattered<'s>(
        self,
        phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
        slots: impl FnOnce() -> Result<&'s mut [Slot]>,
        reach: Reach,
        state: &mut State,
    ) -> Result {
        let limits = self.mapper.limits();
        match choose(reach, Shape::of(None)) {
            Strategy::Each => self.each(within(phyrs, limits), slots()?, state),
            _ => self.planned(phyrs, slots()?, reach, limits, state),
        }
    }

    /// Collects `phyrs` in the slots, plans them, and maps them as is chosen then.
    #[inline]
    fn planned(
        self,
        phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
        slots: &mut [Slot],
        reach: Reach,
        limits: &Limits,
        state: &mut State,
    ) -> Result {
        let granule = self.mapper.granule().ok_or(EINVAL)?;
        // The only phyr needs no slot: if there is none, it has the one of this function.
        let mut own = [Slot::EMPTY];
        let slots = if slots.is_empty() { &mut own } else { slots };
        let plan = if UnlimitedPlanner::new(granule, limits).is_some() {
            let begin = || UnlimitedPlanner::new(granule, &Limits::NONE);
            collect(phyrs, begin, slots)?
        } else {
            let begin = || Some(Planner::new(granule, *limits));
            collect(within(phyrs, limits), begin, slots)?
        };
        let shape = match (plan.phyrs, plan.runs) {
            (1, _) => Shape::One,
            (_, 1) => Shape::Run,
            _ => Shape::Gaps {
                fit: plan.packed.is_some(),
            },
        };
        // INVARIANT: the phyrs, which are pinned, were just written to these.
        let slots = slots.get_mut(..plan.phyrs).ok_or(E2BIG)?;
        let phyrs = Phyrs(Cell::from_mut(slots).as_slice_of_cells());
        match (choose(reach, shape), plan.packed) {
            (Strategy::Single, _) => {
                *state = self.single(phyrs.first()?)?;
                return Ok(());
            }
            (Strategy::Joined, _) => {
                if let Some(range) = self.joined_slots(granule, phyrs, plan.bytes)? {
                    *state = joined(range);
                    return Ok(());
                }
            }
            (Strategy::Packed, Some(packed)) => {
                if self.packed(granule, phyrs, plan.runs, packed, state)? {
                    return Ok(());
                }
            }
            (Strategy::Runs, _) => return self.runs(granule, phyrs, state),
            _ => {}
        }
        match choose(Reach::NoSpace, shape) {
            // The phyrs are still in the slots: nothing was written.
            Strategy::Each => self.each_slot(phyrs, state),
            _ => Err(EINVAL),
        }
    }

    /// Maps by [`Strategy::Single`].
    #[inline]
    pub(crate) fn single(self, phyr: PinnedPhyr) -> Result<State> {
        let addr = self.space.map_phys(phyr, self.attrs)?;
        let range = Slot::range(addr, phyr.phyr().len());
        let unmap = self.mapper.needs_unmap();

        // SAFETY: just that is mapped.
        Ok(unsafe { State::new(Strategy::Single, range, 1, self.attrs, unmap) })
    }

    #[inline]
    fn segments<'s>(self, slots: &'s [Cell<Slot>]) -> MappedSegments<'s, A> {
        MappedSegments::new(self.space, self.attrs, slots)
    }

    /// Maps by [`Strategy::Each`], phyrs as they come.
    #[inline]
    fn each(
        self,
        phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
        slots: &mut [Slot],
        state: &mut State,
    ) -> Result {
        // The only phyr needs no slot: if there is none, it has the one of this function.
        let mut own = [Slot::EMPTY];
        let has_slots = !slots.is_empty();
        let slots = if has_slots { slots } else { &mut own };
        let slots = Cell::from_mut(slots).as_slice_of_cells();
        let mut done = self.segments(slots);
        for phyr in phyrs {
            done.map(phyr?)?;
        }
        *state = match done.nr() {
            0 | 1 => done.close_one(self.mapper)?,
            _ => done.close(self.mapper),
        };
        Ok(())
    }

    /// Maps by [`Strategy::Each`], phyrs in slots.
    fn each_slot(self, phyrs: Phyrs<'_>, state: &mut State) -> Result {
        let mut done = self.segments(phyrs.0);
        for slot in phyrs.0 {
            done.map(phyrs.read(slot)?)?;
        }
        *state = done.close(self.mapper);
        Ok(())
    }

    /// Maps by [`Strategy::Joined`], phyrs as they come, which should be `len` bytes in all; one
    /// phyr of that length is mapped by itself.
    ///
    /// Returns `false`, with nothing mapped, where they are something else, or no IOVA range is
    /// left.
    #[inline]
    pub(crate) fn run(
        self,
        phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
        len: NonZeroUsize,
        state: &mut State,
    ) -> Result<bool> {
        let Some(granule) = self.mapper.granule() else {
            return Ok(false);
        };
        // Such a space syncs after each link: it is filled by lists instead.
        if self.space.links_lists() {
            return self.run_in_lists(phyrs, granule, len, state);
        }
        let (mut range, mut end) = (None::<IovaRange<A>>, 0);
        for phyr in phyrs {
            let pinned = phyr?;
            let phyr = pinned.phyr();
            let range = match &mut range {
                Some(range) if granule.joins(end, phyr.paddr().into_raw()) => range,
                Some(_) => return Ok(false),
                None if phyr.len() == len.get() => {
                    *state = self.single(pinned)?;
                    return Ok(true);
                }
                None => {
                    let start = phyr.paddr();
                    match IovaRange::alloc(self.space, granule, start, len.get(), self.attrs) {
                        Some(new) => range.insert(new),
                        None => return Ok(false),
                    }
                }
            };
            if phyr.len() > range.unlinked() {
                return Ok(false);
            }
            end = phyr.end();
            range.link(pinned)?;
        }
        match range {
            Some(mut range) if range.linked() == len.get() => {
                range.sync()?;
                *state = joined(range);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Maps as [`Target::run`] does, in a space that links lists.
    #[inline(never)]
    fn run_in_lists(
        self,
        phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
        granule: Granule,
        len: NonZeroUsize,
        state: &mut State,
    ) -> Result<bool> {
        let mut phyrs = phyrs.peekable();
        let first = match phyrs.peek() {
            Some(&Ok(first)) => first,
            Some(&Err(e)) => return Err(e),
            None => return Ok(false),
        };
        if first.phyr().len() == len.get() {
            *state = self.single(first)?;
            return Ok(true);
        }
        let start = first.phyr().paddr();
        let range = IovaRange::alloc(self.space, granule, start, len.get(), self.attrs);
        let Some(mut range) = range else {
            return Ok(false);
        };
        // Up to the first that does not join, or does not fit.
        let (mut end, mut left, mut is_run) = (None, len.get(), true);
        let run = phyrs.map_while(|pinned| {
            let phyr = match pinned {
                Ok(pinned) => pinned.phyr(),
                Err(e) => return Some(Err(e)),
            };
            let joins = end.is_none_or(|end| granule.joins(end, phyr.paddr().into_raw()));
            is_run = joins && phyr.len() <= left;
            if !is_run {
                return None;
            }
            left -= phyr.len();
            end = Some(phyr.end());
            Some(pinned)
        });
        range.link_all(run)?;
        if !is_run || range.linked() != len.get() {
            return Ok(false);
        }
        range.sync()?;
        *state = joined(range);
        Ok(true)
    }

    /// Maps by [`Strategy::Joined`], phyrs in slots. Returns `None` where no IOVA range is left.
    #[inline]
    fn joined_slots(
        self,
        granule: Granule,
        run: Phyrs<'_>,
        bytes: u64,
    ) -> Result<Option<IovaRange<A>>> {
        let first = run.first()?.phyr().paddr();
        let bytes = usize::try_from(bytes)?;
        let range = IovaRange::alloc(self.space, granule, first, bytes, self.attrs);
        let Some(mut range) = range else {
            return Ok(None);
        };
        range.link_all(run.0.iter().map(|slot| run.read(slot)))?;
        range.sync()?;
        Ok(Some(range))
    }

    /// Maps by [`Strategy::Packed`]. Returns `false` where no IOVA range is left for all runs; the
    /// slots are as before then, which they are not after an error.
    #[inline]
    fn packed(
        self,
        granule: Granule,
        phyrs: Phyrs<'_>,
        runs: usize,
        packed: Packed,
        state: &mut State,
    ) -> Result<bool> {
        let (start, len) = (PhysAddr::from_raw(0), usize::try_from(packed.len)?);
        let range = IovaRange::alloc(self.space, granule, start, len, self.attrs);
        let Some(mut range) = range else {
            return Ok(false);
        };
        let mut out = phyrs.0.iter();
        let mut run = phyrs.0.first().ok_or(EINVAL)?;
        range.link_each(phyrs.0.iter(), |slot, addr| {
            let (begins, pinned) = (slot.get().begins(), phyrs.read(slot)?);
            let phyr = pinned.phyr();
            if begins {
                // INVARIANT: no more runs have begun than slots were read, with this one.
                run = out.next().ok_or(EINVAL)?;
                let start = addr.advanced(granule.offset(phyr.paddr().into_raw()));
                run.set(Slot::range(start, phyr.len()));
            } else {
                run.set(run.get().extended(phyr.len()));
            }
            pinned.around(granule).ok_or(EOVERFLOW)
        })?;
        range.sync()?;

        let nr = u32::try_from(runs)?;
        let one = Slot::iova(range.close());
        // SAFETY: this range is linked with all of its bytes, and `nr` ranges in it are in the
        // slots.
        *state = unsafe { State::new(Strategy::Packed, one, nr, self.attrs, true) };
        Ok(true)
    }

    /// Maps by [`Strategy::Runs`].
    #[inline(never)]
    fn runs(self, granule: Granule, phyrs: Phyrs<'_>, state: &mut State) -> Result {
        let mut done = self.segments(phyrs.0);
        let mut rest = phyrs.0;

        while let Some((nr, bytes)) = next_run(rest)? {
            let (run, behind) = rest.split_at_checked(nr).ok_or(EINVAL)?;
            rest = behind;

            if nr > 1 {
                // INVARIANT: a part of the slots, of which none was written yet.
                if let Some(range) = self.joined_slots(granule, Phyrs(run), bytes)? {
                    done.add(range);
                    continue;
                }
            }
            for slot in run {
                done.map(phyrs.read(slot)?)?;
            }
        }
        *state = done.close(self.mapper);
        Ok(())
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
