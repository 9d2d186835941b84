// SPDX-License-Identifier: GPL-2.0

//! Parts of a mapping, for a transfer that is shorter than the mapping.
//!
//! Plain Rust, without a kernel call.

use super::types::{
    DmaAddr,
    DmaVec, //
};
use core::ops::Range;

/// Returns the ranges of `bytes`, a part of the memory that is mapped at `vecs`, in order.
///
/// Bytes after the end of the memory have no range.
///
/// # Examples
///
/// ```
/// use phyr::{part, DmaAddr, DmaVec};
///
/// let vecs = [
///     DmaVec::new(DmaAddr::from_raw(0x1000), 0x1000),
///     DmaVec::new(DmaAddr::from_raw(0x8000), 0x1000),
/// ];
/// let mut parts = part(vecs, 0xfff..0x1001);
/// assert_eq!(parts.next(), Some(DmaVec::new(DmaAddr::from_raw(0x1fff), 1)));
/// assert_eq!(parts.next(), Some(DmaVec::new(DmaAddr::from_raw(0x8000), 1)));
/// assert_eq!(parts.next(), None);
/// ```
pub fn part<V>(vecs: V, bytes: Range<usize>) -> impl Iterator<Item = DmaVec>
where
    V: IntoIterator<Item = DmaVec>,
{
    let (mut skip, mut left) = (bytes.start, bytes.len());
    vecs.into_iter().filter_map(move |vec| {
        let len = vec.len().saturating_sub(skip).min(left);
        // CAST: a `usize` is at most 64 bits wide.
        let addr = vec.addr().into_raw().checked_add(skip as u64);
        skip = skip.saturating_sub(vec.len());
        left -= len;
        (len != 0).then_some(DmaVec::new(DmaAddr::from_raw(addr?), len))
    })
}

#[kernel::prelude::kunit_tests(phyr_dma_vec)]
mod tests {
    use super::*;

    fn vec(addr: u64, len: usize) -> DmaVec {
        DmaVec::new(DmaAddr::from_raw(addr), len)
    }

    fn is(bytes: Range<usize>, expected: &[DmaVec]) -> bool {
        let vecs = [vec(100, 10), vec(200, 1), vec(u64::MAX - 4, 5)];
        part(vecs, bytes).eq(expected.iter().copied())
    }

    #[test]
    fn of_ranges() {
        assert!(is(
            0..16,
            &[vec(100, 10), vec(200, 1), vec(u64::MAX - 4, 5)]
        ));
        assert!(is(0..1, &[vec(100, 1)]));
        assert!(is(9..10, &[vec(109, 1)]));
        assert!(is(10..11, &[vec(200, 1)]));
        assert!(is(9..12, &[vec(109, 1), vec(200, 1), vec(u64::MAX - 4, 1)]));
        assert!(is(15..16, &[vec(u64::MAX, 1)]));
        assert!(is(15..20, &[vec(u64::MAX, 1)]));
    }

    #[test]
    fn of_nothing() {
        for bytes in [0..0, 5..5, 10..10, 16..16, 16..17, usize::MAX..usize::MAX] {
            assert!(is(bytes, &[]));
        }
        // An end before the beginning.
        for (start, end) in [(1, 0), (16, 5), (usize::MAX, 0), (1 << 63, 1 << 32)] {
            assert!(is(start..end, &[]));
        }
    }
}
