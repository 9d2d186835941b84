// SPDX-License-Identifier: GPL-2.0

//! Facts of a device that its mappings depend on, as the DMA API has them.
//!
//! C headers: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h),
//! [`include/linux/dma-map-ops.h`](srctree/include/linux/dma-map-ops.h)

use super::{
    bindings,
    raw, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};

/// Returns whether the device does DMA: whether its bus has given it a DMA mask.
#[doc(hidden)]
pub fn does_dma(dev: &Device<Bound>) -> bool {
    // SAFETY: `dev` is a device that is bound.
    unsafe { !(*raw::device(dev)).dma_mask.is_null() }
}

/// Checks that the device does DMA.
///
/// # Errors
///
/// - `EINVAL`: it does not, and the log says so.
#[doc(hidden)]
pub fn check_dma(dev: &Device<Bound>) -> Result {
    if !does_dma(dev) {
        dev_err!(dev, "phyr: the device does no DMA\n");
        return Err(EINVAL);
    }
    Ok(())
}

/// Returns the size of the granules in which the DMA API maps for the device, less one, or zero
/// where no IOMMU translates: `dma_get_merge_boundary()`.
pub(crate) fn merge_boundary(dev: &Device<Bound>) -> u64 {
    // SAFETY: `dev` is a device that is bound.
    // CAST: an `unsigned long` is at most 64 bits wide.
    unsafe { kernel::bindings::dma_get_merge_boundary(raw::device(dev)) as u64 }
}

/// Returns whether mappings of the device have to be unmapped: `dma_need_unmap()`.
///
/// Call it after mapping: a bounce buffer that was taken changes the result.
#[inline]
pub(crate) fn need_unmap(dev: &Device<Bound>) -> bool {
    // SAFETY: `dev` is a device that is bound.
    unsafe { kernel::bindings::dma_need_unmap(raw::device(dev)) }
}

/// Returns the length in bytes of the longest mapping: `dma_max_mapping_size()`.
pub(crate) fn max_mapping_size(dev: &Device<Bound>) -> usize {
    // SAFETY: `dev` is a device that is bound.
    unsafe { kernel::bindings::dma_max_mapping_size(raw::device(dev)) }
}

/// Returns the length in bytes of the longest mapping that is fast: `dma_opt_mapping_size()`.
pub(crate) fn opt_mapping_size(dev: &Device<Bound>) -> usize {
    // SAFETY: `dev` is a device that is bound.
    unsafe { kernel::bindings::dma_opt_mapping_size(raw::device(dev)) }
}

/// Returns whether the device may see the whole granules around a buffer: not if it is behind an
/// external port (`pdev->untrusted`).
pub(crate) fn is_trusted(dev: &Device<Bound>) -> bool {
    // SAFETY: `dev` is a device that is bound.
    unsafe { bindings::phyr_helper_dev_is_trusted(raw::device(dev)) }
}

/// Returns whether the device's accesses are coherent with the CPU's caches:
/// `dev_is_dma_coherent()`.
#[doc(hidden)]
pub fn is_coherent(dev: &Device<Bound>) -> bool {
    // SAFETY: `dev` is a device that is bound.
    unsafe { bindings::phyr_helper_dev_is_dma_coherent(raw::device(dev)) }
}

/// Returns whether some memory has to be bounced for the device, where no IOMMU translates.
pub(crate) fn needs_bouncing(dev: &Device<Bound>) -> bool {
    let dev = raw::device(dev);
    // SAFETY: the device is valid.
    unsafe {
        kernel::bindings::dma_addressing_limited(dev) || bindings::phyr_helper_dma_bounces(dev)
    }
}

/// Returns whether all memory is bounced for the device, where no IOMMU translates.
pub(crate) fn always_bounces(dev: &Device<Bound>) -> bool {
    // SAFETY: `dev` is a device that is bound.
    unsafe { bindings::phyr_helper_dma_bounces(raw::device(dev)) }
}

/// Returns the highest DMA address that the device can use, as its own mask and its bus limit it.
#[doc(hidden)]
pub fn dma_mask(dev: &Device<Bound>) -> u64 {
    // SAFETY: `dev` is a device that is bound.
    unsafe { bindings::phyr_helper_dma_get_mask(raw::device(dev)) }
}

/// Returns the length in bytes of the longest segment: `dma_get_max_seg_size()`.
#[doc(hidden)]
pub fn max_segment(dev: &Device<Bound>) -> u32 {
    // SAFETY: `dev` is a device that is bound.
    unsafe { bindings::phyr_helper_dma_get_max_seg_size(raw::device(dev)) }
}

/// Returns the mask of the boundary that no segment crosses: `dma_get_seg_boundary()`.
pub(crate) fn segment_boundary(dev: &Device<Bound>) -> usize {
    // SAFETY: `dev` is a device that is bound.
    unsafe { bindings::phyr_helper_dma_get_seg_boundary(raw::device(dev)) }
}

/// Returns the bits of an address that bounce buffers keep: `dma_get_min_align_mask()`.
pub(crate) fn min_align_mask(dev: &Device<Bound>) -> u32 {
    // SAFETY: `dev` is a device that is bound.
    unsafe { bindings::phyr_helper_dma_get_min_align_mask(raw::device(dev)) }
}

/// Returns the length in bytes of the longest bounce buffer for the device at addresses up to
/// `mask`, or zero if there is none.
pub(crate) fn max_bounce_size(dev: &Device<Bound>, mask: u64) -> usize {
    // SAFETY: `dev` is a device that is bound.
    unsafe { bindings::phyr_helper_swiotlb_max_mapping_size(raw::device(dev), mask) }
}
