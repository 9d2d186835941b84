// SPDX-License-Identifier: GPL-2.0

//! Oracle: where the bytes of a registered buffer are.

use super::{
    controller::Memory,
    desc::{
        DescriptorError,
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    map::BufferMap,
    prp, //
};
use crate::{
    ranges::{
        touching,
        END, //
    },
    DmaAddr,
    DmaVec,
    Input, //
};
use kernel::{
    alloc,
    prelude::*, //
};

pub fn check(input: &mut Input<'_>) {
    let page = PAGE_SIZE as u64;
    let mut end = page;
    let parts = input.list(12, |input| {
        let addr = match input.below(6) {
            0 => 4 * input.below(1 << 30),
            1 => input.number(),
            2 | 3 => end,
            _ => page * (1 + input.below(1 << 20)),
        };
        let len = match input.below(6) {
            0 => input.below(3 * page),
            1 => 4 * input.below(page),
            2 => input.number(),
            _ => (page - addr % page) + page * input.below(4),
        };
        // A range of the controller's ends below the last address.
        let len = len.min((END - 1 - u128::from(addr)) as u64);
        end = addr + len;
        (addr, len)
    });

    let fail = input.once_in(16).then(|| input.below(4) as usize);
    let mut map = BufferMap::default();
    let mut len = 0u128;
    alloc::fail_after(fail);
    for &(addr, more) in &parts {
        let got = map.push(DmaVec::new(DmaAddr::from_raw(addr), more as usize));
        len += u128::from(more);
        if got == Err(ENOMEM) {
            alloc::fail_after(None);
            return assert!(fail.is_some());
        }
        assert_eq!(got.err(), (len >= END).then_some(EOVERFLOW));
        if len >= END {
            return alloc::fail_after(None);
        }
    }
    alloc::fail_after(None);

    let whole = touching(parts.iter().copied().filter(|part| part.1 != 0));
    assert_eq!(u128::from(map.len()), len);
    assert_eq!(map.count(), whole.len());
    assert_eq!(map.gap(), whole.get(1).map(|_| whole[0].1));
    assert_eq!(
        map.is_aligned(),
        parts
            .iter()
            .all(|&(addr, len)| len == 0 || (addr | len) % 4 == 0)
    );
    let seam = |pair: &[(u64, u64)]| (pair[0].0 + pair[0].1) % page == 0 && pair[1].0 % page == 0;
    assert_eq!(map.is_paged(), whole.windows(2).all(seam));

    let most = 16 * page;
    let offset = match input.below(4) {
        0 => input.number(),
        _ => input.below((len as u64).max(1)),
    };
    let want = match input.below(4) {
        0 => input.number() as u32,
        _ => input.below(most) as u32,
    };
    let span = map.span(offset, want);
    if want == 0 || u128::from(offset) + u128::from(want) > len {
        return assert!(span.is_err_and(|e| e == ERANGE));
    }
    let span = span.expect("a part of the buffer");
    assert_eq!(span.len(), want);

    // The same part, found from the front on.
    let (mut at, stop) = (0u64, offset + u64::from(want));
    let mut expected = Vec::new();
    for &(addr, len) in &whole {
        let (from, to) = (at.max(offset), (at + len).min(stop));
        if from < to {
            expected.push((addr + (from - at), to - from));
        }
        at += len;
    }
    let got: Vec<_> = map
        .ranges(span)
        .map(|range| (range.addr, range.len))
        .collect();
    assert_eq!(got, expected);
    assert_eq!(span.count() as usize, expected.len());

    // What is said of PRPs is true of each part.
    if map.is_aligned() && map.is_paged() && offset % 4 == 0 && u64::from(want) < most {
        let mut memory = Memory::new(0x7000_0000, 64);
        let built = prp::build(map.ranges(span), &mut memory, PAGE_SHIFT);
        assert!(!matches!(
            built,
            Err(DescriptorError::Gap | DescriptorError::Misaligned)
        ));
    }
}
