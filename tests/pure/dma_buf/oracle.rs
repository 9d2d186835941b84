// SPDX-License-Identifier: GPL-2.0

//! Oracles: ranges cut into entries, clipped to a buffer, joined to one.

use super::ranges::{
    covers,
    cut,
    entry_limits_of,
    join, //
};
use crate::{
    linear::LinearError,
    part,
    planner,
    ranges::END,
    DmaAddr,
    DmaVec,
    Input, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

fn vec(addr: u64, len: u64) -> DmaVec {
    DmaVec::new(DmaAddr::from_raw(addr), len as usize)
}

fn pair(vec: DmaVec) -> (u64, u64) {
    (vec.addr().into_raw(), vec.len() as u64)
}

/// Ranges that do not wrap around; many adjoin the one before.
fn vecs(input: &mut Input<'_>) -> Vec<DmaVec> {
    let mut end = 0x1000u64;
    input.list(8, |input| {
        let addr = if input.once_in(3) {
            input.number()
        } else {
            end
        };
        let len = match input.below(3) {
            0 => input.number(),
            _ => input.below(1 << 16),
        };
        let len = len.min((END - u128::from(addr)).min(u64::MAX.into()) as u64);
        end = addr.wrapping_add(len);
        vec(addr, len)
    })
}

pub fn check_cut(input: &mut Input<'_>) {
    let max = input.number();
    let limits = planner::limits(input);
    let page = PAGE_SIZE as u64;
    let Some(limits) = entry_limits_of(limits, max) else {
        return assert!(max < page);
    };
    // Whole pages that fit in 32 bits, and as many as the device takes.
    assert_eq!(limits.max_segment(), max.min(u32::MAX.into()) / page * page);

    const MOST: usize = 100;
    let vecs = vecs(input);
    let mut entries = cut(vecs.iter().copied(), limits).take(MOST);
    for &whole in &vecs {
        let (mut addr, mut left) = pair(whole);
        // Also what is empty is passed on.
        loop {
            let Some(entry) = entries.next().map(pair) else {
                return assert_eq!(entries.size_hint().1, Some(0));
            };
            let most = planner::max_len_at(&limits, addr.into()).min(left.into()) as u64;
            assert_eq!(entry, (addr, most));
            (addr, left) = (addr.wrapping_add(most), left - most);
            if left == 0 {
                break;
            }
        }
    }
    assert!(entries.next().is_none());
}

pub fn check_clip(input: &mut Input<'_>) {
    let vecs = vecs(input);
    let size = if input.once_in(2) {
        input.number()
    } else {
        input.below(1 << 18)
    } as usize;
    let mut left = size as u128;
    let mut want = Vec::new();
    for &vec in &vecs {
        let (addr, len) = pair(vec);
        let len = left.min(len.into());
        left -= len;
        if len != 0 {
            want.push((addr, len as u64));
        }
    }
    let got: Vec<_> = part(vecs.iter().copied(), 0..size).map(pair).collect();
    assert_eq!(got, want);
    assert_eq!(covers(vecs.into_iter(), size), left == 0);
}

pub fn check_join(input: &mut Input<'_>) {
    let vecs = vecs(input);
    let got = join(vecs.iter().copied());
    let Some(first) = vecs.first() else {
        return assert_eq!(got, Err(LinearError::Empty));
    };
    let (addr, _) = pair(*first);
    let mut len = 0u128;
    for (phyr, &vec) in vecs.iter().enumerate() {
        let (at, more) = pair(vec);
        // A range ends below the last address, or nothing comes after it.
        if phyr != 0 && u128::from(addr) + len != at.into() || len + u128::from(more) >= END {
            let offset = len as u64;
            assert_eq!(got, Err(LinearError::Gap { phyr, offset }));
            assert_eq!(got.map_err(Error::from), Err(EILSEQ));
            return;
        }
        len += u128::from(more);
    }
    assert_eq!(got.map(pair), Ok((addr, len as u64)));
}
