// SPDX-License-Identifier: GPL-2.0

//! The planner at its edges, and against the model.

#[kernel::prelude::kunit_tests(phyr_map_plan)]
mod tests {
    use super::super::{
        plan::{
            Join,
            Plan,
            PlanError,
            Planner,
            PushPhyr,
            UnlimitedPlanner,
            MAX_LEN, //
        },
        plan_model, //
    };
    use crate::{
        limits::Limits,
        model,
        types::{
            Granule,
            Phyr,
            PhysAddr, //
        }, //
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

    /// The plan of the phyrs in `list`, and the number of those that begin.
    fn push(mut planner: impl PushPhyr, list: &[(u64, usize)]) -> Result<(Plan, usize), PlanError> {
        let mut begins = 0;
        for &(addr, len) in list {
            let Ok(phyr) = Phyr::new(PhysAddr::from_raw(addr), len) else {
                return Err(PlanError::Overflow);
            };
            begins += usize::from(planner.push(phyr)? == Join::Begins);
        }
        Ok((PushPhyr::plan(&planner)?, begins))
    }

    /// Number of runs, and of granules in the packed allocation.
    fn shape(list: &[(u64, usize)]) -> Option<(usize, u64)> {
        let plan = plan(Limits::NONE, list).ok()?;
        Some((plan.runs, plan.packed?.len / G))
    }

    /// The same without limits.
    fn unlimited(list: &[(u64, usize)]) -> Result<(Plan, usize), PlanError> {
        let planner = UnlimitedPlanner::new(granule(), &Limits::NONE).ok_or(PlanError::Empty)?;
        push(planner, list)
    }

    /// The same by the planner that has limits, though there are none.
    fn limited(list: &[(u64, usize)]) -> Result<(Plan, usize), PlanError> {
        push(Planner::new(granule(), Limits::NONE), list)
    }

    #[test]
    fn without_limits_the_plan_is_the_same() {
        let mut random = model::Random::new(0x756e_6c69);
        let mut wrong = 0;
        for _ in 0..3000 {
            let mut list = [(0u64, 0usize); 12];
            let nr = 1 + random.below(12) as usize;
            for at in list.iter_mut() {
                let (offset, len) = match random.below(3) {
                    0 => (0, G * (1 + random.below(4))),
                    1 => (random.below(G), 1 + random.below(2 * G)),
                    _ => (512 * random.below(8), 512 * (1 + random.below(16))),
                };
                // CAST: small.
                *at = (G * (1 + random.below(1 << 20)) + offset, len as usize);
            }
            let list = list.get(..nr).unwrap_or(&[]);
            let same = match (plan(Limits::NONE, list), unlimited(list)) {
                (Ok(plan), Ok((same, begins))) => plan == same && begins == plan.runs,
                _ => false,
            };
            wrong += u32::from(!same || limited(list) != unlimited(list));
        }
        assert_eq!(wrong, 0);
    }

    #[test]
    fn without_limits_it_ends_at_the_longest_range() {
        assert_eq!(unlimited(&[]), Err(PlanError::Empty));
        assert_eq!(limited(&[]), Err(PlanError::Empty));
        // CAST: a `usize` has 64 bits.
        let (most, small) = (MAX_LEN as usize, MAX_LEN as usize / 2);
        for (list, fits) in [
            (&[(0, most)][..], true),
            (&[(0, most + 1)], false),
            (&[(1, most)], false),
            (&[(0, usize::MAX)], false),
            (&[(0, small), (G, small)], true),
            (&[(0, small), (G, small + 1)], false),
            (&[(0, small), (1, 1)], true),
            (&[(0, 1), (1, usize::MAX - 1)], false),
        ] {
            assert_eq!(unlimited(list).is_ok(), fits);
            assert!(!fits || limited(list) == unlimited(list));
        }
        assert_eq!(limited(&[(0, most + 1)]), Err(PlanError::Overflow));
        let limits = [
            (Limits::NONE, true),
            (
                Limits::NONE
                    .with_max_segment(MAX_LEN)
                    .unwrap_or(Limits::NONE),
                true,
            ),
            (
                Limits::NONE
                    .with_max_segment(MAX_LEN - 1)
                    .unwrap_or(Limits::NONE),
                false,
            ),
            (
                Limits::NONE
                    .with_boundary_mask(u64::MAX >> 1)
                    .unwrap_or(Limits::NONE),
                false,
            ),
        ];
        for (limits, fits) in limits {
            assert_eq!(UnlimitedPlanner::new(granule(), &limits).is_some(), fits);
        }
        for (size, fits) in [
            (1, false),
            (2, true),
            (1 << 32, true),
            (1 << 33, false),
            (1 << 63, false),
        ] {
            let granule = Granule::new(size).unwrap_or(Granule::ONE);
            assert_eq!(
                UnlimitedPlanner::new(granule, &Limits::NONE).is_some(),
                fits
            );
        }
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
        // One byte after a granule's beginning: a gap.
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
        for (len, place) in [(half, Join::Begins), (half - 2, Join::Extends)] {
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
        // Those that no queue has.
        let none = Limits::of_queue(0, 0);
        assert!(!none.allow_range(1, 1) && none.max_len_at(1) == 1);

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
            if let Err(e) = plan_model::check(&list, granule(), limits) {
                wrong = Some(e);
            }
        }
        assert_eq!(wrong, None);
    }
}
