// SPDX-License-Identifier: GPL-2.0

//! Flushes of the IOTLB that are too wide for one command.
//!
//! A command of VT-d takes 2^`CAP.MAMV` pages of 4 KiB at most, and is refused if it has more: then
//! nothing is flushed. intel-iommu flushes all of a domain instead, but looks at the limit for
//! second-stage tables only (`cache_tag_flush_iotlb()` in
//! [`drivers/iommu/intel/cache.c`](srctree/drivers/iommu/intel/cache.c)). With first-stage tables a
//! device could go on to access what was unmapped. The allocator of the DMA API aligns ranges to
//! their size, so that there it is one of more than 1 GiB that is not flushed, or of a GiB that
//! begins within a page; of many mappings that are flushed together two pages far apart are enough.
//!
//! So a range of the DMA API's is unlinked a part at a time, where the page table is of the
//! kernel's own kind and no page is in two parts. Elsewhere it must not be: virtio-iommu splits
//! nothing that one call has mapped, and AMD's tables have pages that are longer than a part.

use kernel::{
    bindings::iommu_iotlb_gather,
    page::PAGE_SIZE, //
};

/// The largest naturally aligned range that one invalidation command covers: 2^`CAP.MAMV` pages,
/// which is 2^18 in QEMU, and in the hardware that has first-stage tables.
pub(crate) const MAX_SPAN: usize = 1 << (18 + 12);

/// The most bytes that are linked in a range of the DMA API's that one invalidation command covers
/// for certain: the granules around them are more, and the allocator aligns them to the power of
/// two that is not less.
pub(crate) const MAX_LINKED: usize = MAX_SPAN / 2;

/// Returns whether no page is in two [parts](last_part), of an IOMMU that has pages of these sizes,
/// a bit each.
pub(crate) fn keeps_pages_whole(page_sizes: usize) -> bool {
    page_sizes < 2 * MAX_SPAN
}

/// Returns where the last part of `start..end` begins that one command flushes. There is one.
#[inline]
pub(crate) fn last_part(start: usize, end: usize) -> usize {
    start.max((end - 1) & !(MAX_SPAN - 1))
}

/// Narrows `gather` to a page if it is more than one command flushes, and returns whether it was:
/// then all of the domain is to be flushed first. The page is left because the tables in `gather`
/// are freed by its own flush, for which there must be something to flush.
#[inline]
pub fn narrow(gather: &mut iommu_iotlb_gather) -> bool {
    let is_too_wide = gather.start < gather.end && (gather.start ^ gather.end) >= MAX_SPAN;
    if is_too_wide {
        gather.start = gather.end & !(PAGE_SIZE - 1);
    }
    is_too_wide
}
