// SPDX-License-Identifier: GPL-2.0

//! Oracles: what the linear planner gives can be had, and each reason of a refusal is true. As one
//! of the two always is, it refuses exactly what cannot be had.

use super::{
    plan::{
        Constraints,
        LinearPlan, //
        LinearPlanner,
    },
    Edge,
    Limit,
    LinearError, //
};
use crate::{
    model,
    planner,
    ranges::{
        phyr,
        up,
        END, //
    },
    Granule,
    Input,
    Limits,
    Phyr, //
};

/// The bus of a device: parts of memory may be at other addresses, and out of reach.
#[derive(Clone, Copy)]
struct Bus {
    shift: u64,
    /// From here on memory is `step` bytes further.
    seam: u64,
    step: u64,
    end: u64,
}

impl Bus {
    fn new(input: &mut Input<'_>) -> Self {
        let mut bus = Self {
            shift: 0,
            seam: u64::MAX,
            step: 0,
            end: u64::MAX,
        };
        match input.below(5) {
            0 => bus.shift = input.number(),
            1 => bus.end = input.number(),
            2 => (bus.seam, bus.step) = (input.number(), input.number()),
            _ => {}
        }
        bus
    }

    fn to_dma(self, paddr: u64) -> u64 {
        if paddr >= self.end {
            return u64::MAX;
        }
        let step = if paddr < self.seam { 0 } else { self.step };
        paddr.wrapping_add(self.shift).wrapping_add(step)
    }
}

fn constraints(input: &mut Input<'_>) -> Constraints {
    Constraints {
        granule: input.once_in(2).then(|| planner::granule(input)),
        limits: planner::limits(input),
        max_len: if input.once_in(4) {
            input.number()
        } else {
            u64::MAX
        },
        first: if input.once_in(4) { input.number() } else { 0 },
        mask: if input.once_in(2) {
            u64::MAX >> input.below(64)
        } else {
            u64::MAX
        },
        bounces: input.once_in(4),
        align: if input.once_in(2) {
            1 << input.below(64)
        } else {
            input.below(2)
        },
    }
}

/// Makes phyrs most of which go on where a granule, or the one before, ends.
fn phyrs(input: &mut Input<'_>, granule: Option<Granule>) -> Vec<Phyr> {
    let g = granule.map_or(4096, Granule::size).min(1 << 50);
    let mut end = g * (1 + input.below(64));
    input
        .list(8, |input| {
            let addr = match input.below(8) {
                0 => input.number(),
                1 => g * (1 + input.below(1 << 10)) + input.below(g),
                2..=4 => g * (1 + input.below(1 << 10)),
                _ => end,
            };
            let len = match input.below(8) {
                0 => input.number(),
                1 | 2 => 1 + input.below(4 * g),
                _ => (g - addr % g) + g * input.below(8),
            };
            let phyr = phyr(addr, len).ok();
            end = phyr.map_or(end, Phyr::end);
            phyr
        })
        .into_iter()
        .flatten()
        .collect()
}

/// A request for a mapping, in numbers that do not overflow.
struct Case {
    constraints: Constraints,
    bus: Bus,
    start: u64,
    end: u64,
    bytes: u128,
}

pub fn check(input: &mut Input<'_>) {
    let (constraints, bus) = (constraints(input), Bus::new(input));
    let phyrs = phyrs(input, constraints.granule);
    let mut planner = LinearPlanner::new(constraints);
    let mut case = Case {
        constraints,
        bus,
        start: phyrs.first().map_or(0, |phyr| phyr.paddr().into_raw()),
        end: 0,
        bytes: 0,
    };

    for (nr, &phyr) in phyrs.iter().enumerate() {
        let start = phyr.paddr().into_raw();
        let wrong = (nr != 0 && start != case.end)
            .then(|| joint(nr, case.bytes as u64, case.end, start, constraints.granule))
            .flatten()
            .or((case.bytes + phyr.len() as u128 >= END).then_some(LinearError::Overflow));
        let got = planner.push(phyr);
        assert_eq!(got.err(), wrong);
        if wrong.is_some() {
            return;
        }
        case.bytes += phyr.len() as u128;
        case.end = phyr.end();
    }
    match planner.finish(|paddr| bus.to_dma(paddr)) {
        Ok(shape) => can_be_had(&case, shape),
        Err(reason) => is_true(&case, reason),
    }
}

/// Returns the reason for which what ends at `end` and what begins at `start` cannot be joined.
fn joint(
    phyr: usize,
    offset: u64,
    end: u64,
    start: u64,
    granule: Option<Granule>,
) -> Option<LinearError> {
    let Some(granule) = granule.map(Granule::size) else {
        return Some(LinearError::NotTranslated { phyr, offset });
    };
    let misaligned = |phyr, edge| LinearError::Misaligned {
        phyr,
        edge,
        offset,
        granule,
    };
    match (end % granule, start % granule) {
        (0, 0) => None,
        (0, _) => Some(misaligned(phyr, Edge::Start)),
        (_, 0) => Some(misaligned(phyr - 1, Edge::End)),
        _ => Some(LinearError::Gap { phyr, offset }),
    }
}

/// Returns whether `len` bytes at `addr` are on both sides of a boundary.
fn crosses(limits: &Limits, addr: u128, len: u128) -> bool {
    let boundary = u128::from(limits.boundary_mask()) + 1;
    addr / boundary != (addr + len - 1) / boundary
}

/// Returns the first place from `from` on for `span` bytes, by an allocator that aligns to the
/// length, rounded up to a power of two; and their length in granules. Nothing is at zero.
fn lowest(span: u128, granule: u64, from: u64) -> (u128, u128) {
    let whole = up(span, granule);
    let step = whole.next_power_of_two();
    (u128::from(from.max(1)).div_ceil(step) * step, whole)
}

fn can_be_had(case: &Case, shape: LinearPlan) {
    let constraints = &case.constraints;
    let aligned = |addr: u128| constraints.align == 0 || addr % u128::from(constraints.align) == 0;

    assert!(case.bytes != 0);
    assert!(case.bytes <= constraints.limits.max_segment().into());
    assert!(case.bytes <= constraints.max_len.into());
    match shape {
        LinearPlan::Direct { start, len } => {
            assert!(constraints.granule.is_none() && !constraints.bounces);
            assert_eq!((start, u128::from(len)), (case.start, case.bytes));
            let (first, last) = (case.bus.to_dma(start), case.bus.to_dma(start + (len - 1)));
            assert!(first != u64::MAX && last != u64::MAX);
            assert_eq!(u128::from(first) + case.bytes - 1, last.into());
            assert!(last <= constraints.mask && aligned(first.into()));
            assert!(!crosses(&constraints.limits, first.into(), case.bytes));
        }
        LinearPlan::Range {
            start,
            len,
            reserve,
        } => {
            let granule = constraints.granule.expect("an IOMMU").size();
            assert_eq!((start, u128::from(len)), (case.start, case.bytes));
            assert!(reserve >= len);
            let offset = u128::from(start % granule);
            assert!(!constraints.bounces || (offset == 0 && case.end % granule == 0));
            let span = offset + u128::from(reserve);
            let (place, whole) = lowest(span, granule, constraints.first);
            assert!(whole < 1 << 63 && place + whole - 1 <= constraints.mask.into());
            // Wherever else it may come to lie.
            for steps in [0, 1, 2, 4] {
                let addr = place + steps * whole.next_power_of_two() + offset;
                assert!(aligned(addr));
                assert!(!crosses(&constraints.limits, addr, case.bytes));
            }
        }
    }
}

fn is_true(case: &Case, reason: LinearError) {
    let constraints = &case.constraints;
    let limits = &constraints.limits;
    let offset = constraints
        .granule
        .map(|granule| case.start % granule.size());
    let reach = |paddr: u64| case.bus.to_dma(paddr);
    let last = || case.start + (case.bytes as u64 - 1);
    // Where the range begins, as far as it is known.
    let addr = || offset.unwrap_or_else(|| reach(case.start));
    // The longest range that is needed, where one is.
    let span = || {
        let align = constraints
            .granule
            .map_or(0, |granule| match constraints.align {
                align if align > granule.size() => align,
                _ => 0,
            });
        (u128::from(addr()) + case.bytes).max(align.into())
    };

    match reason {
        LinearError::Empty => assert_eq!(case.bytes, 0),
        LinearError::Limit { limit, asked, max } => {
            // Nothing is at all ones on the bus: that is what there is for what it does not reach.
            let unreachable = limit == Limit::Mask
                && constraints.granule.is_none()
                && (reach(case.start) == u64::MAX || reach(last()) == u64::MAX);
            assert!(asked > max || unreachable);
            match limit {
                Limit::Segment => {
                    assert_eq!((u128::from(asked), max), (case.bytes, limits.max_segment()));
                }
                Limit::MappingSize => {
                    assert_eq!((u128::from(asked), max), (case.bytes, constraints.max_len));
                }
                Limit::Boundary => {
                    assert_eq!(u128::from(asked), case.bytes);
                    assert_eq!(u128::from(max), planner::max_len_at(limits, addr().into()));
                    // The segment's length is another limit, and was looked at before.
                    assert!(crosses(limits, addr().into(), case.bytes));
                }
                Limit::Mask => {
                    assert_eq!(max, constraints.mask);
                    match constraints.granule {
                        Some(granule) => {
                            let (place, whole) = lowest(span(), granule.size(), constraints.first);
                            assert_eq!(u128::from(asked), place + whole - 1);
                            assert_eq!(constraints.first, 0);
                        }
                        None if unreachable => assert_eq!(asked, last()),
                        None => assert_eq!(asked, reach(last())),
                    }
                }
            }
        }
        LinearError::Gap { phyr: _, offset } => {
            // The memory is contiguous, on the bus it is not.
            assert!(constraints.granule.is_none());
            assert_eq!(u128::from(offset), case.bytes - 1);
            assert_ne!(
                u128::from(reach(case.start)) + case.bytes - 1,
                reach(last()).into()
            );
        }
        LinearError::Alignment { align, excess } => {
            assert_eq!(
                (align, excess),
                (constraints.align, addr() % constraints.align)
            );
            assert_ne!(excess, 0);
        }
        LinearError::Bounced => {
            assert!(constraints.bounces);
            let granule = constraints.granule.map_or(0, Granule::size);
            assert!(granule == 0 || addr() != 0 || case.end % granule != 0);
        }
        LinearError::Overflow => {
            let granule = constraints.granule.expect("an IOMMU").size();
            let (place, whole) = lowest(span(), granule, constraints.first);
            assert!(place + whole - 1 >= END || whole >= 1 << 63);
        }
        LinearError::NoSpace => {
            // The room is not the device's, and it would not do to ask for less than is allowed.
            let granule = constraints.granule.expect("an IOMMU").size();
            let (place, whole) = lowest(span(), granule, constraints.first);
            assert!(constraints.first != 0 && place + whole - 1 > constraints.mask.into());
            assert!(case.bytes <= constraints.max_len.into());
        }
        other => panic!("{other:?} where all joins"),
    }
}

/// Lists that are small enough for the model, which looks up every byte.
pub fn check_model(input: &mut Input<'_>) {
    let granule = input
        .pick(&[Some(16), None, Some(1), Some(64)])
        .and_then(Granule::new);
    let g = granule.map_or(16, Granule::size);
    let mut end = g;
    let list: model::List = (0..=input.below(10))
        .map(|_| {
            let addr = match input.below(4) {
                0 => end,
                1 => g * (1 + input.below(64)) + input.below(g),
                _ => g * (1 + input.below(64)),
            };
            let len = match input.below(4) {
                0 => 1 + input.below(3 * g),
                _ => g - addr % g + g * input.below(3),
            };
            end = addr + len;
            phyr(addr, len).expect("a small phyr")
        })
        .collect();
    let mut planner = LinearPlanner::new(Constraints {
        granule,
        limits: Limits::NONE,
        max_len: u64::MAX,
        first: 0,
        mask: u64::MAX,
        bounces: false,
        align: 1,
    });
    let refused = list.iter().find_map(|phyr| planner.push(phyr).err());
    assert_eq!(refused, super::model::first_break(&list, granule));
}
