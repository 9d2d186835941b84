// SPDX-License-Identifier: GPL-2.0

//! Oracles of the planner: in numbers that cannot overflow, and against the model of the kernel.

use crate::{
    map::plan::{
        Join,
        Packed,
        PlanError,
        Planner, //
    },
    model,
    ranges::{
        phyr,
        up,
        END, //
    },
    Granule,
    Input,
    Limits, //
};

pub fn granule(input: &mut Input<'_>) -> Granule {
    let shift = match input.below(4) {
        0 => input.below(64),
        1 => 16,
        _ => 12,
    };
    Granule::new(1 << shift).expect("a power of two")
}

pub fn limits(input: &mut Input<'_>) -> Limits {
    let mut limits = Limits::NONE;
    if input.once_in(2) {
        let bytes = input.number();
        match limits.with_max_segment(bytes) {
            Some(with) => limits = with,
            None => assert_eq!(bytes, 0),
        }
    }
    if input.once_in(2) {
        let mask = input.number();
        match limits.with_boundary_mask(mask) {
            Some(with) => limits = with,
            None => assert!(!(u128::from(mask) + 1).is_power_of_two()),
        }
    }
    limits
}

/// Returns the distance from `start` to where the limits end a segment, in whole boundaries.
pub fn max_len_at(limits: &Limits, start: u128) -> u128 {
    let boundary = u128::from(limits.boundary_mask()) + 1;
    u128::from(limits.max_segment()).min((start / boundary + 1) * boundary - start)
}

/// Checks plans run by run in numbers that cannot overflow; an overflow is found at the end.
pub fn check(input: &mut Input<'_>) {
    let (granule, limits) = (granule(input), limits(input));
    let g = granule.size();
    let mut planner = Planner::new(granule, limits);
    // Of each run: where it lies in the allocation, and its length.
    let mut runs: Vec<(u128, u128)> = Vec::new();
    let (mut phyrs, mut bytes, mut end) = (0, 0u128, 0u128);

    assert_eq!(planner.plan(), Err(PlanError::Empty));
    while !input.is_empty() {
        let (addr, len) = match input.below(4) {
            0 => (input.number(), input.number()),
            1 => (input.below(64) * g.min(1 << 50), input.number()),
            2 => (input.below(1 << 20), 1 + input.below(1 << 20)),
            _ => (
                input.below(64) * g.min(1 << 50),
                (1 + input.below(4)) * g.min(1 << 50),
            ),
        };
        let Ok(next) = phyr(addr, len) else { continue };
        let (start, len) = (u128::from(addr), u128::from(len));

        let joins = runs.last().filter(|run| {
            phyrs != 0
                && end % u128::from(g) == 0
                && start % u128::from(g) == 0
                && run.1 + len <= max_len_at(&limits, run.0 % u128::from(g))
        });
        let run = match joins {
            Some(run) => (run.0, run.1 + len),
            None => {
                let pos = runs.last().map_or(0, |run| run.0 + run.1);
                (up(pos, g) + start % u128::from(g), len)
            }
        };
        // Of a run that goes on, only the end is looked at: where it is rounded up, in the plan.
        let too_long = match joins {
            Some(_) => run.0 + run.1 >= END,
            None => up(run.0 + run.1, g) >= END,
        };
        let before = planner.clone();
        let got = planner.push(next);
        if bytes + len >= END || too_long {
            assert_eq!(got, Err(PlanError::Overflow));
            assert_eq!(planner.plan(), before.plan());
            assert_eq!(planner.last_run(), before.last_run());
            continue;
        }
        let place = if joins.is_some() {
            runs.pop();
            Join::Extends
        } else {
            Join::Begins
        };
        runs.push(run);
        (phyrs, bytes, end) = (phyrs + 1, bytes + len, start + len);

        assert_eq!(got, Ok(place));
        assert_eq!(planner.last_run(), (run.0 as u64, run.1 as u64));
        let taken = up(run.0 + run.1, g);
        if taken >= END {
            assert_eq!(planner.plan(), Err(PlanError::Overflow));
            continue;
        }
        let plan = planner.plan().expect("a plan");
        assert_eq!((plan.phyrs, plan.runs), (phyrs, runs.len()));
        assert_eq!(u128::from(plan.bytes), bytes);
        let fits = runs.iter().all(|run| run.1 <= max_len_at(&limits, run.0));
        let packed = fits.then_some(Packed { len: taken as u64 });
        assert_eq!(plan.packed, packed);
    }
}

/// Checks lists that are small enough for the model, which looks up every granule.
pub fn check_model(input: &mut Input<'_>) {
    let granule = Granule::new(1 << input.pick(&[12, 0, 1, 4, 14, 16])).expect("a power of two");
    let g = granule.size();
    // No phyr is over a limit: its source sees to that.
    let limits = match input.below(3) {
        0 => Some(Limits::NONE),
        1 => Limits::NONE.with_max_segment(g * (5 + input.below(8)) + input.below(g)),
        _ => Limits::NONE.with_boundary_mask((g << (3 + input.below(4))) - 1),
    };
    let limits = limits.expect("limits");
    let list: model::List = (0..=input.below(model::MAX as u64 - 1))
        .map(|_| {
            let (addr, len) = match input.below(4) {
                0 => (g * (1 + input.below(64)), g * (1 + input.below(4))),
                1 => (g * (1 + input.below(64)), 1 + input.below(4 * g)),
                2 => (
                    g * (1 + input.below(64)) + input.below(g),
                    1 + input.below(4 * g),
                ),
                _ => {
                    // To the end of a granule.
                    let offset = input.below(g);
                    (g * (1 + input.below(64)) + offset, g - offset)
                }
            };
            phyr(addr, cut(&limits, addr, len)).expect("a small phyr")
        })
        .collect();
    if let Err(wrong) = crate::map::plan_model::check(&list, granule, limits) {
        panic!("{wrong}");
    }
}

/// Returns how many of `len` bytes at `addr` are within the limits.
fn cut(limits: &Limits, addr: u64, len: u64) -> u64 {
    max_len_at(limits, addr.into()).min(len.into()) as u64
}
