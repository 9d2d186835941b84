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

use crate::{
    limits::Limits,
    types::{
        Granule,
        Phyr, //
    }, //
};

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
/// While `plan.phyrs` is not zero, the last run is `run_len` bytes long, begins `run_start` bytes
/// into a granule, and ends at the physical address `end` and at `pos` in the packed allocation.
#[derive(Clone, Debug)]
pub struct Planner {
    granule: Granule,
    limits: Limits,
    plan: Plan,
    /// Physical end of the last phyr.
    end: u64,
    /// Offset in its granule of the beginning of the last run.
    run_start: u64,
    /// Bytes in the last run.
    run_len: u64,
    /// End of the last run in the packed allocation.
    pos: u64,
}

impl Planner {
    /// Begins a plan for a device whose IOMMU has the granule `granule`.
    #[inline]
    #[doc(hidden)]
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
    #[doc(hidden)]
    pub fn push(&mut self, phyr: Phyr) -> Result<Join, PlanError> {
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
            return Ok(Join::Extends);
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
        Ok(Join::Begins)
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
        if self.plan.phyrs == 0 {
            return Err(PlanError::Empty);
        }
        let len = self.granule.align_up(self.pos).ok_or(PlanError::Overflow)?;
        Ok(Plan {
            packed: self.plan.packed.map(|_| Packed { len }),
            ..self.plan
        })
    }

    /// Returns the beginning of the last run in the packed allocation, and its length so far.
    #[inline]
    #[doc(hidden)]
    pub const fn last_run(&self) -> (u64, u64) {
        (self.pos - self.run_len, self.run_len)
    }

    /// Returns whether `phyr` extends the last run.
    #[inline]
    fn joins(&self, phyr: Phyr, len: u64) -> bool {
        self.plan.phyrs != 0
            && self.granule.joins(self.end, phyr.paddr().into_raw())
            && self.fits(self.run_start, self.run_len, len)
    }

    /// Returns whether a run of `run_len` bytes from `start` on may grow by `len`.
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
