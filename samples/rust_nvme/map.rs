// SPDX-License-Identifier: GPL-2.0

//! Maps from the bytes of a registered buffer to DMA ranges.
//!
//! The ranges are joined where they touch, and kept with the offset in the buffer at which each
//! begins. A command finds its first range by a binary search, and goes on from there; one range is
//! found at once.
//!
//! Nothing here calls the kernel, but to allocate.

use super::{
    desc::{
        DataRange,
        PAGE_SIZE, //
    }, //
};
use kernel::prelude::*;
use phyr::DmaVec;

/// A DMA range, without its end, and the byte of the buffer at which it begins.
#[derive(Clone, Copy)]
struct Piece {
    start: u64,
    addr: u64,
}

/// The DMA ranges of a buffer, in order.
///
/// # Invariants
///
/// The first of `pieces` begins with byte 0, and each with a later one than that before it. A piece
/// goes on to the start of the next one; the last, to `len`.
pub(crate) struct BufferMap {
    pieces: KVVec<Piece>,
    len: u64,
    /// All pieces begin and end at multiples of 4 bytes, so that descriptors can describe them.
    is_aligned: bool,
    /// Pages of the controller are whole, but for the first and the last one, so that PRPs can
    /// describe them.
    is_paged: bool,
}

impl Default for BufferMap {
    fn default() -> Self {
        // INVARIANT: There are no pieces.
        Self {
            pieces: KVVec::new(),
            len: 0,
            is_aligned: true,
            is_paged: true,
        }
    }
}

/// A part of a buffer, and the pieces that it is in.
#[derive(Clone, Copy)]
pub(crate) struct BufferSpan {
    offset: u64,
    /// The device address of its first byte.
    addr: u64,
    len: u32,
    /// The piece that it begins in, and the number of pieces that it is in.
    first: u32,
    count: u32,
}

impl BufferSpan {
    /// Returns the length in bytes.
    pub(crate) fn len(self) -> u32 {
        self.len
    }

    /// Returns the number of ranges.
    pub(crate) fn count(self) -> u32 {
        self.count
    }

    /// Returns the only range, if there is one, in fewer steps than [`BufferMap::ranges`].
    #[inline]
    pub(crate) fn only(self) -> Option<DataRange> {
        (self.count == 1).then_some(DataRange {
            addr: self.addr,
            len: self.len.into(),
        })
    }
}

impl BufferMap {
    /// Appends a range.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`]: memory is short.
    /// - [`EOVERFLOW`]: the length of all overflows.
    pub(crate) fn push(&mut self, vec: DmaVec) -> Result {
        let DataRange { addr, len } = vec.into();
        if len == 0 {
            return Ok(());
        }
        self.is_aligned &= (addr | len) % 4 == 0;
        match self.pieces.last() {
            Some(last) if last.addr.checked_add(self.len - last.start) == Some(addr) => {}
            last => {
                let page = PAGE_SIZE as u64;
                let end = last.map_or(0, |last| last.addr.wrapping_add(self.len - last.start));
                self.is_paged &= last.is_none() || (end | addr) % page == 0;
                let start = self.len;
                // INVARIANT: The one before has a length, so that this begins later.
                self.pieces
                    .push(Piece { start, addr }, GFP_KERNEL_ACCOUNT)?;
            }
        }
        self.len = self.len.checked_add(len).ok_or(EOVERFLOW)?;
        Ok(())
    }

    /// Returns the length of the buffer, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Returns the number of ranges.
    pub(crate) fn count(&self) -> usize {
        self.pieces.len()
    }

    /// Returns the first byte that does not follow the one before it, or [`None`] if the buffer is
    /// one range.
    pub(crate) fn gap(&self) -> Option<u64> {
        self.pieces.get(1).map(|piece| piece.start)
    }

    /// Returns whether descriptors can describe its pieces.
    pub(crate) fn is_aligned(&self) -> bool {
        self.is_aligned
    }

    /// Returns whether PRPs can describe any part of it.
    pub(crate) fn is_paged(&self) -> bool {
        self.is_paged
    }

    /// Returns the index of the piece that `offset`, which is less than `self.len`, is in.
    #[inline]
    fn find(&self, offset: u64) -> usize {
        match &self.pieces[..] {
            [_] => 0,
            pieces => pieces
                .partition_point(|piece| piece.start <= offset)
                .saturating_sub(1),
        }
    }

    /// Returns the part of `len` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`ERANGE`]: it is empty, or not all in the buffer.
    pub(crate) fn span(&self, offset: u64, len: u32) -> Result<BufferSpan> {
        let end = offset.checked_add(len.into()).ok_or(ERANGE)?;
        if len == 0 || end > self.len {
            return Err(ERANGE);
        }
        let (first, last) = (self.find(offset), self.find(end - 1));
        let piece = self.pieces.get(first).ok_or(ERANGE)?;
        Ok(BufferSpan {
            offset,
            addr: piece.addr.wrapping_add(offset - piece.start),
            len,
            first: u32::try_from(first).map_err(|_| ERANGE)?,
            // CAST: There are no more pieces than bytes, whose number has 32 bits.
            count: (last - first) as u32 + 1,
        })
    }

    /// Returns the ranges of `span`, which is of this map.
    pub(crate) fn ranges(&self, span: BufferSpan) -> DataRanges<'_> {
        // CAST: An index has 32 bits or more.
        let pieces = self.pieces.get(span.first as usize..).unwrap_or(&[]);
        DataRanges {
            pieces: pieces.iter(),
            at: span.offset,
            end: span.offset + u64::from(span.len),
            len: self.len,
        }
    }
}

/// Iterates over the ranges of a [`BufferSpan`].
#[derive(Clone)]
pub(crate) struct DataRanges<'a> {
    pieces: core::slice::Iter<'a, Piece>,
    at: u64,
    end: u64,
    /// End of the last piece.
    len: u64,
}

impl Iterator for DataRanges<'_> {
    type Item = DataRange;

    fn next(&mut self) -> Option<DataRange> {
        if self.at >= self.end {
            return None;
        }
        let piece = self.pieces.next()?;
        let next = self.pieces.as_slice().first();
        let stop = next.map_or(self.len, |next| next.start).min(self.end);
        let range = DataRange {
            addr: piece.addr.wrapping_add(self.at - piece.start),
            len: stop - self.at,
        };
        self.at = stop;
        Some(range)
    }
}

/// Edges, then random maps against a list of all bytes.
#[kunit_tests(rust_nvme_map)]
mod tests {
    // PANIC: An `unwrap` or an index that fails is a failed test.
    // CAST: All are small numbers.

    use super::{
        super::tests::Random,
        *, //
    };
    use phyr::DmaAddr;

    fn map(of: &[(u64, usize)]) -> BufferMap {
        let mut map = BufferMap::default();
        for &(addr, len) in of {
            map.push(DmaVec::new(DmaAddr::from_raw(addr), len)).unwrap();
        }
        map
    }

    fn ranges(map: &BufferMap, offset: u64, len: u32) -> KVec<(u64, u64)> {
        let span = map.span(offset, len).unwrap();
        let mut out = KVec::new();
        for range in map.ranges(span) {
            out.push((range.addr, range.len), GFP_KERNEL).unwrap();
        }
        assert_eq!(out.len(), span.count() as usize);
        let only = span.only().map(|range| (range.addr, range.len));
        assert_eq!(only, (out.len() == 1).then(|| out[0]));
        out
    }

    #[test]
    fn what_touches_is_one_piece() {
        for (of, count, paged) in [
            (&[(0x1000, 4096)][..], 1, true),
            (&[(0x1004, 512)], 1, true),
            (&[(0x1000, 4096), (0x2000, 8192)], 1, true),
            (&[(0x1000, 512), (0x1200, 512)], 1, true),
            (&[(0x1000, 4096), (0x3000, 4096)], 2, true),
            (&[(0x1800, 2048), (0x3000, 100)], 2, true),
            (&[(0x1000, 4096), (0x3004, 4096)], 2, false),
            (&[(0x1000, 2048), (0x3000, 4096)], 2, false),
            (&[(0x2000, 4096), (0x1000, 4096)], 2, true),
        ] {
            let map = map(of);
            assert_eq!(map.count(), count);
            assert_eq!(map.gap().is_some(), count > 1);
            assert_eq!(map.is_paged, paged);
            assert!(map.is_aligned);
        }
        assert!(!map(&[(0x1002, 4096)]).is_aligned);
        assert!(!map(&[(0x1000, 4095)]).is_aligned);
    }

    #[test]
    fn spans_end_with_the_buffer() {
        let map = map(&[(0x1000, 4096), (0x3000, 4096)]);
        for (offset, len, fits) in [
            (0, 8192, true),
            (0, 8193, false),
            (8191, 1, true),
            (8192, 0, false),
            (8192, 1, false),
            (0, 0, false),
            (4096, 4096, true),
            (4097, 4096, false),
            (u64::MAX, 1, false),
            (u64::MAX - 511, 512, false),
            (0, u32::MAX, false),
        ] {
            assert_eq!(map.span(offset, len).is_ok(), fits);
        }
        assert_eq!(ranges(&map, 4092, 8)[..], [(0x1ffc, 4), (0x3000, 4)]);
        assert_eq!(ranges(&map, 4096, 4)[..], [(0x3000, 4)]);
        assert_eq!(ranges(&map, 0, 4096)[..], [(0x1000, 4096)]);
    }

    #[test]
    fn random_parts_are_where_their_bytes_are() {
        let mut random = Random::new(29);
        for _ in 0..50 {
            let mut of: KVec<(u64, usize)> = KVec::new();
            let mut bytes: KVec<u64> = KVec::new();
            for _ in 0..=random.below(20) {
                let (addr, len) = (4 * random.below(1 << 20), 4 * (1 + random.below(40)));
                of.push((addr, len as usize), GFP_KERNEL).unwrap();
                for byte in 0..len {
                    bytes.push(addr + byte, GFP_KERNEL).unwrap();
                }
            }
            let map = map(&of);
            assert_eq!(map.len(), bytes.len() as u64);
            for _ in 0..50 {
                let offset = random.below(map.len());
                let len = 1 + random.below(map.len() - offset);
                let mut at = offset as usize;
                for (addr, len) in ranges(&map, offset, len as u32) {
                    for byte in 0..len {
                        assert_eq!(bytes[at], addr + byte);
                        at += 1;
                    }
                }
                assert_eq!(at as u64, offset + len);
            }
        }
    }
}
