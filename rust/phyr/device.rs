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
pub fn does_dma(dev: &Device<Bound>) -> bool {
    // SAFETY: `dev` is a device that is bound.
    unsafe { !(*raw::device(dev)).dma_mask.is_null() }
}

/// Checks that the device does DMA.
///
/// # Errors
///
/// - `EINVAL`: it does not, and the log says so.
pub fn check_dma(dev: &Device<Bound>) -> Result {
    if !does_dma(dev) {
        dev_err!(dev, "phyr: the device does no DMA\n");
        return Err(EINVAL);
    }
    Ok(())
}

/// Makes functions that call C's of the same signature.
macro_rules! calls {
    ($(
        $(#[$attr:meta])*
        $vis:vis fn $name:ident($($arg:ident: $type:ty)?) -> $result:ty = $call:path;
    )*) => {$(
        $(#[$attr])*
        $vis fn $name(dev: &Device<Bound>$(, $arg: $type)?) -> $result {
            // SAFETY: `dev` is a device that is bound; the functions named below ask for no more.
            unsafe { $call(raw::device(dev)$(, $arg)?) }
        }
    )*};
}

calls! {
    /// Returns the size of the granules in which the DMA API maps for the device, less one, or zero
    /// where no IOMMU translates.
    pub(crate) fn merge_boundary() -> usize = kernel::bindings::dma_get_merge_boundary;

    /// Returns whether mappings of the device have to be unmapped.
    ///
    /// Call it after mapping: a bounce buffer that was taken changes the result.
    #[inline]
    pub(crate) fn need_unmap() -> bool = kernel::bindings::dma_need_unmap;

    /// Returns the length in bytes of the longest mapping.
    pub(crate) fn max_mapping_size() -> usize = kernel::bindings::dma_max_mapping_size;

    /// Returns the length in bytes of the longest mapping that is fast.
    pub(crate) fn opt_mapping_size() -> usize = kernel::bindings::dma_opt_mapping_size;

    /// Returns whether the device reaches less than all of memory.
    fn addressing_limited() -> bool = kernel::bindings::dma_addressing_limited;

    /// Returns whether the device may see the whole granules around a buffer: not if it is behind
    /// an external port (`pdev->untrusted`).
    pub(crate) fn is_trusted() -> bool = bindings::phyr_helper_dev_is_trusted;

    /// Returns whether the device's accesses are coherent with the CPU's caches.
    pub fn is_coherent() -> bool = bindings::phyr_helper_dev_is_dma_coherent;

    /// Returns whether all memory is bounced for the device, where no IOMMU translates.
    pub(crate) fn always_bounces() -> bool = bindings::phyr_helper_dma_bounces;

    /// Returns the DMA address of a physical address where nothing translates, or all ones.
    pub(crate) fn to_dma(paddr: u64) -> u64 = bindings::phyr_helper_phys_to_dma;

    /// Returns the highest DMA address that the device can use, as its own mask and its bus limit
    /// it.
    pub fn dma_mask() -> u64 = bindings::phyr_helper_dma_get_mask;

    /// Returns the length in bytes of the longest segment.
    pub fn max_segment() -> u32 = bindings::phyr_helper_dma_get_max_seg_size;

    /// Returns the mask of the boundary that no segment crosses.
    pub(crate) fn segment_boundary() -> usize = bindings::phyr_helper_dma_get_seg_boundary;

    /// Returns the bits of an address that bounce buffers keep.
    pub(crate) fn min_align_mask() -> u32 = bindings::phyr_helper_dma_get_min_align_mask;

    /// Returns the length in bytes of the longest bounce buffer for the device at addresses up to
    /// `mask`, or zero if there is none.
    pub(crate) fn max_bounce_size(mask: u64) -> usize =
        bindings::phyr_helper_swiotlb_max_mapping_size;
}

/// Returns whether some memory has to be bounced for the device, where no IOMMU translates.
pub(crate) fn needs_bouncing(dev: &Device<Bound>) -> bool {
    addressing_limited(dev) || always_bounces(dev)
}
