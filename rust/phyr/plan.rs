// SPDX-License-Identifier: GPL-2.0

//! The planner: from phyrs to runs, before anything is mapped.
//!
//! An IOMMU can join two phyrs into one range of IOVA exactly if the first ends, and the second
//! begins, where a granule does. A **run** is a sequence of phyrs that join; it becomes one
//! [`DmaVec`](crate::DmaVec). Entry point: [`Planner::push`] for each phyr in order, then
//! [`Planner::plan`]; what the plan says is exact.
//!
//! A gap only ends a run, it does not end joining: what comes behind it is the next run. All runs
//! of one mapping fit in one IOVA allocation, each from a granule of its own on ([`Plan::packed`]),
//! so that a mapping with gaps still costs one allocation and one IOTLB flush.
//!
//! This file is plain Rust: no kernel call, no allocation, constant memory, constant time a phyr.

use super::types::{
    Granule,
    Phyr, //
};

/// What a device asks of each range that it is given.
///
/// # Invariants
///
/// `max_segment` is not zero; each mask plus one is a power of two, or zero (no boundary).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    max_segment: u64,
    boundary_mask: u64,
    min_align_mask: u32,
}

impl Limits {
    /// No limit at all.
    pub const NONE: Self = Self {
        max_segment: u64::MAX,
        boundary_mask: u64::MAX,
        min_align_mask: 0,
    };

    /// Limits the length of a [`DmaVec`](crate::DmaVec) to `bytes`, or returns `None` for zero.
    pub const fn with_max_segment(mut self, bytes: u64) -> Option<Self> {
        if bytes == 0 {
            return None;
        }
        self.max_segment = bytes;
        Some(self)
    }

    /// Asks that no [`DmaVec`](crate::DmaVec) crosses a multiple of `mask + 1`.
    ///
    /// Returns `None` unless `mask + 1` is a power of two; a mask of all ones is no limit.
    pub const fn with_boundary_mask(mut self, mask: u64) -> Option<Self> {
        if mask & mask.wrapping_add(1) != 0 {
            return None;
        }
        self.boundary_mask = mask;
        Some(self)
    }

    /// Asks that a bounce buffer keeps the bits of `mask` of the address that it stands for, as a
    /// device needs whose descriptors name pages and only the first an offset.
    ///
    /// Returns `None` unless `mask + 1` is a power of two.
    pub const fn with_min_align_mask(mut self, mask: u32) -> Option<Self> {
        if mask & mask.wrapping_add(1) != 0 {
            return None;
        }
        self.min_align_mask = mask;
        Some(self)
    }

    /// The longest segment, in bytes.
    #[inline]
    pub const fn max_segment(&self) -> u64 {
        self.max_segment
    }

    /// No segment crosses a multiple of this and one; all ones if there is no such limit.
    #[inline]
    pub const fn boundary_mask(&self) -> u64 {
        self.boundary_mask
    }

    /// The bits of an address that a bounce buffer keeps.
    #[inline]
    pub const fn min_align_mask(&self) -> u32 {
        self.min_align_mask
    }

    /// The limits of a block queue, which are never zero; a mask of all ones is none.
    #[inline]
    #[doc(hidden)]
    pub const fn of_queue(max_segment: u32, boundary_mask: usize) -> Self {
        // INVARIANT: the block layer keeps both sane: `blk_validate_limits()`.
        // CAST: a `usize` is at most 64 bits wide; all ones stay all ones.
        Self {
            max_segment: max_segment as u64,
            boundary_mask: boundary_mask as isize as u64,
            min_align_mask: 0,
        }
    }

    /// How many bytes of a range that begins at `addr` fit in one segment.
    #[inline]
    pub const fn room(&self, addr: u64) -> u64 {
        // One less than the room up to the boundary, which itself may be 2^64.
        let last = self.boundary_mask - (addr & self.boundary_mask);
        if last < self.max_segment - 1 {
            last + 1
        } else {
            self.max_segment
        }
    }

    /// Whether `bytes` fit between two boundaries.
    #[inline]
    pub(crate) const fn boundary_allows(&self, bytes: u64) -> bool {
        // One less, as the distance itself may be 2^64; no bytes fit anywhere.
        self.boundary_mask >= bytes.saturating_sub(1)
    }

    /// Whether neither limit is in the way of a range of `bytes` bytes, wherever it begins.
    #[inline]
    pub(crate) const fn allow_anywhere(&self, bytes: usize) -> bool {
        // CAST: a `usize` is at most 64 bits wide.
        self.boundary_mask == u64::MAX && bytes as u64 <= self.max_segment
    }

    /// Whether both limits leave room for at least `bytes`, wherever those are aligned.
    #[inline]
    pub const fn allow(&self, bytes: u64) -> bool {
        self.max_segment >= bytes && self.boundary_allows(bytes)
    }
}

/// Why phyrs cannot be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// There is nothing to map.
    Empty,
    /// The sum of the lengths, or the IOVA space that they need, overflows.
    Overflow,
}

/// The IOVA space that all runs of a mapping take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Its length in bytes, a multiple of the granule.
    pub len: u64,
}

/// What a mapping will be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Number of phyrs that go in.
    pub phyrs: usize,
    /// Number of [`DmaVec`](crate::DmaVec)s that come out behind an IOMMU: the runs.
    pub runs: usize,
    /// Length of all of it in bytes.
    pub bytes: u64,
    /// The one IOVA allocation for all runs, or `None` where a limit of the device forbids a run
    /// to lie where it would come to lie in it.
    pub packed: Option<Packed>,
}

/// Where a phyr comes to lie, as [`Planner::push`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It extends the run of the phyr before.
    Joins,
    /// It begins a run.
    Begins,
}

/// Plans one mapping; see the [module documentation](self).
///
/// # Invariants
///
/// While `plan.phyrs` is not zero, the last run is `run_len` bytes long, begins `run_start` bytes
/// into a granule, and ends at the physical address `end` and at `pos` in the packed allocation.
#[derive(Clone, Debug)]
pub struct Planner {
    granule: Granule,
    limits: Limits,
    plan: Plan,
    /// Physical end of the last phyr.
    end: u64,
    /// How far into its granule the last run begins.
    run_start: u64,
    /// Bytes in the last run.
    run_len: u64,
    /// End of the last run in the packed allocation.
    pos: u64,
}

impl Planner {
    /// Begins a plan for a device whose IOMMU has the granule `granule`.
    #[inline]
    pub const fn new(granule: Granule, limits: Limits) -> Self {
        Self {
            granule,
            limits,
            plan: Plan {
                phyrs: 0,
                runs: 0,
                bytes: 0,
                packed: Some(Packed { len: 0 }),
            },
            end: 0,
            run_start: 0,
            run_len: 0,
            pos: 0,
        }
    }

    /// Adds the next phyr.
    ///
    /// A phyr must itself be within the limits, as its source cuts it.
    ///
    /// # Errors
    ///
    /// - [`PlanError::Overflow`]: the length of all, or of the IOVA space, overflows; the planner
    ///   is as it was before.
    #[inline]
    pub fn push(&mut self, phyr: Phyr) -> Result<Place, PlanError> {
        let g = self.granule;
        // CAST: a `usize` is at most 64 bits wide.
        let len = phyr.len() as u64;
        let bytes = self
            .plan
            .bytes
            .checked_add(len)
            .ok_or(PlanError::Overflow)?;

        if self.joins(phyr, len) {
            // No overflow: `pos` is at most one granule a run above `bytes`, see below.
            let pos = self.pos.checked_add(len).ok_or(PlanError::Overflow)?;
            self.check_packed(pos - self.run_len - len, self.run_len + len);
            self.pos = pos;
            self.run_len += len;
            self.commit(phyr, bytes);
            return Ok(Place::Joins);
        }

        let offset = g.offset(phyr.paddr().into_raw());
        let start = g
            .align_up(self.pos)
            .and_then(|pos| pos.checked_add(offset))
            .ok_or(PlanError::Overflow)?;
        let pos = start.checked_add(len).ok_or(PlanError::Overflow)?;
        // That the end can be rounded up makes the length of the allocation exact in `plan`.
        g.align_up(pos).ok_or(PlanError::Overflow)?;
        self.check_packed(start, len);
        self.plan.runs += 1;
        self.pos = pos;
        self.run_start = offset;
        self.run_len = len;
        self.commit(phyr, bytes);
        Ok(Place::Begins)
    }

    /// What the phyrs so far will become.
    ///
    /// # Errors
    ///
    /// - [`PlanError::Empty`]: there were none.
    /// - [`PlanError::Overflow`]: the end of the last run, rounded up to a granule, overflows.
    #[inline]
    pub fn plan(&self) -> Result<Plan, PlanError> {
        if self.plan.phyrs == 0 {
            return Err(PlanError::Empty);
        }
        let len = self.granule.align_up(self.pos).ok_or(PlanError::Overflow)?;
        Ok(Plan {
            packed: self.plan.packed.map(|_| Packed { len }),
            ..self.plan
        })
    }

    /// Where the last run begins in the packed allocation, and its length so far.
    #[inline]
    pub const fn last_run(&self) -> (u64, u64) {
        (self.pos - self.run_len, self.run_len)
    }

    /// Whether `phyr` extends the last run.
    #[inline]
    fn joins(&self, phyr: Phyr, len: u64) -> bool {
        self.plan.phyrs != 0
            && self.granule.aligned(self.end)
            && self.granule.aligned(phyr.paddr().into_raw())
            && self.fits(self.run_start, self.run_len, len)
    }

    /// Whether a run of `run_len` bytes from `start` on may grow by `len`.
    #[inline]
    fn fits(&self, start: u64, run_len: u64, len: u64) -> bool {
        match run_len.checked_add(len) {
            Some(sum) => sum <= self.limits.room(start),
            None => false,
        }
    }

    /// Notes that a run does not fit in the packed allocation where it would come to lie.
    #[inline]
    fn check_packed(&mut self, start: u64, len: u64) {
        if len > self.limits.room(start) {
            self.plan.packed = None;
        }
    }

    #[inline]
    fn commit(&mut self, phyr: Phyr, bytes: u64) {
        self.plan.phyrs += 1;
        self.plan.bytes = bytes;
        self.end = phyr.end();
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(phyr_plan)]
mod tests {
    use super::*;
    use crate::{
        model,
        types::PhysAddr, //
    };

    const G: u64 = 4096;

    fn granule() -> Granule {
        Granule::new(G).unwrap_or(Granule::ONE)
    }

    /// The plan of the phyrs in `list`, each an address and a length.
    fn plan(limits: Limits, list: &[(u64, usize)]) -> Result<Plan, PlanError> {
        let mut planner = Planner::new(granule(), limits);
        for &(addr, len) in list {
            let Ok(phyr) = Phyr::new(PhysAddr::from_raw(addr), len) else {
                return Err(PlanError::Overflow);
            };
            planner.push(phyr)?;
        }
        planner.plan()
    }

    /// Number of runs, and of granules in the packed allocation.
    fn shape(list: &[(u64, usize)]) -> Option<(usize, u64)> {
        let plan = plan(Limits::NONE, list).ok()?;
        Some((plan.runs, plan.packed?.len / G))
    }

    #[test]
    fn nothing_is_an_error() {
        assert_eq!(plan(Limits::NONE, &[]), Err(PlanError::Empty));
    }

    #[test]
    fn one_phyr_is_one_run() {
        assert_eq!(shape(&[(G, 1)]), Some((1, 1)));
        assert_eq!(shape(&[(G - 1, 1)]), Some((1, 1)));
        assert_eq!(shape(&[(G - 1, 2)]), Some((1, 2)));
        assert_eq!(shape(&[(G, 4096)]), Some((1, 1)));
        assert_eq!(shape(&[(G, 4097)]), Some((1, 2)));
    }

    #[test]
    fn whole_granules_join_in_any_order() {
        assert_eq!(
            shape(&[(G, 4096), (9 * G, 4096), (5 * G, 8192)]),
            Some((1, 4))
        );
    }

    #[test]
    fn only_the_first_may_begin_and_the_last_end_within_a_granule() {
        // An offset in front and a short end are fine.
        assert_eq!(shape(&[(G + 512, 3584), (9 * G, 100)]), Some((1, 2)));
        // One byte short of the granule's end: a gap.
        assert_eq!(shape(&[(G, 4095), (9 * G, 4096)]), Some((2, 2)));
        // One byte behind a granule's beginning: a gap.
        assert_eq!(shape(&[(G, 4096), (9 * G + 1, 4095)]), Some((2, 2)));
    }

    #[test]
    fn a_gap_in_the_middle_gives_two_runs() {
        let list = [
            (G, 4096),
            (3 * G, 4096),
            (5 * G, 512),
            (7 * G, 4096),
            (9 * G, 4096),
        ];
        assert_eq!(shape(&list), Some((2, 5)));
    }

    #[test]
    fn every_phyr_a_gap() {
        assert_eq!(shape(&[(G, 512), (3 * G, 512), (5 * G, 512)]), Some((3, 3)));
    }

    #[test]
    fn a_segment_limit_ends_a_run() {
        let limits = Limits::NONE.with_max_segment(2 * G).unwrap_or(Limits::NONE);
        let list = [(G, 4096), (3 * G, 4096), (5 * G, 4096)];
        assert_eq!(plan(limits, &list).map(|plan| plan.runs), Ok(2));
        // Exactly at the limit, and one byte over it.
        assert_eq!(
            plan(limits, &[(G, 4096), (3 * G, 4096)]).map(|plan| plan.runs),
            Ok(1)
        );
        assert_eq!(
            plan(limits, &[(G, 8192), (4 * G, 1)]).map(|plan| plan.runs),
            Ok(2)
        );
    }

    #[test]
    fn a_boundary_ends_a_run_and_packing_where_it_would_be_crossed() {
        let mask = 2 * G - 1;
        let limits = Limits::NONE
            .with_boundary_mask(mask)
            .unwrap_or(Limits::NONE);
        let three = plan(limits, &[(2 * G, 4096), (6 * G, 4096), (8 * G, 4096)]);
        assert_eq!(three.map(|plan| plan.runs), Ok(2));
        // The second run would lie across the boundary, one granule into the allocation.
        let cross = plan(limits, &[(G, 512), (4 * G, 8192)]);
        assert_eq!(cross.map(|plan| (plan.runs, plan.packed)), Ok((2, None)));
    }

    #[test]
    fn room_at_the_edges() {
        assert_eq!(Limits::NONE.room(0), u64::MAX);
        assert_eq!(Limits::NONE.room(u64::MAX), 1);
        let limits = Limits::NONE
            .with_boundary_mask(G - 1)
            .unwrap_or(Limits::NONE);
        assert_eq!(
            (limits.room(0), limits.room(1), limits.room(G - 1)),
            (G, G - 1, 1)
        );
        assert!(limits.allow(G) && !limits.allow(G + 1));
        assert!(limits.allow(0) && Limits::NONE.allow(0) && Limits::NONE.allow(u64::MAX));
        assert!(Limits::NONE.with_max_segment(0).is_none());
        assert!(Limits::NONE.with_boundary_mask(G).is_none());
        assert!(Limits::NONE.with_min_align_mask(5).is_none());
    }

    #[test]
    fn overflow_leaves_the_planner_as_it_was() {
        let huge = usize::MAX - 8191;
        let mut planner = Planner::new(granule(), Limits::NONE);
        let phyr = |addr, len| Phyr::new(PhysAddr::from_raw(addr), len);

        assert!(phyr(0, huge).is_ok_and(|phyr| planner.push(phyr).is_ok()));
        let before = planner.plan();
        assert!(phyr(0, 8192).is_ok_and(|phyr| planner.push(phyr) == Err(PlanError::Overflow)));
        assert!(phyr(512, 4096).is_ok_and(|phyr| planner.push(phyr) == Err(PlanError::Overflow)));
        assert_eq!(planner.plan(), before);
    }

    /// A run that goes on is not rounded up before somebody asks for the plan, or another begins.
    #[test]
    fn overflow_in_the_last_granule() {
        let half = 1 << 63;
        assert_eq!(
            plan(Limits::NONE, &[(0, half), (0, half - 2)]),
            Err(PlanError::Overflow)
        );
        let mut planner = Planner::new(granule(), Limits::NONE);
        for (len, place) in [(half, Place::Begins), (half - 2, Place::Joins)] {
            let phyr = Phyr::new(PhysAddr::from_raw(0), len);
            assert!(phyr.is_ok_and(|phyr| planner.push(phyr) == Ok(place)));
        }
        let one = Phyr::new(PhysAddr::from_raw(0), 1);
        assert!(one.is_ok_and(|phyr| planner.push(phyr) == Err(PlanError::Overflow)));
    }

    #[test]
    fn limits_of_queues_and_of_bounce_buffers() {
        let limits = Limits::of_queue(65536, 0xfff);
        assert_eq!(
            (limits.max_segment(), limits.boundary_mask()),
            (65536, 0xfff)
        );
        // No boundary is none, whatever a `usize` has of bits.
        let limits = Limits::of_queue(u32::MAX, usize::MAX);
        assert_eq!(limits.boundary_mask(), u64::MAX);
        assert_eq!(limits.min_align_mask(), 0);

        for mask in [0, 1, 4095, u32::MAX] {
            let limits = limits.with_min_align_mask(mask);
            assert_eq!(limits.map(|limits| limits.min_align_mask()), Some(mask));
        }
        for mask in [2, 4096, u32::MAX - 1] {
            assert!(limits.with_min_align_mask(mask).is_none());
        }
    }

    #[test]
    fn random_lists_match_the_model() {
        let mut random = model::Random::new(0x70687972);
        let mut wrong = None;

        for _ in 0..4000 {
            let limits = match random.below(4) {
                0 => Limits::NONE.with_max_segment(G * (4 + random.below(8))),
                1 => Limits::NONE.with_boundary_mask((G << (3 + random.below(4))) - 1),
                _ => Some(Limits::NONE),
            };
            let limits = limits.unwrap_or(Limits::NONE);
            let list = model::List::random(&mut random, granule());
            if let Err(e) = model::check(&list, granule(), limits) {
                wrong = Some(e);
            }
        }
        assert_eq!(wrong, None);
    }
}
