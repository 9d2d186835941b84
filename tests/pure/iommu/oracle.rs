// SPDX-License-Identifier: GPL-2.0

//! Oracle: page sizes, page by page.

use super::pages::{
    largest,
    PageSizes, //
};
use crate::Input;

/// The largest size of which both addresses are a multiple and that is not longer than `len`.
fn fit(bits: u64, both: u64, len: u64) -> Option<u64> {
    let sizes = (0..64).rev().map(|shift| 1u64 << shift);
    sizes
        .filter(|size| bits & size != 0)
        .find(|size| both % size == 0 && *size <= len)
}

pub fn check(input: &mut Input<'_>) {
    // Up to three sizes, no more than a few hundred of the smaller in the next larger.
    let small = input.below(50) as u32;
    let mut bits = 1u64 << small;
    for _ in 0..2 {
        let next = bits.ilog2() + 1 + input.below(6) as u32;
        bits |= if input.once_in(2) || next > 60 {
            0
        } else {
            1 << next
        };
    }
    let unit = 1u64 << small;
    let most = (u64::MAX >> small).min(1 << 13);
    let (paddr, len) = (unit * input.below(most / 2), unit * input.below(most / 2));
    let iova = match input.below(3) {
        0 => unit * input.below(most / 2),
        1 => paddr,
        _ => paddr ^ bits & !unit,
    };

    let mut want = [0u64; 64];
    let mut at = 0;
    while at < len {
        let size = fit(bits, (iova + at) | (paddr + at), len - at).expect("the smallest fits");
        want[size.ilog2() as usize] += 1;
        at += size;
    }
    let mut got = PageSizes::default();
    got.add(bits, iova, paddr, len);
    let mut sum = 0;
    let mut before = 0;
    got.for_each(|size, count| {
        assert!(size > before && count != 0);
        (before, sum) = (size, sum + size * count);
    });
    assert_eq!(sum, len);
    for (shift, &count) in want.iter().enumerate() {
        assert_eq!(got.count(1 << shift), count);
        if shift < 62 {
            assert_eq!(got.count(3 << shift), 0);
        }
    }
    assert_eq!(got.count(0), 0);

    let len = input.number();
    assert_eq!(
        largest(bits, len as usize),
        fit(bits, 0, len).unwrap_or(unit)
    );

    // Pages that do not fit at all: what is over is not counted.
    let mut none = PageSizes::default();
    none.add(unit << 1, unit, 0, unit);
    assert_eq!(none, PageSizes::default());
}
