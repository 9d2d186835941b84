// SPDX-License-Identifier: GPL-2.0

//! Oracles of limits, parts of ranges and reasons, worked out in another way.

use crate::{
    dma_vec::part,
    map::failure::{
        Facts,
        Failure, //
    },
    planner::{
        limits,
        max_len_at, //
    },
    DmaAddr,
    DmaVec,
    Input, //
};
use kernel::prelude::*;

/// Checks the limits of a device, in 128 bits.
pub fn check_limits(input: &mut Input<'_>) {
    let limits = limits(input);
    let (start, bytes) = (input.number(), input.number());
    let boundary = u128::from(limits.boundary_mask()) + 1;

    assert_eq!(
        u128::from(limits.max_len_at(start)),
        max_len_at(&limits, start.into()).min(u64::MAX.into())
    );
    assert_eq!(limits.boundary_allows(bytes), u128::from(bytes) <= boundary);
    assert_eq!(
        limits.allow(bytes),
        bytes <= limits.max_segment() && u128::from(bytes) <= boundary
    );
    let mask = input.number() as u32;
    let one_more = u64::from(mask) + 1;
    assert_eq!(
        limits.with_min_align_mask(mask).is_some(),
        one_more.is_power_of_two()
    );
}

/// Checks parts of ranges, byte by byte.
pub fn check_part(input: &mut Input<'_>) {
    let mut vecs = Vec::new();
    for _ in 0..input.below(6) {
        let addr = if input.once_in(4) {
            input.number().min(u64::MAX - 64)
        } else {
            0x1000 * input.below(64)
        };
        vecs.push(DmaVec::new(
            DmaAddr::from_raw(addr),
            input.below(40) as usize,
        ));
    }
    let mut edge = || {
        if input.once_in(4) {
            input.number() as usize
        } else {
            input.below(200) as usize
        }
    };
    let bytes = edge()..edge();
    let all = vecs
        .iter()
        .flat_map(|vec| (0..vec.len() as u128).map(|at| u128::from(vec.addr().into_raw()) + at));
    let wanted: Vec<u128> = all
        .enumerate()
        .filter(|(at, _)| bytes.contains(at))
        .map(|(_, addr)| addr)
        .collect();
    let got: Vec<u128> = part(vecs.iter().copied(), bytes)
        .flat_map(|vec| {
            assert_ne!(vec.len(), 0);
            (0..vec.len() as u128).map(move |at| u128::from(vec.addr().into_raw()) + at)
        })
        .collect();
    assert_eq!(got, wanted);
}

/// Checks reasons: a final one stays whatever other devices do, another one can pass.
pub fn check_map_error(input: &mut Input<'_>) {
    let facts = Facts {
        len: input.number(),
        mask: input.number(),
        is_translated: input.once_in(2),
        is_reached: input.once_in(2),
        is_copied: input.once_in(2),
        max_copy: input.number() * u64::from(input.once_in(2)),
        has_space: input.once_in(2),
    };
    let reason = facts.reason();
    let same = |facts: Facts| facts.reason() == reason;

    // What comes and goes is free IOVA space, and free memory.
    match reason.is_final() {
        Some(nr) => {
            assert!(nr < 3);
            assert!(same(Facts {
                has_space: !facts.has_space,
                ..facts
            }));
        }
        None => {
            let fits = facts.len <= facts.max_copy;
            if facts.is_translated {
                assert!(facts.is_reached && (!facts.is_copied || (fits && facts.max_copy != 0)));
            } else {
                assert!((facts.is_reached && !facts.is_copied) || fits);
            }
        }
    }
    assert_eq!(
        reason == Failure::NoSpace,
        facts.is_translated && !facts.has_space && reason.is_final().is_none()
    );
    let passes = [ENOSPC, ENOMEM, EAGAIN].contains(&reason.into());
    assert_eq!(passes, reason.is_final().is_none());
    assert!(format!("{reason}").len() > 8);
}
