// SPDX-License-Identifier: GPL-2.0

//! The linear planner: whether phyrs become one range, or the reason why not.
//!
//! Entry point: [`LinearPlanner::push`] for each phyr in order, then [`LinearPlanner::finish`].
//! Nothing has been allocated by then. This file is plain Rust: no kernel call, constant memory,
//! constant time a phyr.

use super::error::{
    Edge,
    Limit,
    LinearError, //
};
use crate::{
    limits::Limits,
    types::{
        Granule,
        Phyr, //
    }, //
};
use core::cmp::Ordering;

/// Constraints on a linear mapping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Constraints {
    /// The IOMMU's granule; `None` where the device uses physical addresses.
    pub granule: Option<Granule>,
    /// Limits of the device on a segment.
    pub limits: Limits,
    /// The longest mapping that there can be, in bytes.
    pub max_len: u64,
    /// The first address of the address space: of the mapper's own region, or zero. Zero itself is
    /// never given out.
    pub first: u64,
    /// The last address: of the device's DMA mask, or of the mapper's own region.
    pub mask: u64,
    /// The DMA API gives the device copies: of everything, or behind an IOMMU of what is not whole
    /// granules.
    pub bounces: bool,
    /// Alignment of the range's address in bytes: a power of two.
    pub align: u64,
}

/// Plan of a linear mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinearPlan {
    /// One contiguous range of physical addresses.
    Direct {
        /// Its beginning.
        start: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// One range of IOVA.
    Range {
        /// The physical address at which the first phyr begins.
        start: u64,
        /// Its length in bytes.
        len: u64,
        /// Bytes of IOVA to take, in bytes from `start` on. An allocation is aligned to its own
        /// length, rounded up to a power of two, so that taking more aligns it; for the same
        /// reason it crosses no boundary that is not shorter.
        reserve: u64,
    },
}

/// Plans one linear mapping; see the [module documentation](self).
#[derive(Clone, Debug)]
pub(super) struct LinearPlanner {
    constraints: Constraints,
    /// Number of phyrs so far, and of bytes in them.
    phyrs: usize,
    bytes: u64,
    /// The beginning of the first and the end of the last.
    start: u64,
    end: u64,
}

impl LinearPlanner {
    /// The longest range of IOVA: the DMA API has a mark of its own in bit 63 of a length.
    const MAX_RANGE: u64 = (1 << 63) - 1;

    /// Begins a plan.
    pub(super) const fn new(constraints: Constraints) -> Self {
        Self {
            constraints,
            phyrs: 0,
            bytes: 0,
            start: 0,
            end: 0,
        }
    }

    /// Adds the next phyr.
    ///
    /// # Errors
    ///
    /// Why it cannot be in one range with those before it: [`LinearError::NotTranslated`],
    /// [`LinearError::Gap`], [`LinearError::Misaligned`] or [`LinearError::Overflow`].
    #[inline]
    pub(super) fn push(&mut self, phyr: Phyr) -> Result<(), LinearError> {
        let start = phyr.paddr().into_raw();

        if self.phyrs == 0 {
            self.start = start;
        } else if start != self.end {
            self.check_joint(start)?;
        }
        // CAST: a `usize` is at most 64 bits wide.
        self.bytes = self
            .bytes
            .checked_add(phyr.len() as u64)
            .ok_or(LinearError::Overflow)?;
        self.phyrs += 1;
        self.end = phyr.end();
        Ok(())
    }

    /// Checks that the IOMMU can join what ends at `self.end` and what begins at `start`.
    #[inline]
    fn check_joint(&self, start: u64) -> Result<(), LinearError> {
        let (phyr, offset) = (self.phyrs, self.bytes);
        let Some(granule) = self.constraints.granule else {
            return Err(LinearError::NotTranslated { phyr, offset });
        };
        let misaligned = |phyr, edge| LinearError::Misaligned {
            phyr,
            edge,
            offset,
            granule: granule.size(),
        };
        if granule.joins(self.end, start) {
            return Ok(());
        }
        match (granule.aligned(self.end), granule.aligned(start)) {
            (true, _) => Err(misaligned(phyr, Edge::Start)),
            (false, true) => Err(misaligned(phyr - 1, Edge::End)),
            (false, false) => Err(LinearError::Gap { phyr, offset }),
        }
    }

    /// Returns the plan. `to_dma` is the DMA address of a physical address where no
    /// IOMMU translates, or all ones where there is none.
    ///
    /// # Errors
    ///
    /// Every reason that is known before anything is allocated.
    pub(super) fn finish(&self, to_dma: impl Fn(u64) -> u64) -> Result<LinearPlan, LinearError> {
        let Constraints {
            granule,
            limits,
            max_len,
            ..
        } = self.constraints;
        let len = self.bytes;

        if self.phyrs == 0 {
            return Err(LinearError::Empty);
        }
        if len > limits.max_segment() {
            return Err(LinearError::Limit {
                limit: Limit::Segment,
                asked: len,
                max: limits.max_segment(),
            });
        }
        let shape = match granule {
            Some(granule) => self.finish_range(granule),
            None => self.finish_direct(to_dma),
        }?;
        // Behind the others: what is refused for being bounced would not do if it were shorter.
        if len > max_len {
            return Err(self.too_long());
        }
        Ok(shape)
    }

    fn too_long(&self) -> LinearError {
        LinearError::Limit {
            limit: Limit::MappingSize,
            asked: self.bytes,
            max: self.constraints.max_len,
        }
    }

    /// Plans a range of physical addresses, which begins where the memory does.
    fn finish_direct(&self, to_dma: impl Fn(u64) -> u64) -> Result<LinearPlan, LinearError> {
        let (start, len) = (self.start, self.bytes);
        let out_of_reach = |asked| LinearError::Limit {
            limit: Limit::Mask,
            asked,
            max: self.constraints.mask,
        };
        let (addr, last) = (to_dma(start), to_dma(start + (len - 1)));

        if addr == u64::MAX || last == u64::MAX {
            return Err(out_of_reach(start + (len - 1)));
        }
        // The bus may shift parts of memory by different distances.
        if addr.checked_add(len - 1) != Some(last) {
            return Err(LinearError::Gap {
                phyr: self.phyrs - 1,
                offset: len - 1,
            });
        }
        if last > self.constraints.mask {
            return Err(out_of_reach(last));
        }
        self.check_boundary(addr)?;
        self.check_align(addr, self.constraints.align)?;
        if self.constraints.bounces {
            return Err(LinearError::Bounced);
        }
        Ok(LinearPlan::Direct { start, len })
    }

    /// Plans a range of IOVA, which begins as far into a granule as the first phyr does.
    fn finish_range(&self, granule: Granule) -> Result<LinearPlan, LinearError> {
        let Constraints {
            first, mask, align, ..
        } = self.constraints;
        let (start, len) = (self.start, self.bytes);
        let offset = granule.offset(start);

        self.check_boundary(offset)?;
        // Of the address only the offset in the granule is given; the rest can be chosen.
        self.check_align(offset, align)?;
        if self.constraints.bounces && !(offset == 0 && granule.aligned(self.end)) {
            return Err(LinearError::Bounced);
        }

        // From the beginning of the first granule on.
        let mut span = offset.checked_add(len).ok_or(LinearError::Overflow)?;
        if align > granule.size() {
            span = span.max(align);
        }
        let whole = granule.align_up(span).ok_or(LinearError::Overflow)?;
        // The lowest place that is aligned as the allocator does; address zero is never given out.
        let last = whole
            .checked_next_power_of_two()
            .and_then(|step| Some(first.max(1).checked_add(step - 1)? & !(step - 1)))
            .and_then(|place| place.checked_add(whole - 1))
            .ok_or(LinearError::Overflow)?;
        if last > mask && first != 0 {
            return Err(match len.cmp(&self.constraints.max_len) {
                Ordering::Greater => self.too_long(),
                _ => LinearError::NoSpace,
            });
        }
        if last > mask {
            return Err(LinearError::Limit {
                limit: Limit::Mask,
                asked: last,
                max: mask,
            });
        }
        if whole > Self::MAX_RANGE {
            return Err(LinearError::Overflow);
        }
        Ok(LinearPlan::Range {
            start,
            len,
            reserve: span - offset,
        })
    }

    /// Checks that no range that begins at `addr`, or as far after a boundary, crosses the next
    /// one.
    fn check_boundary(&self, addr: u64) -> Result<(), LinearError> {
        let max = self.constraints.limits.max_len_at(addr);
        if self.bytes > max {
            return Err(LinearError::Limit {
                limit: Limit::Boundary,
                asked: self.bytes,
                max,
            });
        }
        Ok(())
    }

    fn check_align(&self, addr: u64, align: u64) -> Result<(), LinearError> {
        // A mask, as the alignment is a power of two; zero is none.
        match addr & align.saturating_sub(1) {
            0 => Ok(()),
            excess => Err(LinearError::Alignment { align, excess }),
        }
    }
}
