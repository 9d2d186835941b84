// SPDX-License-Identifier: GPL-2.0

//! The operation of a request, and the sectors of a discard.
//!
//! C: `enum req_op` ([`include/linux/blk_types.h`](srctree/include/linux/blk_types.h)).

use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    bindings,
    dma::DataDirection,
    prelude::*, //
};

/// `REQ_OP_MASK`
pub(crate) const OP_MASK: u32 = (1 << bindings::REQ_OP_BITS) - 1;

/// Operation of a request.
///
/// C: `enum req_op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads sectors.
    Read,
    /// Writes sectors.
    Write,
    /// Writes back the device's cache.
    Flush,
    /// Discards the content of sectors.
    Discard,
    /// Discards the content of sectors, and erases it.
    SecureErase,
    /// Fills sectors with zeroes; the request has no data.
    WriteZeroes,
    /// A request that the driver has made itself; see
    /// [`RequestInfo::passthrough`](super::RequestInfo::passthrough).
    Passthrough,
    /// Anything else, by its number.
    Other(u8),
}

impl Op {
    #[inline]
    pub(crate) fn from_raw(op: u32) -> Self {
        match op {
            bindings::req_op_REQ_OP_READ => Self::Read,
            bindings::req_op_REQ_OP_WRITE => Self::Write,
            bindings::req_op_REQ_OP_FLUSH => Self::Flush,
            bindings::req_op_REQ_OP_DISCARD => Self::Discard,
            bindings::req_op_REQ_OP_SECURE_ERASE => Self::SecureErase,
            bindings::req_op_REQ_OP_WRITE_ZEROES => Self::WriteZeroes,
            bindings::req_op_REQ_OP_DRV_IN | bindings::req_op_REQ_OP_DRV_OUT => Self::Passthrough,
            // CAST: `OP_MASK` leaves eight bits.
            other => Self::Other(other as u8),
        }
    }
}

/// Returns the direction of the data of a request with `bytes` whose operation is `op`, by the
/// block layer's number; `None` if there is nothing to map.
///
/// # Errors
///
/// - `EOPNOTSUPP`: the meaning of the bytes is unknown.
#[inline]
pub(crate) fn data_direction(op: u32, bytes: u32) -> Result<Option<DataDirection>> {
    match op {
        _ if bytes == 0 => Ok(None),
        bindings::req_op_REQ_OP_READ => Ok(Some(DataDirection::FromDevice)),
        bindings::req_op_REQ_OP_WRITE => Ok(Some(DataDirection::ToDevice)),
        op => other_direction(op),
    }
}

/// Returns the direction of the data of a request that neither reads nor writes.
///
/// # Errors
///
/// Those of [`data_direction`].
// Apart: what reads and writes is told by two comparisons then.
#[inline(never)]
fn other_direction(op: u32) -> Result<Option<DataDirection>> {
    match op {
        bindings::req_op_REQ_OP_DRV_IN => Ok(Some(DataDirection::FromDevice)),
        bindings::req_op_REQ_OP_DRV_OUT => Ok(Some(DataDirection::ToDevice)),
        // Operations that cover sectors and have no data are among the known ones.
        op => match Op::from_raw(op) {
            Op::Other(_) => Err(EOPNOTSUPP),
            _ => Ok(None),
        },
    }
}

/// A run of sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscardRange {
    /// The first sector.
    pub sector: u64,
    /// Number of sectors.
    pub sectors: u32,
}

/// Iterator over the ranges of a discard; see
/// [`RequestInfo::discard_ranges`](super::RequestInfo::discard_ranges).
///
/// # Invariants
///
/// `bio` is null, or a bio of a request whose owner is borrowed for `'r`.
#[derive(Clone)]
pub struct DiscardRanges<'r> {
    whole: Option<DiscardRange>,
    bio: *const bindings::bio,
    _owner: PhantomData<&'r ()>,
}

impl DiscardRanges<'_> {
    /// Makes an iterator of one range.
    #[inline]
    pub(crate) fn whole(range: DiscardRange) -> Self {
        // INVARIANT: there is no bio.
        Self {
            whole: Some(range),
            bio: ptr::null(),
            _owner: PhantomData,
        }
    }

    /// Makes an iterator of one range for each bio from `bio` on.
    ///
    /// # Safety
    ///
    /// `bio` is null, or a bio of a request whose owner is borrowed for the lifetime of what is
    /// returned.
    #[inline]
    pub(crate) unsafe fn of_bios(bio: *const bindings::bio) -> Self {
        // INVARIANT: the caller promises that `bio` is null, or a bio of a request whose owner is
        // borrowed.
        Self {
            whole: None,
            bio,
            _owner: PhantomData,
        }
    }
}

impl Iterator for DiscardRanges<'_> {
    type Item = DiscardRange;

    fn next(&mut self) -> Option<DiscardRange> {
        if let Some(range) = self.whole.take() {
            return Some(range);
        }
        // SAFETY: by the type invariants it is null or valid.
        let bio = unsafe { self.bio.as_ref() }?;
        // INVARIANT: the next bio of a request is the request's.
        self.bio = bio.bi_next;
        let iter = bio.bi_iter;
        Some(DiscardRange {
            sector: iter.bi_sector,
            sectors: iter.bi_size >> bindings::SECTOR_SHIFT,
        })
    }
}

#[kunit_tests(phyr_blk_op)]
mod tests {
    use super::*;

    fn bio(sector: u64, sectors: u32, next: *mut bindings::bio) -> bindings::bio {
        let mut bio: bindings::bio = pin_init::zeroed();
        bio.bi_next = next;
        bio.bi_iter.bi_sector = sector;
        bio.bi_iter.bi_size = sectors << bindings::SECTOR_SHIFT;
        bio
    }

    #[test]
    fn ranges_are_those_of_the_bios() {
        let mut last = bio(u64::MAX >> 9, 1, ptr::null_mut());
        let mut middle = bio(0, 0, &mut last);
        let first = bio(8, 16, &mut middle);
        // SAFETY: the bios are not changed while they are read below.
        let mut ranges = unsafe { DiscardRanges::of_bios(&first) };
        for (sector, sectors) in [(8, 16), (0, 0), (u64::MAX >> 9, 1)] {
            assert_eq!(ranges.next(), Some(DiscardRange { sector, sectors }));
        }
        assert!(ranges.next().is_none());
        assert!(ranges.next().is_none());
    }

    #[test]
    fn the_whole_is_one_range() {
        let range = DiscardRange {
            sector: 1,
            sectors: 2,
        };
        let mut ranges = DiscardRanges::whole(range);
        assert_eq!(ranges.next(), Some(range));
        assert!(ranges.next().is_none());
    }

    #[test]
    fn operations_have_the_numbers_of_c() {
        assert_eq!(Op::from_raw(2), Op::Flush);
        assert_eq!(Op::from_raw(3), Op::Discard);
        assert_eq!(Op::from_raw(5), Op::SecureErase);
        assert_eq!(Op::from_raw(9), Op::WriteZeroes);
        assert_eq!(Op::from_raw(34), Op::Passthrough);
        assert_eq!(Op::from_raw(35), Op::Passthrough);
        assert_eq!(Op::from_raw(OP_MASK), Op::Other(u8::MAX));
    }

    #[test]
    fn bytes_that_nobody_knows_are_not_mapped_to_nothing() {
        for raw in 0..=OP_MASK {
            assert!(data_direction(raw, 0) == Ok(None));
            for bytes in [1, 512, u32::MAX] {
                let expected = match (raw, Op::from_raw(raw)) {
                    // Reading, and the two of a driver's own.
                    (0 | 34, _) => Ok(Some(DataDirection::FromDevice)),
                    (1 | 35, _) => Ok(Some(DataDirection::ToDevice)),
                    (_, Op::Other(_)) => Err(EOPNOTSUPP),
                    _ => Ok(None),
                };
                assert!(data_direction(raw, bytes) == expected);
            }
        }
        let append = bindings::req_op_REQ_OP_ZONE_APPEND;
        assert!(data_direction(append, 4096) == Err(EOPNOTSUPP));
    }
}
