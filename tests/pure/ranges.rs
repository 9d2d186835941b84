// SPDX-License-Identifier: GPL-2.0

//! Oracle of phyrs and granules, in 128 bits.

use crate::{
    BadPhyr,
    DmaAddr,
    Granule,
    Input,
    Phyr, //
    PhysAddr,
};

/// The end of the addresses.
pub const END: u128 = 1 << 64;

pub fn phyr(addr: u64, len: u64) -> Result<Phyr, BadPhyr> {
    Phyr::new(PhysAddr::from_raw(addr), len as usize)
}

/// Rounds up without an overflow.
pub fn up(number: u128, to: u64) -> u128 {
    number.div_ceil(to.into()) * u128::from(to)
}

/// Joins ranges, pairs of an address and a length, that touch.
pub fn touching(ranges: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (addr, len) in ranges {
        match out.last_mut() {
            Some(last) if u128::from(last.0) + u128::from(last.1) == addr.into() => last.1 += len,
            _ => out.push((addr, len)),
        }
    }
    out
}

pub fn check(input: &mut Input<'_>) {
    let (addr, len) = (input.number(), input.number());
    let end = u128::from(addr) + u128::from(len);
    let one = match phyr(addr, len) {
        Err(BadPhyr::Empty) => return assert_eq!(len, 0),
        Err(BadPhyr::Overflow) => return assert!(end >= END),
        Ok(one) => one,
    };
    assert!(len != 0 && end < END);
    assert_eq!((one.paddr().into_raw(), one.len() as u64), (addr, len));
    assert_eq!(u128::from(one.end()), end);
    assert_eq!(
        DmaAddr::from_raw(addr).advanced(len).into_raw(),
        (end % END) as u64
    );

    let at = if input.once_in(2) {
        input.number()
    } else {
        input.below(len)
    };
    match one.split(at as usize) {
        None => assert!(at == 0 || at >= len),
        Some((head, tail)) => {
            assert!(at > 0 && at < len);
            assert_eq!((head.paddr().into_raw(), head.len() as u64), (addr, at));
            assert_eq!(
                (tail.paddr().into_raw(), tail.len() as u64),
                (addr + at, len - at)
            );
            assert_eq!(head.join(tail), Some(one));
            assert_eq!(tail.join(head), None);
        }
    }

    let size = input.number();
    let Some(granule) = Granule::new(size) else {
        return assert_ne!(size.count_ones(), 1);
    };
    assert_eq!(granule.size(), size);
    assert_eq!(granule.offset(addr), addr % size);
    assert_eq!(granule.number(addr), addr / size);
    assert_eq!(granule.aligned(addr), addr % size == 0);
    assert_eq!(granule.align_down(addr), addr / size * size);
    let above = up(addr.into(), size);
    assert_eq!(
        granule.align_up(addr).map(u128::from),
        (above < END).then_some(above)
    );

    let (from, to) = (u128::from(addr / size * size), up(end, size));
    let around = granule.around(one);
    assert_eq!(around.is_some(), to < END);
    if let Some(around) = around {
        assert_eq!(u128::from(around.paddr().into_raw()), from);
        assert_eq!(u128::from(around.end()), to);
    }
}
