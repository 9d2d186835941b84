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
        Layout,
        Phyrs,
        RunCollector, //
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

/// Facts that a look at the phyrs of a source has found.
pub(super) struct Scan {
    granule: Granule,
    /// Number of phyrs.
    pub(super) phyrs: usize,
    /// Their length in bytes.
    len: usize,
    /// The physical end of the last.
    end: u64,
    /// The offset in its granule of the first.
    offset: u64,
    /// No gap was found.
    joins: bool,
}

impl Scan {
    #[inline]
    pub(super) fn new(granule: Granule) -> Self {
        Self {
            granule,
            phyrs: 0,
            len: 0,
            end: 0,
            offset: 0,
            joins: true,
        }
    }

    /// Looks at the next phyr.
    ///
    /// # Errors
    ///
    /// - `EMSGSIZE`: it is over a limit.
    /// - `EOVERFLOW`: the length of all overflows.
    #[inline]
    pub(super) fn push(&mut self, phyr: Phyr, limits: &Limits) -> Result {
        check(limits, phyr)?;
        let start = phyr.paddr().into_raw();
        if self.phyrs == 0 {
            self.offset = self.granule.offset(start);
        } else {
            self.joins &= self.granule.joins(self.end, start);
        }
        self.phyrs += 1;
        self.end = phyr.end();
        self.len = self.len.checked_add(phyr.len()).ok_or(EOVERFLOW)?;
        Ok(())
    }

    /// Returns the length of all phyrs, if they are one run.
    #[inline]
    pub(super) fn run(&self, limits: &Limits) -> Option<NonZeroUsize> {
        // CAST: a `usize` is at most 64 bits wide.
        let is_run = self.joins && limits.allow_range(self.offset, self.len as u64);
        NonZeroUsize::new(self.len).filter(|_| is_run)
    }
}

/// Returns the length of all phyrs of a source, if they are one run: the look ends at the first
/// gap.
///
/// # Errors
///
/// Those of [`Scan::push`]; what the source fails with.
#[inline]
fn run_len(
    phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
    granule: Granule,
    limits: &Limits,
) -> Result<Option<NonZeroUsize>> {
    let mut scan = Scan::new(granule);
    for phyr in phyrs {
        scan.push(phyr?.phyr(), limits)?;
        if !scan.joins {
            return Ok(None);
        }
    }
    Ok(scan.run(limits))
}

/// Checks that `phyr` is a segment within `limits`.
///
/// # Errors
///
/// - `EMSGSIZE`: it is not.
#[inline]
pub(crate) fn check(limits: &Limits, phyr: Phyr) -> Result {
    // CAST: a `usize` is at most 64 bits wide.
    if limits.allow_range(phyr.paddr().into_raw(), phyr.len() as u64) {
        return Ok(());
    }
    Err(EMSGSIZE)
}

/// Collects `phyrs` in the slots and plans them with `planner`.
// Apart: what is planned stays in registers.
#[inline(never)]
fn collect(
    phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
    planner: impl PushPhyr,
    slots: &mut [Slot],
) -> Result<Plan> {
    let mut collector = RunCollector::new(planner, slots);
    for phyr in phyrs {
        collector.push(phyr?)?;
    }
    collector.plan()
}

/// Collects `phyrs`, which must be within `limits`, in the slots and plans them.
#[inline]
fn collect_within(
    phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
    granule: Granule,
    limits: &Limits,
    slots: &mut [Slot],
) -> Result<Plan> {
    if let Some(planner) = UnlimitedPlanner::new(granule, limits) {
        return collect(phyrs, planner, slots);
    }
    let limits = *limits;
    let within = phyrs.map(move |phyr| {
        let phyr = phyr?;
        check(&limits, phyr.phyr())?;
        Ok(phyr)
    });
    collect(within, Planner::new(granule, limits), slots)
}

impl<'a, A: IovaSpace + Copy> Target<'a, A> {
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
        let phyrs = memory.phyrs();
        let run = match granule {
            Some(granule) if memory.source().is_worth_a_scan() => {
                run_len(phyrs.clone(), granule, limits)?
            }
            _ => None,
        };
        self.scattered(phyrs, run, slots, self.mapper.reach(), state)
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

    /// [`Target::planned`] of pieces, which may adjoin, without limits.
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

    /// Maps several phyrs within the limits of the device. `run` is the length of all if they are
    /// one run.
    #[inline]
    pub(crate) fn scattered<'s, I>(
        self,
        phyrs: PinnedPhyrs<I>,
        run: Option<NonZeroUsize>,
        slots: impl FnOnce() -> Result<&'s mut [Slot]>,
        reach: Reach,
        state: &mut State,
    ) -> Result
    where
        I: Iterator<Item = Result<Phyr>> + Clone,
    {
        let limits = self.mapper.limits();
        match (choose(reach, Shape::of(run)), run) {
            (Strategy::Each, _) => {
                let within = phyrs.map(|phyr| {
                    let phyr = phyr?;
                    check(limits, phyr.phyr())?;
                    Ok(phyr)
                });
                return self.each(within, slots()?, state);
            }
            (Strategy::Joined, Some(len)) => {
                if self.run(phyrs.clone().joined(), len, state)? {
                    return Ok(());
                }
            }
            _ => {}
        }
        self.planned(phyrs, slots()?, reach, limits, state)
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
        let plan = collect_within(phyrs, granule, limits, slots)?;
        let shape = match (plan.phyrs, plan.runs) {
            (1, _) => Shape::One,
            (_, 1) => Shape::Run,
            _ => Shape::Gaps {
                fit: plan.packed.is_some(),
            },
        };
        let strategy = choose(reach, shape);
        // INVARIANT: the collector has just written the phyrs to these, which are pinned.
        let phyrs =
            Phyrs(Cell::from_mut(slots.get_mut(..plan.phyrs).ok_or(E2BIG)?).as_slice_of_cells());
        match (strategy, plan.packed) {
            (Strategy::Single, _) => {
                *state = self.single(phyrs.first()?)?;
                return Ok(());
            }
            (Strategy::Joined, _) => {
                if let Some(range) = self.joined_slots(phyrs, plan.bytes)? {
                    *state = joined(range);
                    return Ok(());
                }
            }
            (Strategy::Packed, Some(packed)) => {
                if self.packed(granule, phyrs, plan.runs, packed, state)? {
                    return Ok(());
                }
            }
            (Strategy::Runs, _) => return self.runs(phyrs, state),
            _ => {}
        }
        match choose(Reach::NoSpace, shape) {
            // The phyrs are still in the slots: nothing was written.
            Strategy::Each => self.each_slot(phyrs, state),
            _ => Err(EINVAL),
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

    #[inline]
    fn segments<'s>(self, slots: &'s [Cell<Slot>]) -> MappedSegments<'s, A> {
        MappedSegments::new(self.space, self.attrs, slots)
    }

    /// [`Strategy::Each`], of phyrs as they come.
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

    /// [`Strategy::Each`], of phyrs in slots.
    fn each_slot(self, phyrs: Phyrs<'_>, state: &mut State) -> Result {
        let mut done = self.segments(phyrs.0);
        for slot in phyrs.0 {
            done.map(phyrs.read(slot)?)?;
        }
        *state = done.close(self.mapper);
        Ok(())
    }

    /// [`Strategy::Joined`], of phyrs as they come, which should be `len` bytes in all; one phyr of
    /// that length is mapped by itself.
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
        // There each link has a flush, if not many are made at once.
        if self.space.links_lists() {
            return Ok(false);
        }
        let Some(granule) = self.mapper.granule() else {
            return Ok(false);
        };
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

    /// [`Strategy::Joined`], of phyrs in slots. Returns `None` where no IOVA range is left.
    #[inline]
    fn joined_slots(self, run: Phyrs<'_>, bytes: u64) -> Result<Option<IovaRange<A>>> {
        let granule = self.mapper.granule().ok_or(EINVAL)?;
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

    /// [`Strategy::Packed`]. Returns `false` where no IOVA range is left for all runs; the slots
    /// are as before then, which they are not after an error.
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
        let mut layout = Layout::new(granule, phyrs)?;
        range.link_each(phyrs.0.iter(), |slot, addr| layout.place(slot, addr))?;
        range.sync()?;

        let nr = u32::try_from(runs)?;
        let one = Slot::iova(range.close());
        // SAFETY: this range is linked with all of its bytes, and `nr` ranges in it are in the
        // slots.
        *state = unsafe { State::new(Strategy::Packed, one, nr, self.attrs, true) };
        Ok(true)
    }

    /// [`Strategy::Runs`]
    #[inline(never)]
    fn runs(self, phyrs: Phyrs<'_>, state: &mut State) -> Result {
        let mut done = self.segments(phyrs.0);
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
