// SPDX-License-Identifier: GPL-2.0

//! Oracle: pieces, joined and cut.

use super::Segments;
use crate::{
    planner,
    ranges::phyr,
    BadPhyr,
    Input,
    Phyr, //
};
use kernel::prelude::*;

pub fn check(input: &mut Input<'_>) {
    let limits = planner::limits(input);
    let mut end = 0x1000;
    let pieces: Vec<Result<Phyr>> = input.list(24, |input| {
        let addr = match input.below(4) {
            0 => input.number(),
            1 => end + 1 + input.below(64),
            _ => end,
        };
        let len = match input.below(16) {
            0 => input.number(),
            _ => 1 + input.below(1 << 16),
        };
        let piece = phyr(addr, len);
        match piece {
            Ok(piece) => end = piece.end().min(u64::MAX >> 1),
            Err(bad) => assert_eq!(
                Error::from(bad),
                if bad == BadPhyr::Empty {
                    EINVAL
                } else {
                    EOVERFLOW
                }
            ),
        }
        Ok(piece?)
    });

    // What goes in up to the first error: joined, where two touch, in numbers that cannot overflow.
    let good = pieces.iter().map_while(|piece| piece.ok()).map(|piece| {
        let start = u128::from(piece.paddr().into_raw());
        (start, start + piece.len() as u128)
    });
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (start, end) in good {
        match joined.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => joined.push((start, end)),
        }
    }
    // The same, cut from the front on. What can come out is bounded, or it would take for ever.
    const MOST: usize = 200;
    let mut want = Vec::new();
    for &(mut start, end) in &joined {
        while start < end && want.len() < MOST {
            let stop = end.min(start + planner::max_len_at(&limits, start));
            want.push((start as u64, (stop - start) as u64));
            start = stop;
        }
    }

    let bad = pieces.iter().find_map(|piece| piece.err());
    let mut got = Vec::new();
    for out in Segments::new(pieces.into_iter(), limits).take(MOST) {
        match out {
            Ok(phyr) => got.push((phyr.paddr().into_raw(), phyr.len() as u64)),
            Err(e) => {
                assert_eq!(Some(e), bad);
                // What was being joined when it came is not given out.
                assert!(want.len() - got.len() <= 1);
                want.truncate(got.len());
                assert_eq!(got, want);
                return;
            }
        }
    }
    assert!(bad.is_none() || got.len() == MOST);
    assert_eq!(got, want);
}
