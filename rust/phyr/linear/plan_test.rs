// SPDX-License-Identifier: GPL-2.0

//! The linear planner at its edges, and against a model.

#[kernel::prelude::kunit_tests(phyr_linear_plan)]
mod tests {
    use crate::{
        limits::Limits,
        linear::{
            error::{
                Edge,
                Limit,
                LinearError, //
            },
            model::first_break,
            plan::{
                Constraints,
                LinearPlan,
                LinearPlanner, //
            }, //
        },
        model,
        types::{
            Granule,
            Phyr,
            PhysAddr, //
        }, //
    };

    const G: u64 = 4096;

    /// Returns the constraints of a device behind an IOMMU that can do everything.
    fn translated() -> Constraints {
        Constraints {
            granule: Granule::new(G),
            limits: Limits::NONE,
            max_len: u64::MAX,
            first: 0,
            mask: u64::MAX,
            bounces: false,
            align: 1,
        }
    }

    fn direct() -> Constraints {
        Constraints {
            granule: None,
            ..translated()
        }
    }

    fn limits(limits: Option<Limits>) -> Limits {
        limits.unwrap_or(Limits::NONE)
    }

    /// Plans the phyrs in `list`, each an address and a length; without an IOMMU DMA addresses are
    /// physical ones.
    fn plan(constraints: Constraints, list: &[(u64, u64)]) -> Result<LinearPlan, LinearError> {
        let mut planner = LinearPlanner::new(constraints);
        for &(addr, len) in list {
            // CAST: the numbers are those of a test.
            let phyr = Phyr::new(PhysAddr::from_raw(addr), len as usize);
            planner.push(phyr.map_err(|_| LinearError::Empty)?)?;
        }
        planner.finish(|paddr| paddr)
    }

    fn range(start: u64, len: u64, reserve: u64) -> Result<LinearPlan, LinearError> {
        Ok(LinearPlan::Range {
            start,
            len,
            reserve,
        })
    }

    fn misaligned(phyr: usize, edge: Edge, offset: u64) -> Result<LinearPlan, LinearError> {
        Err(LinearError::Misaligned {
            phyr,
            edge,
            offset,
            granule: G,
        })
    }

    fn over(limit: Limit, asked: u64, max: u64) -> Result<LinearPlan, LinearError> {
        Err(LinearError::Limit { limit, asked, max })
    }

    #[test]
    fn nothing_is_empty() {
        assert_eq!(plan(translated(), &[]), Err(LinearError::Empty));
        assert_eq!(plan(direct(), &[]), Err(LinearError::Empty));
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
            Ok(LinearPlan::Direct {
                start: G + 1,
                len: G + 6
            })
        );
    }

    #[test]
    fn without_an_iommu_scattered_is_not_linear() {
        let list = [(G, G), (2 * G, G), (4 * G, G)];
        let reason = LinearError::NotTranslated {
            phyr: 2,
            offset: 2 * G,
        };
        assert_eq!(plan(direct(), &list), Err(reason));
        // A granule before or after, the same page again, one byte off.
        for addr in [0, G, 3 * G, 2 * G - 1, 2 * G + 1] {
            let reason = LinearError::NotTranslated { phyr: 1, offset: G };
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
        let gap = LinearError::Gap {
            phyr: 1,
            offset: G + 1,
        };
        assert_eq!(plan(translated(), &list), Err(gap));
    }

    #[test]
    fn lengths_at_their_limits() {
        let max = limits(Limits::NONE.with_max_segment(2 * G));
        for constraints in [translated(), direct()] {
            let constraints = Constraints {
                limits: max,
                ..constraints
            };
            assert!(plan(constraints, &[(G, G), (2 * G, G)]).is_ok());
            let long = plan(constraints, &[(G, G), (2 * G, G + 1)]);
            assert_eq!(long, over(Limit::Segment, 2 * G + 1, 2 * G));

            let constraints = Constraints {
                limits: Limits::NONE,
                max_len: 3 * G,
                ..constraints
            };
            assert!(plan(constraints, &[(G, 3 * G)]).is_ok());
            let long = plan(constraints, &[(G, 3 * G + 1)]);
            assert_eq!(long, over(Limit::MappingSize, 3 * G + 1, 3 * G));
        }
    }

    /// Ranges lie at multiples of their length, rounded up to a power of two.
    #[test]
    fn region_of_a_mapper_of_its_own() {
        let space = |first: u64, granules: u64| Constraints {
            max_len: granules * G,
            first: first * G,
            mask: (first + granules) * G - 1,
            ..translated()
        };
        let plan = |constraints, granules: u64| {
            plan(constraints, &[(G, (granules - 1) * G), (9 * G, G)]).err()
        };
        let over = |asked, granules| LinearError::Limit {
            limit: Limit::MappingSize,
            asked,
            max: granules * G,
        };
        assert_eq!(plan(space(64, 64), 64), None);
        assert_eq!(plan(space(64, 64), 65), Some(over(65 * G, 64)));
        // Long enough, but not where such a range could be.
        assert_eq!(plan(space(64, 96), 80), Some(LinearError::NoSpace));
        assert_eq!(plan(space(64, 96), 64), None);
        assert_eq!(plan(space(65, 64), 33), Some(LinearError::NoSpace));
        assert_eq!(plan(space(65, 64), 32), None);
        assert_eq!(plan(space(64, 96), 97), Some(over(97 * G, 96)));
    }

    #[test]
    fn boundaries() {
        let limits = limits(Limits::NONE.with_boundary_mask(4 * G - 1));
        let constraints = Constraints {
            limits,
            ..translated()
        };
        // Where the range begins can be chosen, but not within its granule.
        assert_eq!(plan(constraints, &[(G, 4 * G)]), range(G, 4 * G, 4 * G));
        assert_eq!(
            plan(constraints, &[(G, 4 * G + 1)]),
            over(Limit::Boundary, 4 * G + 1, 4 * G)
        );
        assert_eq!(
            plan(constraints, &[(1, 4 * G)]),
            over(Limit::Boundary, 4 * G, 4 * G - 1)
        );
        assert_eq!(
            plan(constraints, &[(G, 2 * G + 1)]),
            range(G, 2 * G + 1, 2 * G + 1)
        );
        assert_eq!(plan(constraints, &[(1, 3 * G)]), range(1, 3 * G, 3 * G));

        let constraints = Constraints { limits, ..direct() };
        assert!(plan(constraints, &[(4 * G, 4 * G)]).is_ok());
        assert!(plan(constraints, &[(3 * G, G)]).is_ok());
        assert_eq!(
            plan(constraints, &[(3 * G, G + 1)]),
            over(Limit::Boundary, G + 1, G)
        );
    }

    #[test]
    fn masks() {
        let constraints = Constraints {
            mask: 8 * G - 1,
            ..direct()
        };
        assert!(plan(constraints, &[(7 * G, G)]).is_ok());
        assert_eq!(
            plan(constraints, &[(7 * G + 1, G)]),
            over(Limit::Mask, 8 * G, 8 * G - 1)
        );
        assert_eq!(plan(direct(), &[(u64::MAX - G, G)]).is_ok(), true);

        // Behind an IOMMU the memory may be anywhere, but the range must fit: at a multiple of its
        // length, and not at zero.
        let constraints = Constraints {
            mask: 8 * G - 1,
            ..translated()
        };
        assert_eq!(
            plan(constraints, &[(99 * G, 4 * G)]),
            range(99 * G, 4 * G, 4 * G)
        );
        assert_eq!(
            plan(constraints, &[(99 * G, 4 * G + 1)]),
            over(Limit::Mask, 13 * G - 1, 8 * G - 1)
        );
    }

    /// Without an IOMMU, DMA addresses are what the bus makes of physical ones.
    #[test]
    fn a_bus_may_shift_memory() {
        let plan = |len, to_dma: &dyn Fn(u64) -> u64| {
            let mut planner = LinearPlanner::new(direct());
            // CAST: a few granules.
            let phyr = Phyr::new(PhysAddr::from_raw(8 * G), len as usize);
            planner.push(phyr.map_err(|_| LinearError::Empty)?)?;
            planner.finish(to_dma)
        };
        let shape = |len| Ok(LinearPlan::Direct { start: 8 * G, len });
        assert_eq!(plan(2 * G, &|paddr| paddr - 4 * G), shape(2 * G));
        // Nothing from 9 granules on.
        let short = |paddr| if paddr < 9 * G { paddr } else { u64::MAX };
        assert_eq!(plan(G, &short), shape(G));
        let mask = over(Limit::Mask, 9 * G, u64::MAX);
        assert_eq!(plan(G + 1, &short), mask);
        // Another distance from there on.
        let other = |paddr| if paddr < 9 * G { paddr } else { paddr + G };
        assert_eq!(plan(G, &other), shape(G));
        let gap = LinearError::Gap { phyr: 0, offset: G };
        assert_eq!(plan(G + 1, &other), Err(gap));
    }

    #[test]
    fn alignments() {
        let align = |align| Constraints {
            align,
            ..translated()
        };
        // Taken as free.
        assert_eq!(plan(align(16 * G), &[(G, G)]), range(G, G, 16 * G));
        assert_eq!(
            plan(align(16 * G), &[(G, 17 * G)]),
            range(G, 17 * G, 17 * G)
        );
        assert_eq!(plan(align(G), &[(G, 1)]), range(G, 1, 1));
        assert_eq!(plan(align(512), &[(512, 1)]), range(512, 1, 1));
        // The offset within a granule is the memory's.
        let excess = |align, excess| Err(LinearError::Alignment { align, excess });
        assert_eq!(plan(align(16 * G), &[(G + 8, G)]), excess(16 * G, 8));
        assert_eq!(plan(align(512), &[(G + 513, 1)]), excess(512, 1));

        let align = |align| Constraints { align, ..direct() };
        assert!(plan(align(2 * G), &[(2 * G, G)]).is_ok());
        assert_eq!(plan(align(2 * G), &[(3 * G, G)]), excess(2 * G, G));
        // No address is a multiple of the highest bit but zero, which is never given out.
        let align = |align| Constraints {
            align,
            ..translated()
        };
        let reserve = 1 << 62;
        assert_eq!(plan(align(reserve), &[(G, G)]), range(G, G, reserve));
        assert_eq!(plan(align(1 << 63), &[(G, G)]), Err(LinearError::Overflow));
        // Space for an alignment counts.
        let constraints = Constraints {
            mask: 8 * G - 1,
            align: 16 * G,
            ..translated()
        };
        assert_eq!(
            plan(constraints, &[(G, G)]),
            over(Limit::Mask, 32 * G - 1, 8 * G - 1)
        );
    }

    #[test]
    fn copies_are_refused() {
        let bounces = |constraints| Constraints {
            bounces: true,
            ..constraints
        };
        assert_eq!(
            plan(bounces(direct()), &[(G, G)]),
            Err(LinearError::Bounced)
        );
        // Not for being long: a shorter one would be refused as well.
        let constraints = Constraints {
            max_len: G,
            ..bounces(direct())
        };
        assert_eq!(plan(constraints, &[(G, 2 * G)]), Err(LinearError::Bounced));
        // Behind an IOMMU only what is not whole granules is copied.
        let constraints = bounces(translated());
        assert_eq!(
            plan(constraints, &[(G, G), (3 * G, G)]),
            range(G, 2 * G, 2 * G)
        );
        for list in [[(G + 1, G - 1), (3 * G, G)], [(G, G), (3 * G, G - 1)]] {
            assert_eq!(plan(constraints, &list), Err(LinearError::Bounced));
        }
    }

    #[test]
    fn long_ranges_and_overflow() {
        // 8 EiB less a page: more, and the DMA API would take a bit of it for a mark of its own.
        let max = (1 << 63) - G;
        assert_eq!(plan(translated(), &[(0, max)]), range(0, max, max));
        assert_eq!(
            plan(translated(), &[(0, max + 1)]),
            Err(LinearError::Overflow)
        );
        let half = 1 << 63;
        let list = [(0, half), (0, half)];
        assert_eq!(plan(translated(), &list), Err(LinearError::Overflow));
        // The length can be said, but not rounded up, or not with the offset in front of it.
        let list = [(0, half), (0, half - 1)];
        assert_eq!(plan(translated(), &list), Err(LinearError::Overflow));
        let list = [(512, G - 512), (0, (G - 1).wrapping_neg() - 1)];
        assert_eq!(plan(translated(), &list), Err(LinearError::Overflow));
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
            let constraints = match random.below(4) {
                0 => direct(),
                _ => Constraints {
                    granule,
                    ..translated()
                },
            };
            let list = model::List::almost_linear(&mut random, granule.unwrap_or(Granule::ONE));
            let mut planner = LinearPlanner::new(constraints);
            let mut result = Ok(());
            for phyr in list.iter() {
                result = result.and_then(|()| planner.push(phyr));
            }
            let len = list.iter().map(|phyr| phyr.len() as u64).sum();
            let start = list.iter().next().map_or(0, |phyr| phyr.paddr().into_raw());
            let planned = result.and_then(|()| planner.finish(|paddr| paddr));
            // Where the planner says that it is, and whether the model says so, too.
            let right = match (planned, first_break(&list, constraints.granule)) {
                (
                    Ok(LinearPlan::Direct {
                        start: at,
                        len: long,
                    }),
                    None,
                ) => constraints.granule.is_none() && (at, long) == (start, len),
                (
                    Ok(LinearPlan::Range {
                        start: at,
                        len: long,
                        reserve,
                    }),
                    None,
                ) => constraints.granule.is_some() && (at, long, reserve) == (start, len, len),
                (Err(reason), Some(broken)) => reason == broken,
                _ => false,
            };
            linear += i32::from(planned.is_ok());
            wrong += i32::from(!right);
        }
        assert_eq!(wrong, 0);
        // Of both kinds there were enough.
        assert!((400..3600).contains(&linear));
    }
}
