// SPDX-License-Identifier: GPL-2.0

//! What a disk is like: its size, its limits, what it can do.
//!
//! C: `struct queue_limits` ([`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)).

use super::{
    disk::Disk,
    operations::Operations,
    tag_set::TagSet, //
};
use kernel::{
    bindings,
    fmt,
    prelude::*,
    sync::Arc, //
};

/// `BLK_FEAT_WRITE_CACHE`; bindgen does not see through the cast in the macro.
const FEAT_WRITE_CACHE: u32 = 1 << 0;
/// `BLK_FEAT_FUA`
const FEAT_FUA: u32 = 1 << 1;
/// `BLK_FEAT_STABLE_WRITES`
const FEAT_STABLE_WRITES: u32 = 1 << 5;

/// Describes a [`Disk`] and makes it.
///
/// What is not set has the block layer's default. Sizes are in bytes, except where a name says
/// sectors: these have 512 bytes.
///
/// # Examples
///
/// ```
/// use kernel::{prelude::*, sync::Arc};
/// use phyr_blk::{Disk, DiskBuilder, Operations, TagSet};
///
/// fn disk<'bound, T: Operations<DiskData<'bound> = ()>>(
///     tag_set: &Arc<TagSet<'bound, T>>,
/// ) -> Result<Disk<'bound, T>> {
///     DiskBuilder::new()
///         .capacity_sectors(1 << 20)
///         .logical_block_size(4096)
///         .max_hw_sectors(2048)
///         .write_cache(true, true)
///         .build(fmt!("example{}", 0), tag_set, ())
/// }
/// ```
#[derive(Clone)]
pub struct DiskBuilder {
    capacity: u64,
    read_only: bool,
    limits: bindings::queue_limits,
}

impl Default for DiskBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl DiskBuilder {
    /// A disk without sectors.
    pub fn new() -> Self {
        Self {
            capacity: 0,
            read_only: false,
            limits: pin_init::zeroed(),
        }
    }

    /// The size, in sectors of 512 bytes.
    pub fn capacity_sectors(mut self, sectors: u64) -> Self {
        self.capacity = sectors;
        self
    }

    /// Refuses writes from the start.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The smallest unit that can be read or written: a power of two, 512 to 64 KiB.
    pub fn logical_block_size(mut self, size: u32) -> Self {
        self.limits.logical_block_size = size;
        self
    }

    /// The smallest unit that can be written without reading: a power of two.
    pub fn physical_block_size(mut self, size: u32) -> Self {
        self.limits.physical_block_size = size;
        self
    }

    /// The smallest and the best size of a request.
    pub fn io_sizes(mut self, min: u32, opt: u32) -> Self {
        self.limits.io_min = min;
        self.limits.io_opt = opt;
        self
    }

    /// The most that one request can cover, in sectors; at least a page.
    pub fn max_hw_sectors(mut self, sectors: u32) -> Self {
        self.limits.max_hw_sectors = sectors;
        self
    }

    /// A request does not cross a multiple of this many sectors.
    pub fn chunk_sectors(mut self, sectors: u32) -> Self {
        self.limits.chunk_sectors = sectors;
        self
    }

    /// How many segments of memory a request has at most. The tag set's limit holds anyway.
    pub fn max_segments(mut self, segments: u16) -> Self {
        self.limits.max_segments = segments;
        self
    }

    /// The longest segment; at least a page.
    pub fn max_segment_size(mut self, size: u32) -> Self {
        self.limits.max_segment_size = size;
        self
    }

    /// A segment does not cross a multiple of `mask + 1`; at least a page.
    pub fn seg_boundary_mask(mut self, mask: usize) -> Self {
        self.limits.seg_boundary_mask = mask;
        self
    }

    /// Between two segments both ends are multiples of `mask + 1`: for devices that take a list of
    /// pages.
    pub fn virt_boundary_mask(mut self, mask: usize) -> Self {
        self.limits.virt_boundary_mask = mask;
        self
    }

    /// Segments begin and end at multiples of `mask + 1`. With less than 511 a segment need not be
    /// a whole number of sectors.
    pub fn dma_alignment(mut self, mask: u32) -> Self {
        self.limits.dma_alignment = mask;
        self
    }

    /// Whether the device caches writes, and so wants [`Op::Flush`](super::Op::Flush); and whether
    /// it can write through the cache ([`Info::is_fua`](super::Info::is_fua)).
    pub fn write_cache(mut self, cache: bool, fua: bool) -> Self {
        self.limits.features &= !(FEAT_WRITE_CACHE | FEAT_FUA);
        if cache {
            self.limits.features |= FEAT_WRITE_CACHE;
        }
        if fua {
            self.limits.features |= FEAT_FUA;
        }
        self
    }

    /// Whether it turns.
    pub fn rotational(mut self, rotational: bool) -> Self {
        self.limits.features &= !bindings::BLK_FEAT_ROTATIONAL;
        if rotational {
            self.limits.features |= bindings::BLK_FEAT_ROTATIONAL;
        }
        self
    }

    /// Whether pages must not change while they are written, as for a checksum.
    pub fn stable_writes(mut self, stable: bool) -> Self {
        self.limits.features &= !FEAT_STABLE_WRITES;
        if stable {
            self.limits.features |= FEAT_STABLE_WRITES;
        }
        self
    }

    /// [`Op::Discard`](super::Op::Discard): at most so many sectors in so many
    /// [ranges](super::Info::ranges). No sectors, no discard.
    pub fn discard(mut self, max_sectors: u32, max_ranges: u16, granularity: u32) -> Self {
        self.limits.max_hw_discard_sectors = max_sectors;
        self.limits.max_discard_segments = max_ranges;
        self.limits.discard_granularity = granularity;
        self
    }

    /// [`Op::WriteZeroes`](super::Op::WriteZeroes): at most so many sectors. If none, the block
    /// layer writes pages of zeroes.
    pub fn max_write_zeroes_sectors(mut self, sectors: u32) -> Self {
        self.limits.max_write_zeroes_sectors = sectors;
        self
    }

    /// Makes the disk and shows it to the world: it is read before this returns.
    ///
    /// The disk's parent is the device of `tag_set`'s mapper.
    ///
    /// Context: sleeps, for as long as the device takes to answer.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the limits make no sense, or the name is longer than 31 bytes, or is empty.
    /// - `EEXIST`: there is a disk of that name.
    /// - `ENOMEM`: no memory.
    pub fn build<'bound, T: Operations>(
        mut self,
        name: fmt::Arguments<'_>,
        tag_set: &Arc<TagSet<'bound, T>>,
        data: T::DiskData<'bound>,
    ) -> Result<Disk<'bound, T>> {
        self.check(tag_set.max_segments())?;
        Disk::new(name, tag_set.clone(), data, self)
    }

    /// Checks what the block layer would warn of, and limits the segments to `max_segments`.
    fn check(&mut self, max_segments: u16) -> Result {
        // CAST: the size of a page is a small constant.
        let page = bindings::PAGE_SIZE as u32;
        let limits = &mut self.limits;

        let block = limits.logical_block_size;
        let sectors = limits.max_hw_sectors;
        let least = (page.max(block)) >> bindings::SECTOR_SHIFT;
        let segment = limits.max_segment_size;
        let boundary = limits.seg_boundary_mask;
        if sectors != 0 && sectors < least
            || segment != 0 && segment < page
            || boundary != 0 && boundary < bindings::PAGE_SIZE - 1
            || limits.dma_alignment > page
            || self.capacity > i64::MAX as u64 >> bindings::SECTOR_SHIFT
        {
            return Err(EINVAL);
        }
        limits.max_segments = match limits.max_segments {
            0 => max_segments,
            segments => segments.min(max_segments),
        };
        Ok(())
    }

    pub(crate) fn limits(&self) -> bindings::queue_limits {
        self.limits
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }
}

#[kunit_tests(phyr_blk_limits)]
mod tests {
    use super::*;

    fn checked(builder: DiskBuilder) -> Result<u16> {
        let mut builder = builder;
        builder.check(64)?;
        Ok(builder.limits.max_segments)
    }

    #[test]
    fn segments_stay_within_the_tag_set() {
        let new = DiskBuilder::new;
        assert_eq!(checked(new()), Ok(64));
        assert_eq!(checked(new().max_segments(1)), Ok(1));
        assert_eq!(checked(new().max_segments(63)), Ok(63));
        assert_eq!(checked(new().max_segments(64)), Ok(64));
        assert_eq!(checked(new().max_segments(65)), Ok(64));
        assert_eq!(checked(new().max_segments(u16::MAX)), Ok(64));
    }

    #[test]
    fn what_the_block_layer_would_warn_of_is_an_error() {
        let page = bindings::PAGE_SIZE;
        let small = page as u32;
        let sectors = small >> bindings::SECTOR_SHIFT;
        let new = DiskBuilder::new;
        for builder in [
            new().max_hw_sectors(sectors - 1),
            new().logical_block_size(2 * small).max_hw_sectors(sectors),
            new().max_segment_size(small - 1),
            new().seg_boundary_mask(page - 2),
            new().dma_alignment(small + 1),
            new().capacity_sectors(u64::MAX),
        ] {
            assert_eq!(checked(builder), Err(EINVAL));
        }
        for builder in [
            new().max_hw_sectors(sectors),
            new().max_segment_size(small),
            new().seg_boundary_mask(page - 1),
            new().dma_alignment(small),
            new().capacity_sectors(1 << 40),
        ] {
            assert!(checked(builder).is_ok());
        }
    }

    #[test]
    fn features_can_be_taken_back() {
        let builder = DiskBuilder::new().write_cache(true, true).rotational(true);
        assert_eq!(
            builder.limits.features,
            FEAT_WRITE_CACHE | FEAT_FUA | bindings::BLK_FEAT_ROTATIONAL
        );
        let builder = builder.write_cache(false, false).rotational(false);
        assert_eq!(builder.limits.features, 0);
    }
}
