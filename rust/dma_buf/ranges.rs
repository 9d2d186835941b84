// SPDX-License-Identifier: GPL-2.0

//! Lists of DMA ranges: cut into entries of an `sg_table`, compared with the length of a buffer,
//! joined to one.
//!
//! Plain Rust, without a kernel call.

use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};
use phyr::{
    linear::LinearError,
    part,
    DmaVec,
    Limits, //
};

/// Longest entry in bytes: its length is 32 bits wide, and whole pages are promised.
// CAST: Both are small.
const MAX_ENTRY: u64 = u32::MAX as u64 & !(PAGE_SIZE as u64 - 1);

/// Returns `limits` with segments of at most `max` bytes and [`MAX_ENTRY`], in whole pages.
pub(crate) fn entry_limits_of(limits: Limits, max: u64) -> Option<Limits> {
    // CAST: A page size fits in 64 bits.
    let max = max.min(MAX_ENTRY) & !(PAGE_SIZE as u64 - 1);
    limits.with_max_segment(max)
}

/// Returns `vecs`, cut where they are over `limits`.
pub(crate) fn cut<I: Iterator<Item = DmaVec>>(vecs: I, limits: Limits) -> Cut<I> {
    Cut {
        vecs,
        limits,
        rest: None,
    }
}

/// The iterator of [`cut`].
#[derive(Clone)]
pub(crate) struct Cut<I> {
    vecs: I,
    limits: Limits,
    rest: Option<DmaVec>,
}

impl<I: Iterator<Item = DmaVec>> Iterator for Cut<I> {
    type Item = DmaVec;

    fn next(&mut self) -> Option<DmaVec> {
        let vec = match self.rest.take() {
            Some(rest) => rest,
            None => self.vecs.next()?,
        };
        let max = self.limits.max_len_at(vec.addr().into_raw());
        // CAST: A `usize` is at most 64 bits wide.
        if vec.len() as u64 <= max {
            return Some(vec);
        }
        // CAST: Less than the length, which is a `usize`.
        let at = max as usize;
        self.rest = Some(DmaVec::new(vec.addr().advanced(max), vec.len() - at));
        Some(DmaVec::new(vec.addr(), at))
    }
}

/// Returns whether `vecs` hold at least `size` bytes.
pub(crate) fn covers(vecs: impl Iterator<Item = DmaVec>, size: usize) -> bool {
    part(vecs, 0..size).map(DmaVec::len).sum::<usize>() == size
}

/// Joins `vecs` to one range.
///
/// # Errors
///
/// - [`LinearError::Empty`]: there are none.
/// - [`LinearError::Gap`]: one does not begin where the one before ends.
pub(crate) fn join(mut vecs: impl Iterator<Item = DmaVec>) -> Result<DmaVec, LinearError> {
    let first = vecs.next().ok_or(LinearError::Empty)?;
    let (addr, mut len) = (first.addr(), first.len());

    for (nr, vec) in vecs.enumerate() {
        // CAST: A `usize` is at most 64 bits wide.
        let offset = len as u64;
        let gap = LinearError::Gap {
            phyr: nr + 1,
            offset,
        };
        if addr.into_raw().checked_add(offset) != Some(vec.addr().into_raw()) {
            return Err(gap);
        }
        len = len.checked_add(vec.len()).ok_or(gap)?;
    }
    Ok(DmaVec::new(addr, len))
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(phyr_dma_buf_ranges)]
mod tests {
    use super::*;
    use phyr::DmaAddr;

    const PAGE: u64 = PAGE_SIZE as u64;

    fn vec(addr: u64, len: u64) -> DmaVec {
        // CAST: The tests run on 64 bits.
        DmaVec::new(DmaAddr::from_raw(addr), len as usize)
    }

    fn gap(phyr: usize, offset: u64) -> Result<DmaVec, LinearError> {
        Err(LinearError::Gap { phyr, offset })
    }

    /// Checks that `vecs`, cut for a device with these limits, are `expected`.
    fn check_cut(vecs: &[DmaVec], max: u64, boundary: u64, expected: &[DmaVec]) -> bool {
        let limits = Limits::NONE
            .with_boundary_mask(boundary)
            .and_then(|limits| entry_limits_of(limits, max));
        limits.is_some_and(|limits| cut(vecs.iter().copied(), limits).eq(expected.iter().copied()))
    }

    #[test]
    fn entries_are_whole_pages_of_32_bits() {
        assert_eq!(MAX_ENTRY, 0xffff_ffff / PAGE * PAGE);
        let max = u64::from(u32::MAX);
        let none = u64::MAX;
        let at = 1 << 40;
        for len in [1, PAGE, MAX_ENTRY - PAGE, MAX_ENTRY] {
            assert!(check_cut(&[vec(at, len)], max, none, &[vec(at, len)]));
        }
        assert!(check_cut(
            &[vec(at, MAX_ENTRY + PAGE)],
            max,
            none,
            &[vec(at, MAX_ENTRY), vec(at + MAX_ENTRY, PAGE)]
        ));
        assert!(check_cut(
            &[vec(at, 2 * MAX_ENTRY + 1)],
            max,
            none,
            &[
                vec(at, MAX_ENTRY),
                vec(at + MAX_ENTRY, MAX_ENTRY),
                vec(at + 2 * MAX_ENTRY, 1)
            ]
        ));
        // 1 TiB: the last piece is what is left.
        let limits = entry_limits_of(Limits::NONE, max);
        let len = 1 << 40;
        let nr = limits.map(|limits| cut([vec(0, len)].into_iter(), limits).count());
        // CAST: The tests run on 64 bits.
        assert_eq!(nr, Some(len.div_ceil(MAX_ENTRY) as usize));
    }

    #[test]
    fn entries_keep_the_limits_of_the_device() {
        let none = u64::MAX;
        assert!(entry_limits_of(Limits::NONE, PAGE - 1).is_none());
        let two = [vec(0, 2 * PAGE), vec(2 * PAGE, PAGE)];
        // Rounded down to whole pages.
        assert!(check_cut(&[vec(0, 3 * PAGE)], 3 * PAGE - 1, none, &two));
        // Ranges that adjoin stay apart: each is cut by itself.
        assert!(check_cut(&two, 2 * PAGE, none, &two));
        // At a boundary of 64 KiB.
        let edge = 0x10000;
        assert!(check_cut(
            &[vec(edge - PAGE, 2 * PAGE + edge)],
            u64::from(u32::MAX),
            edge - 1,
            &[vec(edge - PAGE, PAGE), vec(edge, edge), vec(2 * edge, PAGE)]
        ));
    }

    #[test]
    fn clipped_to_the_buffer() {
        let vecs = [vec(0x1000, 0x1000), vec(0x9000, 0), vec(0x5000, 0x2000)];
        let clipped = |size, expected: &[DmaVec]| part(vecs, 0..size).eq(expected.iter().copied());
        assert!(clipped(0, &[]));
        assert!(clipped(1, &[vec(0x1000, 1)]));
        assert!(clipped(0x1000, &[vec(0x1000, 0x1000)]));
        assert!(clipped(0x1001, &[vec(0x1000, 0x1000), vec(0x5000, 1)]));
        assert!(clipped(0x3000, &[vec(0x1000, 0x1000), vec(0x5000, 0x2000)]));
        assert!(clipped(0x3001, &[vec(0x1000, 0x1000), vec(0x5000, 0x2000)]));
        assert!(covers(vecs.iter().copied(), 0x3000));
        assert!(!covers(vecs.iter().copied(), 0x3001));
        assert!(!covers(vecs.iter().copied(), usize::MAX));
    }

    #[test]
    fn one_range_or_the_first_gap() {
        let join = |vecs: &[DmaVec]| join(vecs.iter().copied());
        let one = vec(0x1000, 0x1000);
        assert_eq!(join(&[]), Err(LinearError::Empty));
        assert_eq!(join(&[one]), Ok(one));
        assert_eq!(join(&[one, vec(0x2000, 0x3000)]), Ok(vec(0x1000, 0x4000)));
        assert_eq!(join(&[one, vec(0x2001, 0x1000)]), gap(1, 0x1000));
        assert_eq!(join(&[one, one]), gap(1, 0x1000));
        // The first two adjoin, the third does not.
        let next = vec(0x2000, 0x1000);
        assert_eq!(join(&[one, next, vec(0x4000, 0x1000)]), gap(2, 0x2000));
        // Over 4 GiB, and at the end of the address space.
        let long = vec(0, MAX_ENTRY);
        assert_eq!(
            join(&[long, vec(MAX_ENTRY, MAX_ENTRY)]),
            Ok(vec(0, 2 * MAX_ENTRY))
        );
        let half = 1 << 63;
        assert_eq!(join(&[vec(0, half), vec(half, half)]), gap(1, half));
        let last = vec(u64::MAX - PAGE, PAGE + 1);
        assert_eq!(join(&[last, vec(0, PAGE)]), gap(1, PAGE + 1));
    }
}
