// SPDX-License-Identifier: GPL-2.0

//! The planner: from phyrs to runs, before anything is mapped.
//!
//! An IOMMU can join two phyrs into one range of IOVA exactly if the first ends, and the second
//! begins, where a granule does. A **run** is a sequence of phyrs that join; it becomes one
//! [`DmaVec`](crate::DmaVec). Entry point: [`Planner::push`] for each phyr in order, then
//! [`Planner::plan`]; what the plan says is exact.
//!
//! A gap ends a run, and the next phyr begins another one. All runs of one mapping fit in one IOVA
//! allocation, in which each begins in a granule of its own ([`Plan::packed`]), so that a mapping
//! with gaps still costs one allocation and one IOTLB flush.
//!
//! This file is plain Rust: no kernel call, no allocation, constant memory, constant time a phyr.

use crate::{
    limits::Limits,
    types::{
        Granule,
        Phyr, //
    }, //
};

/// The longest range: the DMA API has a mark in bit 63 of a length, and warns of longer ones; a
/// [`Slot`](super::state::Slot) has another in bit 62.
pub(crate) const MAX_LEN: u64 = (1 << 62) - 1;

/// The reason for which phyrs cannot be planned.
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

/// The parts of which a mapping will be made.
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

/// The place of a phyr, as [`Planner::push`] has found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// It extends the run of the phyr before.
    Extends,
    /// It begins a run.
    Begins,
}

/// Plans one mapping: finds the runs of phyrs as they are pushed.
///
/// # Invariants
///
/// While `phyrs` is not zero, the last run ends at the physical address `end`, and lies from
/// `start` to `pos` in the packed allocation. It may grow by `left` bytes within the limits, at its
/// own offset and, while it `fits`, at its packed one. `bytes` is at most `pos`.
#[derive(Clone, Debug)]
pub struct Planner {
    granule: Granule,
    limits: Limits,
    phyrs: usize,
    runs: usize,
    bytes: u64,
    /// All runs are within the limits where they lie in the packed allocation.
    fits: bool,
    /// Physical end of the last phyr.
    end: u64,
    /// The last run in the packed allocation, in which it begins as far into a granule as in
    /// memory.
    start: u64,
    pos: u64,
    /// Bytes by which the last run can grow without a look at the limits; zero before the first.
    left: u64,
}

impl Planner {
    /// Begins a plan for a device whose IOMMU has the granule `granule`.
    #[inline]
    #[doc(hidden)]
    pub const fn new(granule: Granule, limits: Limits) -> Self {
        Self {
            granule,
            limits,
            phyrs: 0,
            runs: 0,
            bytes: 0,
            fits: true,
            end: 0,
            start: 0,
            pos: 0,
            left: 0,
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
    // Into the loop over all phyrs: what is planned stays in registers.
    #[inline(always)]
    #[doc(hidden)]
    pub fn push(&mut self, phyr: Phyr) -> Result<Join, PlanError> {
        // CAST: a `usize` is at most 64 bits wide.
        let len = phyr.len() as u64;
        let joins = self.granule.joins(self.end, phyr.paddr().into_raw());
        let join = if joins && (len <= self.left || self.grow(len)) {
            self.pos = self.pos.checked_add(len).ok_or(PlanError::Overflow)?;
            self.left -= len;
            Join::Extends
        } else {
            self.begin(phyr, len)?;
            Join::Begins
        };
        self.phyrs += 1;
        // No overflow: at most `pos`.
        self.bytes += len;
        self.end = phyr.end();
        Ok(join)
    }

    /// Begins a run with `phyr`, which is `len` bytes long.
    #[inline(always)]
    fn begin(&mut self, phyr: Phyr, len: u64) -> Result<(), PlanError> {
        let (g, pos) = (self.granule, self.granule.align_up(self.pos));
        // No overflow: both are in the same granule.
        let start = pos.ok_or(PlanError::Overflow)? + g.offset(phyr.paddr().into_raw());
        let pos = start.checked_add(len).ok_or(PlanError::Overflow)?;
        // That the end can be rounded up makes the length of the allocation exact in `plan`.
        g.align_up(pos).ok_or(PlanError::Overflow)?;
        self.runs += 1;
        (self.start, self.pos) = (start, pos);
        self.left = match self.limits.max_segment().checked_sub(len) {
            Some(left) if !self.limits.has_boundary() => left,
            _ => self.within_limits(len),
        };
        Ok(())
    }

    /// Returns by how much the last run, of `len` bytes, can grow, and whether it fits.
    #[inline(always)]
    fn within_limits(&mut self, len: u64) -> u64 {
        let alone = max_len_at(self.limits, self.granule.offset(self.start));
        let packed = max_len_at(self.limits, self.start);
        self.fits &= len <= packed;
        let longest = if self.fits { alone.min(packed) } else { alone };
        longest.saturating_sub(len)
    }

    /// Lets the last run grow by `len` bytes if its own limits allow that, though it may be that
    /// there is no packed allocation then. Returns whether they do.
    #[inline(always)]
    fn grow(&mut self, len: u64) -> bool {
        let (granule, run_len) = (self.granule, self.pos - self.start);
        // Before the first phyr there is no run.
        let overflows = self.pos.checked_add(len).is_none();
        if self.phyrs == 0 || overflows {
            return false;
        }
        let longest = max_len_at(self.limits, granule.offset(self.start));
        match longest.checked_sub(run_len) {
            Some(left) if len <= left => {
                // Only the packed position is over a limit: give up packing.
                self.fits = false;
                self.left = left;
                true
            }
            _ => false,
        }
    }

    /// Returns the plan of the phyrs so far.
    ///
    /// # Errors
    ///
    /// - [`PlanError::Empty`]: there were none.
    /// - [`PlanError::Overflow`]: the end of the last run, rounded up to a granule, overflows.
    #[inline]
    #[doc(hidden)]
    pub fn plan(&self) -> Result<Plan, PlanError> {
        if self.phyrs == 0 {
            return Err(PlanError::Empty);
        }
        let len = self.granule.align_up(self.pos).ok_or(PlanError::Overflow)?;
        Ok(Plan {
            phyrs: self.phyrs,
            runs: self.runs,
            bytes: self.bytes,
            packed: self.fits.then_some(Packed { len }),
        })
    }

    /// Returns the beginning of the last run in the packed allocation, and its length so far.
    #[inline]
    #[doc(hidden)]
    pub const fn last_run(&self) -> (u64, u64) {
        (self.start, self.pos - self.start)
    }
}

/// A planner, for the loop that collects phyrs.
pub(super) trait PushPhyr {
    /// Adds the next phyr.
    ///
    /// # Errors
    ///
    /// - [`PlanError::Overflow`]: the length of all, or of the IOVA space, overflows. It may be
    ///   that only [`PushPhyr::plan`] says so.
    fn push(&mut self, phyr: Phyr) -> Result<Join, PlanError>;

    /// Returns the plan of the phyrs so far.
    ///
    /// # Errors
    ///
    /// Those of [`Planner::plan`]; [`PlanError::Overflow`]: they are longer than [`MAX_LEN`].
    fn plan(&self) -> Result<Plan, PlanError>;
}

impl PushPhyr for Planner {
    #[inline(always)]
    fn push(&mut self, phyr: Phyr) -> Result<Join, PlanError> {
        Planner::push(self, phyr)
    }

    #[inline]
    fn plan(&self) -> Result<Plan, PlanError> {
        let plan = Planner::plan(self)?;
        if plan.bytes > MAX_LEN {
            return Err(PlanError::Overflow);
        }
        Ok(plan)
    }
}

/// Plans one mapping for a device without limits, as [`Planner`] does, in half as many steps.
///
/// A phyr that joins begins where a granule does, and so does what is after the run before it. So
/// in the packed allocation each phyr, whether it joins or not, begins in the first granule that is
/// free, as far into that as in memory.
///
/// # Invariants
///
/// - The granule is at most [`UnlimitedPlanner::MAX_GRANULE`].
/// - The last phyr ends at the physical address `end`; if there was none, nothing joins there.
/// - Unless a bit of `bits` is above [`MAX_LEN`], `bytes` is at most `pos`, and `pos` at most
///   [`MAX_LEN`]: the last phyr ends there in the packed allocation.
#[derive(Clone, Debug)]
pub(crate) struct UnlimitedPlanner {
    granule: Granule,
    phyrs: usize,
    runs: usize,
    bytes: u64,
    end: u64,
    pos: u64,
    /// All bits of each length and each position. No step is longer than to twice [`MAX_LEN`], so
    /// that the first that is over it has set one of the bits above.
    bits: u64,
}

impl UnlimitedPlanner {
    /// The largest granule with which nothing overflows.
    const MAX_GRANULE: u64 = 1 << 32;

    /// An address that is not the beginning of a granule: no phyr joins there.
    const NO_EDGE: u64 = 1;

    /// Begins a plan; `None` if `limits` are in the way of a mapping of [`MAX_LEN`] bytes, or no
    /// IOMMU has such a granule.
    #[inline]
    pub(crate) const fn new(granule: Granule, limits: &Limits) -> Option<Self> {
        let has_limits = limits.has_boundary() || limits.max_segment() < MAX_LEN;
        if has_limits || granule.size() < 2 || granule.size() > Self::MAX_GRANULE {
            return None;
        }
        // INVARIANT: the granule was just compared, and there are no phyrs.
        Some(Self {
            granule,
            phyrs: 0,
            runs: 0,
            bytes: 0,
            end: Self::NO_EDGE,
            pos: 0,
            bits: 0,
        })
    }
}

impl PushPhyr for UnlimitedPlanner {
    // Into the loop over all phyrs: what is planned stays in registers, and nothing is compared
    // that can be compared after it.
    #[inline(always)]
    fn push(&mut self, phyr: Phyr) -> Result<Join, PlanError> {
        let (g, start) = (self.granule, phyr.paddr().into_raw());
        // CAST: a `usize` is at most 64 bits wide.
        let len = phyr.len() as u64;
        // INVARIANT: if this wraps around, a bit above `MAX_LEN` is set, here or before.
        let free = g.align_down(self.pos.wrapping_add(g.size() - 1));
        self.pos = (free | g.offset(start)).wrapping_add(len);
        self.bytes = self.bytes.wrapping_add(len);
        self.bits |= len | self.pos;
        let joins = g.joins(self.end, start);
        // INVARIANT: it ends there.
        self.end = phyr.end();
        self.phyrs += 1;
        self.runs += usize::from(!joins);
        Ok(if joins { Join::Extends } else { Join::Begins })
    }

    #[inline]
    fn plan(&self) -> Result<Plan, PlanError> {
        if self.phyrs == 0 {
            return Err(PlanError::Empty);
        }
        if self.bits > MAX_LEN {
            return Err(PlanError::Overflow);
        }
        // No overflow: by the type invariant both are far from it.
        let len = self.pos + (self.granule.size() - 1);
        Ok(Plan {
            phyrs: self.phyrs,
            runs: self.runs,
            bytes: self.bytes,
            packed: Some(Packed {
                len: self.granule.align_down(len),
            }),
        })
    }
}

/// Returns [`Limits::max_len_at`], where it is seldom asked for. Apart, and with copies, so that a
/// [`Planner`] is not in memory for its sake.
#[cold]
#[inline(never)]
fn max_len_at(limits: Limits, addr: u64) -> u64 {
    limits.max_len_at(addr)
}
