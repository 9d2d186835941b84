// SPDX-License-Identifier: GPL-2.0

//! Access rights of a device to memory in a domain.

use kernel::iommu::pgtable::prot;

/// Access rights of a device to a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(u32);

impl Access {
    /// The device may read.
    pub const READ: Self = Self(prot::READ);

    /// The device may write.
    pub const WRITE: Self = Self(prot::WRITE);

    /// The device may read and write.
    pub const READ_WRITE: Self = Self(prot::READ | prot::WRITE);

    /// Returns the [`prot`] flags of `iommu_map()`, for memory of a device if `is_mmio`.
    pub(crate) fn prot(self, is_mmio: bool) -> i32 {
        let kind = if is_mmio { prot::MMIO } else { prot::CACHE };
        // CAST: a few low bits.
        (self.0 | prot::NOEXEC | kind) as i32
    }
}
