// SPDX-License-Identifier: GPL-2.0

//! IOVAs that the platform has reserved for a device: those that the DMA API does not give out
//! either.
//!
//! C: `iova_reserve_iommu_regions()` and `iova_reserve_pci_windows()` in
//! [`drivers/iommu/dma-iommu.c`](srctree/drivers/iommu/dma-iommu.c).

use crate::bindings as helpers;
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};
use phyr::raw;

/// A region of IOVAs that the platform has reserved, `struct iommu_resv_region`.
#[derive(Clone, Copy, Debug)]
pub struct ReservedRegion {
    /// First address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Access rights of the device, as flags of `iommu_map()`.
    pub prot: i32,
    /// Type: `IOMMU_RESV_*`.
    pub kind: bindings::iommu_resv_type,
}

impl ReservedRegion {
    /// Returns the last address, or `None` if the region is empty.
    pub(super) fn last(&self) -> Option<u64> {
        let len = self.len.checked_sub(1)?;
        Some(self.start.saturating_add(len))
    }

    /// Returns whether the platform wants the region mapped one to one.
    pub(super) fn is_direct(&self) -> bool {
        matches!(
            self.kind,
            bindings::iommu_resv_type_IOMMU_RESV_DIRECT
                | bindings::iommu_resv_type_IOMMU_RESV_DIRECT_RELAXABLE
        )
    }
}

/// Calls `f` with each region that the platform has reserved for `dev`.
///
/// # Errors
///
/// Those of `f`.
pub(super) fn regions(dev: &Device<Bound>, mut f: impl FnMut(ReservedRegion) -> Result) -> Result {
    let mut list = bindings::list_head::default();
    let head = &raw mut list;
    // SAFETY: the list is local, does not move, and is made an empty one; the device is bound.
    unsafe {
        (*head).next = head;
        (*head).prev = head;
        bindings::iommu_get_resv_regions(raw::device(dev), head);
    }
    let mut result = Ok(());
    // SAFETY: the list is initialised.
    let mut at = unsafe { (*head).next };
    while at != head && result.is_ok() {
        // SAFETY: the elements of the list are regions, and the link is their first field.
        let (region, next) = unsafe { (&*at.cast::<bindings::iommu_resv_region>(), (*at).next) };
        result = f(ReservedRegion {
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

/// Calls `f` with the first and the last address of each range of IOVAs that is reserved for `dev`.
///
/// # Errors
///
/// Those of `f`.
pub(super) fn ranges(dev: &Device<Bound>, mut f: impl FnMut(u64, u64) -> Result) -> Result {
    regions(dev, |region| {
        // The kernel could map messages there, but need not: `msi` looks at what it has mapped.
        if region.kind == bindings::iommu_resv_type_IOMMU_RESV_SW_MSI {
            return Ok(());
        }
        match region.last() {
            Some(last) => f(region.start, last),
            None => Ok(()),
        }
    })?;

    let (mut start, mut end) = (0, 0);
    for nr in 0.. {
        // SAFETY: the device is bound, and both numbers may be written.
        if !unsafe {
            helpers::phyr_iommu_helper_pci_window(raw::device(dev), nr, &mut start, &mut end)
        } {
            break;
        }
        f(start, end)?;
    }
    // The gaps between the ranges of memory that the host bridge lets through.
    let mut from = 0;
    loop {
        // SAFETY: the device is bound, and both numbers may be written.
        if !unsafe {
            helpers::phyr_iommu_helper_pci_dma_range(raw::device(dev), from, &mut start, &mut end)
        } {
            break;
        }
        if start > from {
            f(from, start - 1)?;
        }
        match end.checked_add(1) {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
    if from != 0 {
        f(from, u64::MAX)?;
    }
    Ok(())
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(phyr_iommu_reserved)]
mod tests {
    use super::*;

    #[test]
    fn a_region_ends_where_addresses_do() {
        let region = |start, len| ReservedRegion {
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
