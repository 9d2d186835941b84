// SPDX-License-Identifier: GPL-2.0

//! The two ends of a mapping: [`Phyr`] goes in, [`DmaVec`] comes out.
//!
//! The types never mix. A [`Phyr`] holds no DMA address; a [`DmaVec`] holds no physical address,
//! page or kernel pointer, and nothing turns one back into the other. This file is plain Rust with
//! no kernel call in it.
//!
//! C: `struct phys_vec` ([`include/linux/types.h`](srctree/include/linux/types.h)) and
//! `struct dma_vec` ([`include/linux/dmaengine.h`](srctree/include/linux/dmaengine.h)); that the
//! layouts are the same is asserted in `raw.rs`.

use core::num::NonZeroUsize;

/// A physical address, as the CPU sees it: what `phys_addr_t` holds.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhysAddr(u64);

impl PhysAddr {
    /// Makes a physical address from its number.
    #[inline]
    pub const fn from_raw(addr: u64) -> Self {
        Self(addr)
    }

    /// Returns the address as a number.
    #[inline]
    pub const fn into_raw(self) -> u64 {
        self.0
    }
}

/// An address as a device sees it: what `dma_addr_t` holds. Behind an IOMMU it is an IOVA.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DmaAddr(u64);

impl DmaAddr {
    /// Makes a DMA address from its number.
    #[inline]
    pub const fn from_raw(addr: u64) -> Self {
        Self(addr)
    }

    /// Returns the address as a number, to be written into a descriptor or a register.
    #[inline]
    pub const fn into_raw(self) -> u64 {
        self.0
    }

    /// Returns the address `bytes` further on; wraps around after the last one.
    #[inline]
    #[doc(hidden)]
    pub const fn advanced(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

/// The reason for which an address and a length are no [`Phyr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPhyr {
    /// The length is zero.
    Empty,
    /// The range ends beyond the last address.
    Overflow,
}

/// A physically contiguous range of memory: the input of a mapping.
///
/// The length is in bytes and never zero; the end does not overflow.
///
/// A `Phyr` is a description, not a permission: whoever maps one vouches for the memory, see
/// [`Mapper::map_into`](crate::mapper::Mapper::map_into).
///
/// # Invariants
///
/// `paddr + len` does not overflow `u64`.
///
/// # Examples
///
/// ```
/// use phyr::{PhysAddr, Phyr};
///
/// let phyr = Phyr::new(PhysAddr::from_raw(0x1000), 0x200)?;
/// assert_eq!(phyr.end(), 0x1200);
/// assert!(Phyr::new(PhysAddr::from_raw(0x1000), 0).is_err());
/// # Ok::<(), phyr::BadPhyr>(())
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phyr {
    pub(crate) paddr: PhysAddr,
    pub(crate) len: NonZeroUsize,
}

impl Phyr {
    /// Describes the `len` bytes of memory at `paddr`.
    ///
    /// # Errors
    ///
    /// - [`BadPhyr::Empty`]: `len` is zero.
    /// - [`BadPhyr::Overflow`]: the range does not fit below the highest address.
    #[inline]
    pub const fn new(paddr: PhysAddr, len: usize) -> Result<Self, BadPhyr> {
        let Some(len) = NonZeroUsize::new(len) else {
            return Err(BadPhyr::Empty);
        };
        // CAST: a `usize` is at most 64 bits wide on every architecture that Linux has.
        if paddr.0.checked_add(len.get() as u64).is_none() {
            return Err(BadPhyr::Overflow);
        }
        // INVARIANT: the sum was checked just above.
        Ok(Self { paddr, len })
    }

    /// Returns a range that was a `Phyr` before, and so does not overflow, or `None` if it is
    /// empty.
    #[inline]
    pub(crate) const fn known(paddr: PhysAddr, len: usize) -> Option<Self> {
        match NonZeroUsize::new(len) {
            // INVARIANT: the caller has taken both from a `Phyr`.
            Some(len) => Some(Self { paddr, len }),
            None => None,
        }
    }

    /// Returns the address of the range.
    #[inline]
    pub const fn paddr(self) -> PhysAddr {
        self.paddr
    }

    /// Returns its length in bytes, never zero.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(self) -> usize {
        self.len.get()
    }

    /// Returns the first `at` bytes and the rest, or `None` where one of them would be empty.
    #[inline]
    pub(crate) const fn split(self, at: usize) -> Option<(Self, Self)> {
        let (Some(head), Some(tail)) = (
            NonZeroUsize::new(at),
            NonZeroUsize::new(self.len.get().saturating_sub(at)),
        ) else {
            return None;
        };
        // CAST: a `usize` is at most 64 bits wide.
        let paddr = PhysAddr(self.paddr.0 + at as u64);
        // INVARIANT: both ends are within the range, which does not overflow.
        Some((Self { len: head, ..self }, Self { paddr, len: tail }))
    }

    /// Returns the two ranges as one, if `next` begins where this ends and the length does not
    /// overflow.
    #[inline]
    pub const fn join(self, next: Self) -> Option<Self> {
        if self.end() != next.paddr.0 {
            return None;
        }
        match self.len.checked_add(next.len.get()) {
            // INVARIANT: the end is that of `next`, which does not overflow.
            Some(len) => Some(Self { len, ..self }),
            None => None,
        }
    }

    /// Returns the first address after the range.
    #[inline]
    pub const fn end(self) -> u64 {
        // CAST: see `new`; by the type invariant the sum does not overflow.
        self.paddr.0.wrapping_add(self.len.get() as u64)
    }
}

/// A range of addresses that a device may use: the output of a mapping.
///
/// Both the address and the length in bytes are the device's view. The range is valid from the
/// mapping that gave it until that mapping ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaVec {
    pub(crate) addr: DmaAddr,
    pub(crate) len: usize,
}

impl DmaVec {
    /// Names a range of DMA addresses, such as a part of a coherent allocation.
    ///
    /// This maps nothing: it is for memory that is mapped already, and for tests of what builds
    /// descriptors out of ranges.
    #[inline]
    pub const fn new(addr: DmaAddr, len: usize) -> Self {
        Self { addr, len }
    }

    /// Returns the address of the range for the device.
    #[inline]
    pub const fn addr(self) -> DmaAddr {
        self.addr
    }

    /// Returns its length in bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(self) -> usize {
        self.len
    }
}

/// The smallest unit that an IOMMU maps, in bytes: a power of two.
///
/// # Invariants
///
/// `mask + 1` is a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granule {
    mask: u64,
}

impl Granule {
    /// A granule of one byte.
    pub const ONE: Self = Self { mask: 0 };

    /// Makes a granule of `size` bytes, or returns `None` where that is no power of two.
    #[inline]
    pub const fn new(size: u64) -> Option<Self> {
        if !size.is_power_of_two() {
            return None;
        }
        // INVARIANT: `size` is a power of two.
        Some(Self { mask: size - 1 })
    }

    /// Returns its size in bytes.
    #[inline]
    pub const fn size(self) -> u64 {
        // By the type invariant the mask is below the highest number.
        self.mask.wrapping_add(1)
    }

    /// Returns the offset of `addr` in its granule.
    #[inline]
    pub const fn offset(self, addr: u64) -> u64 {
        addr & self.mask
    }

    /// Returns the number of the granule in which `addr` is.
    #[inline]
    pub const fn number(self, addr: u64) -> u64 {
        // By the type invariant the mask has ones at its low end only; for all ones but the highest
        // bit it has 63 of them.
        addr >> self.mask.count_ones()
    }

    /// Returns whether `addr` is the beginning of a granule.
    #[inline]
    pub const fn aligned(self, addr: u64) -> bool {
        addr & self.mask == 0
    }

    /// Returns whether an IOMMU with this granule joins a range that ends at `end` and one that
    /// begins at `start`, to one range of IOVA: both are where a granule begins.
    #[inline]
    pub(crate) const fn joins(self, end: u64, start: u64) -> bool {
        self.aligned(end | start)
    }

    /// Rounds `addr` up to a whole granule; `None` on overflow.
    #[inline]
    pub const fn align_up(self, addr: u64) -> Option<u64> {
        match addr.checked_add(self.mask) {
            Some(sum) => Some(sum & !self.mask),
            None => None,
        }
    }

    /// Rounds `addr` down to a whole granule.
    #[inline]
    pub const fn align_down(self, addr: u64) -> u64 {
        addr & !self.mask
    }

    /// Returns the whole granules in which `phyr` lies, or `None` on overflow.
    #[inline]
    pub(crate) const fn around(self, phyr: Phyr) -> Option<Phyr> {
        let start = self.align_down(phyr.paddr.0);
        let Some(end) = self.align_up(phyr.end()) else {
            return None;
        };
        // CAST: less than two granules more than the length, which is a `usize`.
        let Some(len) = NonZeroUsize::new((end - start) as usize) else {
            return None;
        };
        // INVARIANT: the end was just found not to overflow.
        Some(Phyr {
            paddr: PhysAddr(start),
            len,
        })
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(phyr_types)]
mod tests {
    use super::*;

    fn phyr(addr: u64, len: usize) -> Result<Phyr, BadPhyr> {
        Phyr::new(PhysAddr::from_raw(addr), len)
    }

    #[test]
    fn a_phyr_is_neither_empty_nor_overflows() {
        assert_eq!(phyr(0, 0), Err(BadPhyr::Empty));
        assert_eq!(phyr(u64::MAX, 1), Err(BadPhyr::Overflow));
        assert_eq!(phyr(1, usize::MAX), Err(BadPhyr::Overflow));
        assert_eq!(phyr(0, usize::MAX).map(Phyr::end), Ok(u64::MAX));
        assert_eq!(phyr(u64::MAX - 1, 1).map(Phyr::end), Ok(u64::MAX));
        assert_eq!(Phyr::known(PhysAddr::from_raw(1), 2), phyr(1, 2).ok());
        assert_eq!(Phyr::known(PhysAddr::from_raw(1), 0), None);
    }

    #[test]
    fn split_gives_two_parts_or_none() {
        let whole = phyr(0x1000, 10);
        assert!(whole.is_ok_and(|whole| whole.split(0).is_none()));
        assert!(whole.is_ok_and(|whole| whole.split(10).is_none()));
        assert!(whole.is_ok_and(|whole| whole.split(11).is_none()));
        let parts = whole.ok().and_then(|whole| whole.split(9));
        assert_eq!(
            parts.map(|(a, b)| (a.len(), b.len(), b.paddr().into_raw())),
            Some((9, 1, 0x1009))
        );
    }

    #[test]
    fn join_takes_neighbours_only() {
        let join = |a: (u64, usize), b: (u64, usize)| {
            phyr(a.0, a.1)
                .ok()?
                .join(phyr(b.0, b.1).ok()?)
                .map(Phyr::len)
        };
        assert_eq!(join((0x1000, 16), (0x1010, 16)), Some(32));
        assert_eq!(join((0x1000, 16), (0x1011, 16)), None);
        assert_eq!(join((0x1010, 16), (0x1000, 16)), None);
    }

    #[test]
    fn a_granule_is_a_power_of_two() {
        assert!(Granule::new(0).is_none() && Granule::new(4095).is_none());
        let top = Granule::new(1 << 63);
        assert_eq!(top.map(Granule::size), Some(1 << 63));
        assert_eq!(top.and_then(|g| g.align_up(1)), Some(1 << 63));
        assert_eq!(top.and_then(|g| g.align_up((1 << 63) + 1)), None);
        assert_eq!(Granule::new(4096).map(|g| g.offset(4097)), Some(1));
        assert_eq!(Granule::new(4096).map(|g| g.align_down(8191)), Some(4096));
        assert_eq!(Granule::new(4096).map(|g| g.number(8191)), Some(1));
        assert_eq!(top.map(|g| g.number(u64::MAX)), Some(1));
        assert_eq!(Granule::ONE.number(5), 5);
    }

    #[test]
    fn around_a_phyr_are_whole_granules() {
        let around = |addr, len| {
            let around = Granule::new(4096)?.around(phyr(addr, len).ok()?)?;
            Some((around.paddr().into_raw(), around.len()))
        };
        assert_eq!(around(4096, 4096), Some((4096, 4096)));
        assert_eq!(around(8191, 1), Some((4096, 4096)));
        assert_eq!(around(8191, 2), Some((4096, 8192)));
        assert_eq!(around(u64::MAX - 1, 1), None);
    }
}
