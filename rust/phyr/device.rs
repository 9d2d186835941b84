// SPDX-License-Identifier: GPL-2.0

//! Facts of a device that its mappings depend on, as the DMA API has them.
//!
//! C headers: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h),
//! [`include/linux/dma-map-ops.h`](srctree/include/linux/dma-map-ops.h)

use super::{
    bindings,
    raw, //
};
use kernel::device::{
    Bound,
    Device, //
};

/// Returns whether the device does DMA: whether its bus has given it a DMA mask.
#[doc(hidden)]
pub fn does_dma(dev: &Device<Bound>) -> bool {
    // SAFETY: `dev` is a device that is bound.
    unsafe { !(*raw::device(dev)).dma_mask.is_null() }
}

/// Returns the size of the granules in which the DMA API maps for the device, less one, or zero
/// where nothing translates: `dma_get_merge_boundary()`.
pub(crate) fn merge_boundary(dev: &Device<Bound>) -> u64 {
    // SAFETY: `dev` is a device that is bound.
    // CAST: an `unsigned long` is at most 64 bits wide.
    unsafe { kernel::bindings::dma_get_merge_boundary(raw::device(dev)) as u64 }
}

/// Returns whether mappings of the device have to be undone at all: `dma_need_unmap()`.
///
/// To be asked after mapping: a bounce buffer taken meanwhile changes the answer.
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

/// Returns whether the device may see more than a buffer: the granules around it. A device behind
/// an external port may not.
pub(crate) fn is_trusted(dev: &Device<Bound>) -> bool {
    // SAFETY: `dev` is a device that is bound.
    unsafe { bindings::phyr_helper_dev_is_trusted(raw::device(dev)) }
}

/// Returns whether the caches of the processors and the device's accesses keep in step by
/// themselves: `dev_is_dma_coherent()`.
#[doc(hidden)]
pub fn is_coherent(dev: &Device<Bound>) -> bool {
    // SAFETY: `dev` is a device that is bound.
    unsafe { bindings::phyr_helper_dev_is_dma_coherent(raw::device(dev)) }
}

/// Returns whether there is memory of which the device can have a copy only, where nothing
/// translates.
pub(crate) fn needs_bouncing(dev: &Device<Bound>) -> bool {
    let dev = raw::device(dev);
    // SAFETY: the device is valid.
    unsafe {
        kernel::bindings::dma_addressing_limited(dev) || bindings::phyr_helper_dma_bounces(dev)
    }
}

/// Returns whether all that the device gets to see are copies, where nothing translates.
pub(crate) fn always_bounces(dev: &Device<Bound>) -> bool {
    // SAFETY: `dev` is a device that is bound.
    unsafe { bindings::phyr_helper_dma_bounces(raw::device(dev)) }
}

/// Returns the highest address that the device, and the bus that it is on, can tell.
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

/// Returns the length in bytes of the longest copy at addresses up to `mask` that can be made for
/// the device, or zero if there is none.
pub(crate) fn max_bounce_size(dev: &Device<Bound>, mask: u64) -> usize {
    // SAFETY: `dev` is a device that is bound.
    unsafe { bindings::phyr_helper_swiotlb_max_mapping_size(raw::device(dev), mask) }
}
