// SPDX-License-Identifier: GPL-2.0

//! Limits of a device on one segment: its length, the boundary it must not cross, the address bits
//! that a bounce buffer keeps. Values that make no sense are refused here, as they are set.
//!
//! C: `struct device_dma_parameters`.
//!
//! Plain Rust, without a kernel call.

/// Limits of a device on each range that it is given.
///
/// # Invariants
///
/// `max_segment` is not zero; each mask plus one is a power of two, or zero (no boundary).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    max_segment: u64,
    boundary_mask: u64,
    min_align_mask: u32,
}

impl Limits {
    /// No limit at all.
    pub const NONE: Self = Self {
        max_segment: u64::MAX,
        boundary_mask: u64::MAX,
        min_align_mask: 0,
    };

    /// Limits the length of a [`DmaVec`](crate::DmaVec) to `bytes`, or returns `None` for zero.
    pub const fn with_max_segment(mut self, bytes: u64) -> Option<Self> {
        if bytes == 0 {
            return None;
        }
        self.max_segment = bytes;
        Some(self)
    }

    /// Asks that no [`DmaVec`](crate::DmaVec) crosses a multiple of `mask + 1`.
    ///
    /// Returns `None` unless `mask + 1` is a power of two; a mask of all ones is no limit.
    pub const fn with_boundary_mask(mut self, mask: u64) -> Option<Self> {
        if mask & mask.wrapping_add(1) != 0 {
            return None;
        }
        self.boundary_mask = mask;
        Some(self)
    }

    /// Asks that a bounce buffer keeps the bits of `mask` of the address that it stands for, as a
    /// device needs whose descriptors name pages and only the first an offset.
    ///
    /// Returns `None` unless `mask + 1` is a power of two.
    pub const fn with_min_align_mask(mut self, mask: u32) -> Option<Self> {
        if mask & mask.wrapping_add(1) != 0 {
            return None;
        }
        self.min_align_mask = mask;
        Some(self)
    }

    /// Returns the length in bytes of the longest segment.
    #[inline]
    pub const fn max_segment(&self) -> u64 {
        self.max_segment
    }

    /// Returns the mask of the boundary: no segment crosses a multiple of it and one. All ones if
    /// there is no such limit.
    #[inline]
    pub const fn boundary_mask(&self) -> u64 {
        self.boundary_mask
    }

    /// Returns the bits of an address that a bounce buffer keeps.
    #[inline]
    pub const fn min_align_mask(&self) -> u32 {
        self.min_align_mask
    }

    /// Returns the limits of a block queue, which are never zero; a mask of all ones is none.
    #[inline]
    #[doc(hidden)]
    pub const fn of_queue(max_segment: u32, boundary_mask: usize) -> Self {
        // INVARIANT: the block layer keeps both sane: `blk_validate_limits()`.
        // CAST: a `usize` is at most 64 bits wide; all ones stay all ones.
        Self {
            max_segment: max_segment as u64,
            boundary_mask: boundary_mask as isize as u64,
            min_align_mask: 0,
        }
    }

    /// Returns the length of the longest segment that may begin at `addr`.
    #[inline]
    pub const fn max_len_at(&self, addr: u64) -> u64 {
        // One less than the distance to the boundary, which itself may be 2^64. The limits of a
        // queue are not validated, hence the subtraction that wraps.
        let last = self.boundary_mask - (addr & self.boundary_mask);
        if last < self.max_segment.wrapping_sub(1) {
            last + 1
        } else {
            self.max_segment
        }
    }

    /// Returns whether there is a boundary that no segment may cross.
    #[inline]
    pub(crate) const fn has_boundary(&self) -> bool {
        self.boundary_mask != u64::MAX
    }

    /// Returns whether a range is within both limits. It does not overflow.
    #[inline]
    pub(crate) const fn allow_range(&self, addr: u64, len: u64) -> bool {
        // Without a boundary a segment may end anywhere.
        len <= self.max_segment && (!self.has_boundary() || len <= self.max_len_at(addr))
    }

    /// Returns whether `bytes` fit between two boundaries.
    #[inline]
    pub(crate) const fn boundary_allows(&self, bytes: u64) -> bool {
        // One less, as the distance itself may be 2^64; no bytes fit anywhere.
        self.boundary_mask >= bytes.saturating_sub(1)
    }

    /// Returns whether neither limit is in the way of a range of `bytes` bytes, wherever it begins.
    #[inline]
    #[doc(hidden)]
    pub const fn allow_anywhere(&self, bytes: usize) -> bool {
        // CAST: a `usize` is at most 64 bits wide.
        !self.has_boundary() && bytes as u64 <= self.max_segment
    }

    /// Returns whether both limits allow segments of `bytes` bytes, if these are aligned.
    #[inline]
    #[doc(hidden)]
    pub const fn allow(&self, bytes: u64) -> bool {
        self.max_segment >= bytes && self.boundary_allows(bytes)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(phyr_limits)]
mod tests {
    use super::*;

    const G: u64 = 4096;

    #[test]
    fn longest_at_the_edges() {
        assert_eq!(Limits::NONE.max_len_at(0), u64::MAX);
        assert_eq!(Limits::NONE.max_len_at(u64::MAX), 1);
        let limits = Limits::NONE
            .with_boundary_mask(G - 1)
            .unwrap_or(Limits::NONE);
        assert_eq!(
            (
                limits.max_len_at(0),
                limits.max_len_at(1),
                limits.max_len_at(G - 1)
            ),
            (G, G - 1, 1)
        );
        assert!(limits.allow(G) && !limits.allow(G + 1));
        assert!(limits.allow_range(1, G - 1) && !limits.allow_range(1, G));
        assert!(Limits::NONE.allow_range(u64::MAX - 1, 1));
        let limits = Limits::NONE.with_max_segment(G).unwrap_or(Limits::NONE);
        assert!(limits.allow_range(1, G) && !limits.allow_range(0, G + 1));
        assert!(limits.allow(0) && Limits::NONE.allow(0) && Limits::NONE.allow(u64::MAX));
        assert!(Limits::NONE.with_max_segment(0).is_none());
        assert!(Limits::NONE.with_boundary_mask(G).is_none());
        assert!(Limits::NONE.with_min_align_mask(5).is_none());
    }
}
