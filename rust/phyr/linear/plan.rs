// SPDX-License-Identifier: GPL-2.0

//! The linear planner: whether phyrs become one range, or the reason why not.
//!
//! Entry point: [`LinearPlanner::push`] for each phyr in order, then [`LinearPlanner::finish`].
//! Nothing has been allocated by then. This file is plain Rust: no kernel call, constant memory,
//! constant time a phyr.

use super::reason::{
    Edge,
    Limit,
    NotLinear, //
};
use crate::{
    plan::Limits,
    types::{
        Granule,
        Phyr, //
    }, //
};

/// What a device, and whoever wants the mapping, ask of it.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// The IOMMU's granule; `None` where the device uses physical addresses.
    pub granule: Option<Granule>,
    /// What the device asks of a segment.
    pub limits: Limits,
    /// The longest mapping that the DMA API makes, in bytes.
    pub max_len: u64,
    /// The highest address that the device can tell.
    pub mask: u64,
    /// The DMA API gives the device copies: of everything, or behind an IOMMU of what is not whole
    /// granules.
    pub bounces: bool,
    /// What the range's address is to be a multiple of: a power of two.
    pub align: u64,
}

/// What a linear mapping is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One contiguous range of physical addresses.
    Direct {
        /// Where it begins.
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
        /// How much IOVA to take, in bytes from `start` on. An allocation is aligned to its own
        /// length, rounded up to a power of two, so that taking more aligns it.
        reserve: u64,
    },
}

/// Plans one linear mapping; see the [module documentation](self).
#[derive(Clone, Debug)]
pub struct LinearPlanner {
    demand: Demand,
    /// Number of phyrs so far, and of bytes in them.
    phyrs: usize,
    bytes: u64,
    /// Where the first begins and the last ends.
    start: u64,
    end: u64,
}

impl LinearPlanner {
    /// The longest range of IOVA: the DMA API has a mark of its own in bit 63 of a length.
    const MAX_RANGE: u64 = (1 << 63) - 1;

    /// Begins a plan.
    pub const fn new(demand: Demand) -> Self {
        Self {
            demand,
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
    /// Why it cannot be in one range with those before it: [`NotLinear::NotTranslated`],
    /// [`NotLinear::Gap`], [`NotLinear::Misaligned`] or [`NotLinear::Overflow`].
    #[inline]
    pub fn push(&mut self, phyr: Phyr) -> Result<(), NotLinear> {
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
            .ok_or(NotLinear::Overflow)?;
        self.phyrs += 1;
        self.end = phyr.end();
        Ok(())
    }

    /// Whether the IOMMU can join what ends at `self.end` and what begins at `start`.
    #[inline]
    fn check_joint(&self, start: u64) -> Result<(), NotLinear> {
        let (phyr, offset) = (self.phyrs, self.bytes);
        let Some(granule) = self.demand.granule else {
            return Err(NotLinear::NotTranslated { phyr, offset });
        };
        let misaligned = |phyr, edge| NotLinear::Misaligned {
            phyr,
            edge,
            offset,
            granule: granule.size(),
        };
        match (granule.aligned(self.end), granule.aligned(start)) {
            (true, true) => Ok(()),
            (true, false) => Err(misaligned(phyr, Edge::Start)),
            (false, true) => Err(misaligned(phyr - 1, Edge::End)),
            (false, false) => Err(NotLinear::Gap { phyr, offset }),
        }
    }

    /// What the mapping is made of. `to_dma` is the DMA address of a physical address where no
    /// IOMMU translates.
    ///
    /// # Errors
    ///
    /// Every reason that is known before anything is allocated.
    pub fn finish(&self, to_dma: impl FnOnce(u64) -> u64) -> Result<Shape, NotLinear> {
        let Demand {
            granule,
            limits,
            max_len,
            ..
        } = self.demand;
        let len = self.bytes;
        let limit = |limit, max| NotLinear::Limit {
            limit,
            asked: len,
            max,
        };

        if self.phyrs == 0 {
            return Err(NotLinear::Empty);
        }
        if len > limits.max_segment() {
            return Err(limit(Limit::Segment, limits.max_segment()));
        }
        if len > max_len {
            return Err(limit(Limit::MappingSize, max_len));
        }
        match granule {
            Some(granule) => self.finish_range(granule),
            None => self.finish_direct(to_dma(self.start)),
        }
    }

    /// The range begins at the address `addr`.
    fn finish_direct(&self, addr: u64) -> Result<Shape, NotLinear> {
        let (start, len) = (self.start, self.bytes);
        let last = addr.checked_add(len - 1).ok_or(NotLinear::Overflow)?;

        if last > self.demand.mask {
            return Err(NotLinear::Limit {
                limit: Limit::Mask,
                asked: last,
                max: self.demand.mask,
            });
        }
        self.check_boundary(addr)?;
        self.check_align(addr, self.demand.align)?;
        if self.demand.bounces {
            return Err(NotLinear::Bounced);
        }
        Ok(Shape::Direct { start, len })
    }

    /// The range begins as far into a granule as the first phyr does.
    fn finish_range(&self, granule: Granule) -> Result<Shape, NotLinear> {
        let Demand {
            limits,
            mask,
            align,
            ..
        } = self.demand;
        let (start, len) = (self.start, self.bytes);
        let offset = granule.offset(start);

        self.check_boundary(offset)?;
        // Of the address only the offset in the granule is given; the rest can be chosen.
        self.check_align(offset, align)?;
        if self.demand.bounces && !(offset == 0 && granule.aligned(self.end)) {
            return Err(NotLinear::Bounced);
        }

        // From the beginning of the first granule on.
        let mut span = offset.checked_add(len).ok_or(NotLinear::Overflow)?;
        if align > granule.size() {
            span = span.max(align);
        }
        if limits.has_boundary() {
            // Aligned to at least its length it crosses no boundary that is not shorter.
            span = span
                .checked_next_power_of_two()
                .ok_or(NotLinear::Overflow)?;
        }
        let whole = granule.align_up(span).ok_or(NotLinear::Overflow)?;
        if whole > Self::MAX_RANGE {
            return Err(NotLinear::Overflow);
        }
        if whole - 1 > mask {
            return Err(NotLinear::Limit {
                limit: Limit::Mask,
                asked: whole - 1,
                max: mask,
            });
        }
        Ok(Shape::Range {
            start,
            len,
            reserve: span - offset,
        })
    }

    /// Whether a range that begins at `addr`, or at that offset between boundaries, crosses one.
    fn check_boundary(&self, addr: u64) -> Result<(), NotLinear> {
        // No room is left of the segment size: that was checked.
        if self.bytes > self.demand.limits.room(addr) {
            return Err(NotLinear::Limit {
                limit: Limit::Boundary,
                asked: self.bytes,
                max: self.demand.limits.room(addr),
            });
        }
        Ok(())
    }

    fn check_align(&self, addr: u64, align: u64) -> Result<(), NotLinear> {
        // A mask, as the alignment is a power of two; zero is none.
        match addr & align.saturating_sub(1) {
            0 => Ok(()),
            excess => Err(NotLinear::Alignment { align, excess }),
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(phyr_linear_plan)]
mod tests {
    use super::*;
    use crate::{
        model,
        types::PhysAddr, //
    };

    const G: u64 = 4096;

    /// A device behind an IOMMU that can do everything.
    fn translated() -> Demand {
        Demand {
            granule: Granule::new(G),
            limits: Limits::NONE,
            max_len: u64::MAX,
            mask: u64::MAX,
            bounces: false,
            align: 1,
        }
    }

    fn direct() -> Demand {
        Demand {
            granule: None,
            ..translated()
        }
    }

    fn limits(limits: Option<Limits>) -> Limits {
        limits.unwrap_or(Limits::NONE)
    }

    /// Plans the phyrs in `list`, each an address and a length; without an IOMMU DMA addresses are
    /// physical ones.
    fn plan(demand: Demand, list: &[(u64, u64)]) -> Result<Shape, NotLinear> {
        let mut planner = LinearPlanner::new(demand);
        for &(addr, len) in list {
            // CAST: the numbers are those of a test.
            let phyr = Phyr::new(PhysAddr::from_raw(addr), len as usize);
            planner.push(phyr.map_err(|_| NotLinear::Empty)?)?;
        }
        planner.finish(|paddr| paddr)
    }

    fn range(start: u64, len: u64, reserve: u64) -> Result<Shape, NotLinear> {
        Ok(Shape::Range {
            start,
            len,
            reserve,
        })
    }

    fn misaligned(phyr: usize, edge: Edge, offset: u64) -> Result<Shape, NotLinear> {
        Err(NotLinear::Misaligned {
            phyr,
            edge,
            offset,
            granule: G,
        })
    }

    fn over(limit: Limit, asked: u64, max: u64) -> Result<Shape, NotLinear> {
        Err(NotLinear::Limit { limit, asked, max })
    }

    #[test]
    fn nothing_is_empty() {
        assert_eq!(plan(translated(), &[]), Err(NotLinear::Empty));
        assert_eq!(plan(direct(), &[]), Err(NotLinear::Empty));
    }

    #[test]
    fn whole_granules_are_linear_behind_an_iommu() {
        let list = [(9 * G, G), (3 * G, 2 * G), (G, G)];
        assert_eq!(plan(translated(), &list), range(9 * G, 4 * G, 4 * G));
        // An offset in front and a short end.
        let list = [(9 * G + 1, G - 1), (3 * G, 1)];
        assert_eq!(plan(translated(), &list), range(9 * G + 1, G, G));
        assert_eq!(plan(translated(), &[(5, 6)]), range(5, 6, 6));
    }

    #[test]
    fn adjacent_phyrs_are_linear_wherever_they_meet() {
        let list = [(G + 1, 5), (G + 6, G), (2 * G + 6, 1)];
        assert_eq!(plan(translated(), &list), range(G + 1, G + 6, G + 6));
        let direct = plan(direct(), &list);
        assert_eq!(
            direct,
            Ok(Shape::Direct {
                start: G + 1,
                len: G + 6
            })
        );
    }

    #[test]
    fn without_an_iommu_scattered_is_not_linear() {
        let list = [(G, G), (2 * G, G), (4 * G, G)];
        let reason = NotLinear::NotTranslated {
            phyr: 2,
            offset: 2 * G,
        };
        assert_eq!(plan(direct(), &list), Err(reason));
        // A granule before or behind, the same page again, one byte off.
        for addr in [0, G, 3 * G, 2 * G - 1, 2 * G + 1] {
            let reason = NotLinear::NotTranslated { phyr: 1, offset: G };
            assert_eq!(plan(direct(), &[(G, G), (addr, G)]), Err(reason));
        }
    }

    #[test]
    fn what_does_not_join_is_named() {
        let three = |second: (u64, u64)| plan(translated(), &[(G, G), second, (9 * G, G)]);

        assert_eq!(three((5 * G + 1, G - 1)), misaligned(1, Edge::Start, G));
        assert_eq!(three((5 * G, G - 1)), misaligned(1, Edge::End, 2 * G - 1));
        assert_eq!(three((5 * G, 1)), misaligned(1, Edge::End, G + 1));
        let list = [(G, G + 1), (5 * G + 1, G)];
        let gap = NotLinear::Gap {
            phyr: 1,
            offset: G + 1,
        };
        assert_eq!(plan(translated(), &list), Err(gap));
    }

    #[test]
    fn lengths_at_their_limits() {
        let max = limits(Limits::NONE.with_max_segment(2 * G));
        for demand in [translated(), direct()] {
            let demand = Demand {
                limits: max,
                ..demand
            };
            assert!(plan(demand, &[(G, G), (2 * G, G)]).is_ok());
            let long = plan(demand, &[(G, G), (2 * G, G + 1)]);
            assert_eq!(long, over(Limit::Segment, 2 * G + 1, 2 * G));

            let demand = Demand {
                limits: Limits::NONE,
                max_len: 3 * G,
                ..demand
            };
            assert!(plan(demand, &[(G, 3 * G)]).is_ok());
            let long = plan(demand, &[(G, 3 * G + 1)]);
            assert_eq!(long, over(Limit::MappingSize, 3 * G + 1, 3 * G));
        }
    }

    #[test]
    fn boundaries() {
        let limits = limits(Limits::NONE.with_boundary_mask(4 * G - 1));
        let demand = Demand {
            limits,
            ..translated()
        };
        // Where the range begins can be chosen, but not within its granule.
        assert_eq!(plan(demand, &[(G, 4 * G)]), range(G, 4 * G, 4 * G));
        assert_eq!(
            plan(demand, &[(G, 4 * G + 1)]),
            over(Limit::Boundary, 4 * G + 1, 4 * G)
        );
        assert_eq!(
            plan(demand, &[(1, 4 * G)]),
            over(Limit::Boundary, 4 * G, 4 * G - 1)
        );
        // Three granules need the room of four, to be aligned.
        assert_eq!(plan(demand, &[(G, 2 * G + 1)]), range(G, 2 * G + 1, 4 * G));
        assert_eq!(plan(demand, &[(1, 3 * G)]), range(1, 3 * G, 4 * G - 1));

        let demand = Demand { limits, ..direct() };
        assert!(plan(demand, &[(4 * G, 4 * G)]).is_ok());
        assert!(plan(demand, &[(3 * G, G)]).is_ok());
        assert_eq!(
            plan(demand, &[(3 * G, G + 1)]),
            over(Limit::Boundary, G + 1, G)
        );
    }

    #[test]
    fn masks() {
        let demand = Demand {
            mask: 8 * G - 1,
            ..direct()
        };
        assert!(plan(demand, &[(7 * G, G)]).is_ok());
        assert_eq!(
            plan(demand, &[(7 * G + 1, G)]),
            over(Limit::Mask, 8 * G, 8 * G - 1)
        );
        assert_eq!(plan(direct(), &[(u64::MAX - G, G)]).is_ok(), true);

        // Behind an IOMMU the memory may be anywhere, but the range must fit.
        let demand = Demand {
            mask: 8 * G - 1,
            ..translated()
        };
        assert_eq!(
            plan(demand, &[(99 * G, 8 * G)]),
            range(99 * G, 8 * G, 8 * G)
        );
        assert_eq!(
            plan(demand, &[(99 * G, 8 * G + 1)]),
            over(Limit::Mask, 9 * G - 1, 8 * G - 1)
        );
    }

    #[test]
    fn alignments() {
        let align = |align| Demand {
            align,
            ..translated()
        };
        // Taken as room.
        assert_eq!(plan(align(16 * G), &[(G, G)]), range(G, G, 16 * G));
        assert_eq!(
            plan(align(16 * G), &[(G, 17 * G)]),
            range(G, 17 * G, 17 * G)
        );
        assert_eq!(plan(align(G), &[(G, 1)]), range(G, 1, 1));
        assert_eq!(plan(align(512), &[(512, 1)]), range(512, 1, 1));
        // The offset within a granule is the memory's.
        let excess = |align, excess| Err(NotLinear::Alignment { align, excess });
        assert_eq!(plan(align(16 * G), &[(G + 8, G)]), excess(16 * G, 8));
        assert_eq!(plan(align(512), &[(G + 513, 1)]), excess(512, 1));

        let align = |align| Demand { align, ..direct() };
        assert!(plan(align(2 * G), &[(2 * G, G)]).is_ok());
        assert_eq!(plan(align(2 * G), &[(3 * G, G)]), excess(2 * G, G));
        // Room for an alignment counts.
        let demand = Demand {
            mask: 8 * G - 1,
            align: 16 * G,
            ..translated()
        };
        assert_eq!(
            plan(demand, &[(G, G)]),
            over(Limit::Mask, 16 * G - 1, 8 * G - 1)
        );
    }

    #[test]
    fn copies_are_refused() {
        let bounces = |demand| Demand {
            bounces: true,
            ..demand
        };
        assert_eq!(plan(bounces(direct()), &[(G, G)]), Err(NotLinear::Bounced));
        // Behind an IOMMU only what is not whole granules is copied.
        let demand = bounces(translated());
        assert_eq!(plan(demand, &[(G, G), (3 * G, G)]), range(G, 2 * G, 2 * G));
        for list in [[(G + 1, G - 1), (3 * G, G)], [(G, G), (3 * G, G - 1)]] {
            assert_eq!(plan(demand, &list), Err(NotLinear::Bounced));
        }
    }

    #[test]
    fn long_ranges_and_overflow() {
        // 8 EiB less a page: the last that the DMA API can allocate.
        let max = (1 << 63) - G;
        assert_eq!(plan(translated(), &[(0, max)]), range(0, max, max));
        assert_eq!(
            plan(translated(), &[(0, max + 1)]),
            Err(NotLinear::Overflow)
        );
        let half = 1 << 63;
        let list = [(0, half), (0, half)];
        assert_eq!(plan(translated(), &list), Err(NotLinear::Overflow));
        // No 32 bits anywhere.
        let list = [(0, 3 << 30), (4 << 30, 3 << 30)];
        assert_eq!(plan(translated(), &list), range(0, 6 << 30, 6 << 30));
    }

    #[test]
    fn random_lists_match_the_model() {
        let mut random = model::Random::new(0x6c696e65);
        let mut linear = 0;
        let mut wrong = 0;

        for _ in 0..4000 {
            let granule = Granule::new(16);
            let demand = match random.below(4) {
                0 => direct(),
                _ => Demand {
                    granule,
                    ..translated()
                },
            };
            let list = model::List::almost_linear(&mut random, granule.unwrap_or(Granule::ONE));
            let mut planner = LinearPlanner::new(demand);
            let mut result = Ok(());
            for phyr in list.iter() {
                result = result.and_then(|()| planner.push(phyr));
            }
            let planned = result.and_then(|()| planner.finish(|paddr| paddr)).is_ok();
            let model = model::is_linear(&list, demand.granule);
            linear += i32::from(model);
            wrong += i32::from(planned != model);
        }
        assert_eq!(wrong, 0);
        // Of both kinds there were enough.
        assert!((400..3600).contains(&linear));
    }
}
