// SPDX-License-Identifier: GPL-2.0

//! Access rights of a device to memory, and the directions of mappings that go with them.
//!
//! Memory has rights at compile time, by the type of the directions in which it is mapped
//! ([`Memory::Direction`](crate::memory::Memory::Direction)), and at run time
//! ([`Memory::access`](crate::memory::Memory::access)).

use kernel::{
    dma::DataDirection,
    iommu::pgtable::prot, //
};

/// Access rights of a device to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(u32);

impl Access {
    /// The device may read.
    pub const READ: Self = Self(prot::READ);

    /// The device may write.
    pub const WRITE: Self = Self(prot::WRITE);

    /// The device may read and write.
    pub const READ_WRITE: Self = Self(prot::READ | prot::WRITE);

    /// Returns the rights that a mapping in the direction `dir` gives to the device.
    #[inline]
    pub fn of(dir: DataDirection) -> Self {
        match dir {
            DataDirection::ToDevice => Self::READ,
            DataDirection::FromDevice => Self::WRITE,
            DataDirection::Bidirectional => Self::READ_WRITE,
            DataDirection::None => Self(0),
        }
    }

    /// Returns whether all rights of `other` are among these.
    #[inline]
    pub fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Returns the rights that are among both.
    #[inline]
    pub(crate) fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the [`prot`] flags of `iommu_map()`, for memory of a device if `is_mmio`.
    #[doc(hidden)]
    pub fn prot(self, is_mmio: bool) -> i32 {
        let kind = if is_mmio { prot::MMIO } else { prot::CACHE };
        // CAST: a few low bits.
        (self.0 | prot::NOEXEC | kind) as i32
    }
}

/// The direction of a mapping of memory that devices may only read; there is no other.
#[derive(Clone, Copy, Debug)]
pub struct ToDevice;

impl From<ToDevice> for DataDirection {
    fn from(_: ToDevice) -> Self {
        Self::ToDevice
    }
}

/// Directions in which a kind of memory can be mapped: all, or [`ToDevice`].
pub trait Direction: Into<DataDirection> + 'static {
    /// The rights of a device to memory of the kind; `Memory::access()` may narrow them.
    const ACCESS: Access;
}

impl Direction for DataDirection {
    const ACCESS: Access = Access::READ_WRITE;
}

impl Direction for ToDevice {
    const ACCESS: Access = Access::READ;
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(phyr_access)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_needs_its_rights() {
        let allowed = |access: Access| {
            [
                DataDirection::ToDevice,
                DataDirection::FromDevice,
                DataDirection::Bidirectional,
            ]
            .map(|dir| access.contains(Access::of(dir)))
        };
        assert_eq!(allowed(Access::READ), [true, false, false]);
        assert_eq!(allowed(Access::WRITE), [false, true, false]);
        assert_eq!(allowed(Access::READ_WRITE), [true; 3]);
        assert_eq!(allowed(Access::READ.common(Access::WRITE)), [false; 3]);
    }
}
