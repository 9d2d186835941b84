// SPDX-License-Identifier: GPL-2.0

//! Mappings that the platform needs in a domain; first of all regions that a device has to reach
//! all the time, one to one: Intel's RMRR, AMD's IVMD, RMR of ARM's IORT. The firmware, or the
//! device for itself, does DMA there.
//!
//! The kernel has these regions in the domain of the DMA API from the beginning. A domain of the
//! driver's own gets them before the device is attached to it, with the rights that the platform
//! asks for, and has them to its end; their IOVAs are reserved. That includes the regions called
//! relaxable, which VFIO leaves out: a device that is given to a user is not for the firmware any
//! more, a device with a driver in the kernel is.
//!
//! If one of them cannot be mapped, the device is not attached.
//!
//! C: `iommu_create_device_direct_mappings()` in
//! [`drivers/iommu/iommu.c`](srctree/drivers/iommu/iommu.c).

use super::{
    error::AttachError,
    paging::PagingDomain,
    reserved::{
        regions,
        ReservedRegion, //
    }, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    sync::Arc, //
};

/// Mappings in a domain that the platform needs, not its owner. Dropping this unmaps them, when the
/// device has left the domain.
///
/// # Invariants
///
/// Each of `ranges`, a first and a last address in whole granules, is mapped by this. They do not
/// overlap, and nothing else is ever mapped there.
pub(super) struct PlatformMappings {
    paging: Arc<PagingDomain>,
    ranges: KVec<(u64, u64)>,
}

impl PlatformMappings {
    /// Maps in `paging`, to which nothing is attached, the regions of `dev` that the platform wants
    /// mapped one to one, and those of `more`.
    ///
    /// # Errors
    ///
    /// - [`AttachError::Direct`]: one of them cannot be mapped.
    /// - [`AttachError::Failed`] with `ENOMEM`: no memory.
    ///
    /// # Safety
    ///
    /// - The device may access the regions of `more` until the domain is gone.
    /// - Nothing is mapped in the domain, and nothing else will be in the ranges of this.
    pub(super) unsafe fn new(
        dev: &Device<Bound>,
        paging: &Arc<PagingDomain>,
        more: &[ReservedRegion],
    ) -> Result<Self, AttachError> {
        // INVARIANT: nothing is mapped yet.
        let mut this = Self {
            paging: paging.clone(),
            ranges: KVec::new(),
        };
        let mut all = KVec::new();
        regions(dev, |region| Ok(all.push(region, GFP_KERNEL)?))?;
        for region in Iterator::chain(all.iter(), more) {
            let Some(last) = region.last().filter(|_| region.is_direct()) else {
                continue;
            };
            let first = region.start;
            let refused = |error| AttachError::Direct { first, last, error };
            let granule = paging.granule().ok_or(refused(EOPNOTSUPP))?;
            if !granule.aligned(first) || !granule.aligned(region.len) {
                return Err(refused(EDOM));
            }
            let mut from = Some(first);
            // If regions overlap, the first one's rights count.
            while let Some((start, end)) = from.and_then(|from| gap(&this.ranges, from, last)) {
                // SAFETY: the platform asks for `region`, or the caller promises that the device
                // may access it. The gap is not mapped, and whole granules, as all regions are.
                unsafe { this.map(start, start, end - start + 1, region.prot) }.map_err(refused)?;
                from = end.checked_add(1);
            }
        }
        Ok(this)
    }

    /// Returns the first and the last address of each range that is mapped.
    pub(super) fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Maps `len` bytes at `paddr` at `iova`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `len` is zero, or the end overflows.
    /// - `ENOMEM`: no memory.
    /// - Those of `iommu_map()`.
    ///
    /// # Safety
    ///
    /// - The memory is the platform's, and the device may access it as `prot` says until the domain
    ///   is gone.
    /// - Nothing is mapped at the IOVAs, nor will anything else be.
    /// - Addresses and length are multiples of the granule.
    pub(super) unsafe fn map(&mut self, iova: u64, paddr: u64, len: u64, prot: i32) -> Result {
        let last = len.checked_sub(1).and_then(|len| iova.checked_add(len));
        let last = last.ok_or(EINVAL)?;
        self.ranges.reserve(1, GFP_KERNEL)?;
        // SAFETY: the caller promises that the device may access `len` bytes at `paddr`, and that
        // the IOVAs are free, in whole granules.
        // CAST: a length has 64 bits, as `phyr` asks of the kernel.
        unsafe {
            self.paging
                .map(iova, paddr, len as usize, prot, bindings::GFP_KERNEL)
        }?;
        // INVARIANT: the range is mapped. There is room for it.
        let _ = self.ranges.push_within_capacity((iova, last));
        Ok(())
    }
}

impl Drop for PlatformMappings {
    fn drop(&mut self) {
        for &(first, last) in &self.ranges {
            // SAFETY: by the type invariant this has mapped the range, and nobody else did there.
            // CAST: a length has 64 bits, as `phyr` asks of the kernel.
            let _ = unsafe { self.paging.unmap(first, (last - first) as usize + 1) };
        }
    }
}

/// Returns the lowest range between `from` and `last`, both included, that is not in `taken`.
fn gap(taken: &[(u64, u64)], mut from: u64, last: u64) -> Option<(u64, u64)> {
    while let Some((_, end)) = taken.iter().find(|(s, e)| (*s..=*e).contains(&from)) {
        from = end.checked_add(1)?;
    }
    if from > last {
        return None;
    }
    let next = taken.iter().map(|(start, _)| *start);
    let next = next.filter(|start| (from..=last).contains(start)).min();
    Some((from, next.map_or(last, |next| next - 1)))
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(phyr_iommu_platform)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_is_not_taken() {
        assert_eq!(gap(&[], 0, u64::MAX), Some((0, u64::MAX)));
        assert_eq!(gap(&[], 5, 5), Some((5, 5)));
        assert_eq!(gap(&[], 6, 5), None);
        let taken = [(16, 31), (0, 3), (32, 47)];
        assert_eq!(gap(&taken, 0, 100), Some((4, 15)));
        assert_eq!(gap(&taken, 4, 10), Some((4, 10)));
        assert_eq!(gap(&taken, 16, 100), Some((48, 100)));
        assert_eq!(gap(&taken, 20, 47), None);
        assert_eq!(gap(&taken, 20, 48), Some((48, 48)));
        assert_eq!(gap(&taken, 31, 31), None);
        assert_eq!(gap(&taken, 48, 48), Some((48, 48)));
        assert_eq!(gap(&[(8, u64::MAX)], 8, u64::MAX), None);
        assert_eq!(gap(&[(8, u64::MAX)], 0, u64::MAX), Some((0, 7)));
    }
}
