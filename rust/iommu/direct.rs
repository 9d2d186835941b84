// SPDX-License-Identifier: GPL-2.0

//! Regions that the platform wants a device to reach all the time, one to one: Intel's RMRR, AMD's
//! IVMD, RMR of ARM's IORT. The firmware, or the device for itself, does DMA there.
//!
//! The kernel has them in the domain of the DMA API from the beginning. A domain of the driver's
//! own gets them before the device is attached to it, with the rights that the platform asks for,
//! and has them to its end; their addresses are nobody else's. Also those that are called
//! relaxable, which VFIO leaves out: what is given to a user is not for the firmware any more, a
//! device with a driver in the kernel is.
//!
//! If one of them cannot be mapped, the device is not attached.
//!
//! C: `iommu_create_device_direct_mappings()` in
//! [`drivers/iommu/iommu.c`](srctree/drivers/iommu/iommu.c).

use super::{
    life::{
        Fixed,
        Raw, //
    },
    NotAttached, //
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
use phyr::raw;

/// A region of addresses that the platform has something to say of.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// The first address.
    pub start: u64,
    /// The length in bytes.
    pub len: u64,
    /// The device's rights, as for `iommu_map()`.
    pub prot: i32,
    /// Its type: `IOMMU_RESV_*`.
    pub kind: bindings::iommu_resv_type,
}

impl Region {
    /// The last address, if it is not empty.
    pub(super) fn last(&self) -> Option<u64> {
        let len = self.len.checked_sub(1)?;
        Some(self.start.saturating_add(len))
    }

    fn is_direct(&self) -> bool {
        matches!(
            self.kind,
            bindings::iommu_resv_type_IOMMU_RESV_DIRECT
                | bindings::iommu_resv_type_IOMMU_RESV_DIRECT_RELAXABLE
        )
    }
}

/// Calls `f` with each region of `dev`.
///
/// # Errors
///
/// Those of `f`.
pub(super) fn regions(dev: &Device<Bound>, mut f: impl FnMut(Region) -> Result) -> Result {
    let mut list = bindings::list_head::default();
    let head = &raw mut list;
    // SAFETY: the list is ours, and does not move; the device is bound. What is made here is an
    // empty list.
    unsafe {
        (*head).next = head;
        (*head).prev = head;
        bindings::iommu_get_resv_regions(raw::device(dev), head);
    }
    let mut result = Ok(());
    // SAFETY: it was just initialised.
    let mut at = unsafe { (*head).next };
    while at != head && result.is_ok() {
        // SAFETY: what is on the list are regions, and the list is their first field.
        let (region, next) = unsafe { (&*at.cast::<bindings::iommu_resv_region>(), (*at).next) };
        result = f(Region {
            start: region.start,
            // CAST: a `usize` is at most 64 bits wide.
            len: region.length as u64,
            prot: region.prot,
            kind: region.type_,
        });
        at = next;
    }
    // SAFETY: `head` is the list that `iommu_get_resv_regions()` has filled for this device.
    unsafe { bindings::iommu_put_resv_regions(raw::device(dev), head) };
    result
}

/// Maps those regions of `dev` in `domain`, to which nothing is attached, that the platform wants
/// to be there, and `more`.
///
/// # Errors
///
/// - [`NotAttached::Direct`]: one of them cannot be mapped.
/// - [`NotAttached::Failed`] with `ENOMEM`: no memory.
///
/// # Safety
///
/// The device may access the regions of `more` until the domain is gone.
pub(super) unsafe fn map(
    dev: &Device<Bound>,
    domain: &Arc<Raw>,
    more: &[Region],
) -> Result<Fixed, NotAttached> {
    let mut fixed = Fixed::new(domain);
    let mut all = KVec::new();
    regions(dev, |region| Ok(all.push(region, GFP_KERNEL)?)).map_err(NotAttached::Failed)?;
    for region in Iterator::chain(all.iter(), more) {
        let Some(last) = region.last().filter(|_| region.is_direct()) else {
            continue;
        };
        let first = region.start;
        let refused = |error| NotAttached::Direct { first, last, error };
        let granule = domain.granule().ok_or(refused(EOPNOTSUPP))?;
        if !granule.aligned(first) || !granule.aligned(region.len) {
            return Err(refused(EDOM));
        }
        let mut from = Some(first);
        // Of what several regions have the first one's rights count.
        while let Some((start, end)) = from.and_then(|from| gap(fixed.ranges(), from, last)) {
            // SAFETY: `region` is one that the platform asks for, or one of `more`, which the
            // device may access; the gap is whole granules, as both ends of each region are.
            // Nothing else is mapped yet, and the room will be reserved.
            unsafe { fixed.map(start, start, end - start + 1, region.prot) }.map_err(refused)?;
            from = end.checked_add(1);
        }
    }
    Ok(fixed)
}

/// The lowest range between `from` and `last`, both included, that is not in `taken`.
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
#[kunit_tests(phyr_iommu_direct)]
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

    #[test]
    fn a_region_ends_where_addresses_do() {
        let region = |start, len| Region {
            start,
            len,
            prot: 0,
            kind: bindings::iommu_resv_type_IOMMU_RESV_DIRECT,
        };
        assert_eq!(region(5, 0).last(), None);
        assert_eq!(region(0, u64::MAX).last(), Some(u64::MAX - 1));
        assert_eq!(region(1, u64::MAX).last(), Some(u64::MAX));
        assert_eq!(region(4096, u64::MAX).last(), Some(u64::MAX));
    }
}
