// SPDX-License-Identifier: GPL-2.0

//! The geometry of a disk (`HDIO_GETGEO`).
//!
//! C: `struct hd_geometry` ([`include/uapi/linux/hdreg.h`](srctree/include/uapi/linux/hdreg.h)).
//!
//! It is fixed when the disk is made, not asked of the driver later: a disk that is still open can
//! be asked after it was removed, when nothing of the driver's is there any more.

use super::bindings as helpers;
use core::num::NonZeroU8;
use kernel::{
    bindings,
    ffi::c_int,
    prelude::*, //
};

/// Heads, and sectors of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    heads: NonZeroU8,
    sectors: NonZeroU8,
}

impl Geometry {
    /// Makes a geometry, or `None` if either number is zero.
    pub(crate) const fn new(heads: u8, sectors: u8) -> Option<Self> {
        match (NonZeroU8::new(heads), NonZeroU8::new(sectors)) {
            (Some(heads), Some(sectors)) => Some(Self { heads, sectors }),
            _ => None,
        }
    }

    /// Returns the number of cylinders of a disk of `capacity` sectors, at most [`u16::MAX`].
    fn cylinders(self, capacity: u64) -> u16 {
        let cylinder = u64::from(self.heads.get()) * u64::from(self.sectors.get());
        u16::try_from(capacity / cylinder).unwrap_or(u16::MAX)
    }

    /// Returns the geometry as a disk's `private_data`.
    pub(crate) fn into_private_data(self) -> *mut c_void {
        let bits = usize::from(self.heads.get()) << 8 | usize::from(self.sectors.get());
        core::ptr::without_provenance_mut(bits)
    }

    /// Returns the geometry from a disk's `private_data`.
    fn from_private_data(data: *mut c_void) -> Option<Self> {
        // CAST: a byte each.
        Self::new((data.addr() >> 8) as u8, data.addr() as u8)
    }

    /// # Safety
    ///
    /// The block layer calls this with a disk whose `private_data` is a geometry's.
    pub(crate) unsafe extern "C" fn getgeo(
        disk: *mut bindings::gendisk,
        geo: *mut bindings::hd_geometry,
    ) -> c_int {
        // SAFETY: `disk` is valid during the call.
        let data = unsafe { (*disk).private_data };
        let Some(geometry) = Self::from_private_data(data) else {
            return ENOTTY.to_errno();
        };
        // SAFETY: a disk has its whole block device for as long as it is valid. Others may change
        // the size; any value does.
        let capacity =
            unsafe { core::ptr::read_volatile(&raw const (*(*disk).part0).bd_nr_sectors) };
        let geo = geo.cast::<helpers::hd_geometry>();
        // SAFETY: `geo` is valid and ours during the call; the bindings of the kernel only know
        // that there is such a type.
        let geo = unsafe { &mut *geo };
        geo.heads = geometry.heads.get();
        geo.sectors = geometry.sectors.get();
        geo.cylinders = geometry.cylinders(capacity);
        0
    }
}

#[kunit_tests(phyr_blk_geometry)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_way_through_c() {
        for heads in [0, 1, 16, 255] {
            for sectors in [0, 1, 63, 255] {
                let Some(geometry) = Geometry::new(heads, sectors) else {
                    assert!(heads == 0 || sectors == 0);
                    continue;
                };
                let data = geometry.into_private_data();
                assert_eq!(Geometry::from_private_data(data), Some(geometry));
            }
        }
        assert!(Geometry::from_private_data(core::ptr::null_mut()).is_none());
    }

    #[test]
    fn cylinders_have_an_end() {
        let standard = Geometry::new(64, 32);
        for (capacity, cylinders) in [
            (0, 0),
            (2047, 0),
            (2048, 1),
            (2048 * 65535 - 1, 65534),
            (2048 * 65535, 65535),
            (2048 * 65536, 65535),
            (u64::MAX, 65535),
        ] {
            assert_eq!(standard.map(|it| it.cylinders(capacity)), Some(cylinders));
        }
    }
}
