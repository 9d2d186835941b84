// SPDX-License-Identifier: GPL-2.0

//! The description of a disk, from which it is made.
//!
//! C: `struct queue_limits` ([`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)).

use super::{
    disk::GenDisk,
    geometry::Geometry,
    limits::{
        Properties,
        FEAT_ATOMIC_WRITES,
        FEAT_FUA,
        FEAT_WRITE_CACHE, //
    },
    operations::Operations,
    queue::Queue,
    tag_set::TagSet, //
};
use kernel::{
    bindings,
    fmt,
    prelude::*,
    sync::Arc, //
};

/// Describes a [`GenDisk`] and makes it.
///
/// A property that is not set has the block layer's default. Sizes are in bytes, except where a
/// name says sectors: these have 512 bytes.
///
/// # Examples
///
/// ```
/// use kernel::{prelude::*, sync::Arc};
/// use phyr_blk::{GenDisk, GenDiskBuilder, Operations, TagSet};
///
/// fn disk<'bound, T: Operations<DiskData<'bound> = ()>>(
///     tag_set: &Arc<TagSet<'bound, T>>,
/// ) -> Result<GenDisk<'bound, T>> {
///     GenDiskBuilder::new()
///         .capacity_sectors(1 << 20)
///         .logical_block_size(4096)
///         .max_hw_sectors(2048)
///         .write_cache(true, true)
///         .build(fmt!("example{}", 0), tag_set, ())
/// }
/// ```
#[derive(Clone, Default)]
pub struct GenDiskBuilder(Properties);

impl GenDiskBuilder {
    /// Makes the description of a disk without sectors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the size, in sectors of 512 bytes.
    pub fn capacity_sectors(mut self, sectors: u64) -> Self {
        self.0.capacity = sectors;
        self
    }

    /// Refuses writes from the start.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.0.read_only = read_only;
        self
    }

    /// Gives the disk a geometry (`HDIO_GETGEO`) of `heads` heads with tracks of `sectors` sectors,
    /// most often 64 and 32, so that a cylinder has a mebibyte. The number of cylinders follows
    /// from the disk's size. There is no geometry without this, or if either is zero: few tools
    /// want one.
    pub fn geometry(mut self, heads: u8, sectors: u8) -> Self {
        self.0.geometry = Geometry::new(heads, sectors);
        self
    }

    /// Sets the smallest unit that can be read or written: a power of two, 512 to 64 KiB.
    pub fn logical_block_size(mut self, size: u32) -> Self {
        self.0.limits.logical_block_size = size;
        self
    }

    /// Sets the smallest unit that can be written without reading: a power of two.
    pub fn physical_block_size(mut self, size: u32) -> Self {
        self.0.limits.physical_block_size = size;
        self
    }

    /// Sets the smallest request that costs the device no more than a larger one, in bytes: at
    /// least a physical block, which is the default.
    pub fn io_min(mut self, size: u32) -> Self {
        self.0.limits.io_min = size;
        self
    }

    /// Sets the optimal length of a request in bytes, which the block layer rounds down to whole
    /// physical blocks. 0: the device has none.
    pub fn io_opt(mut self, size: u32) -> Self {
        self.0.limits.io_opt = size;
        self
    }

    /// Sets the longest request, in sectors; at least a page. The longest that is
    /// [mapped fast](phyr::Mapper::opt_mapping_size) for the device is a limit anyway, unless
    /// [`Self::exceed_opt_mapping_size`] says otherwise.
    pub fn max_hw_sectors(mut self, sectors: u32) -> Self {
        self.0.limits.max_hw_sectors = sectors;
        self
    }

    /// Lets a request be as long as can be [mapped](phyr::Mapper::max_mapping_size), rather than
    /// [fast](phyr::Mapper::opt_mapping_size).
    ///
    /// Behind an IOMMU the IOVAs of a longer one are allocated in a tree, under a lock that all
    /// CPUs share. That pays for a device to which the number of requests matters more, such as one
    /// of few tags, or where few CPUs do I/O.
    pub fn exceed_opt_mapping_size(mut self) -> Self {
        self.0.exceeds_opt_mapping_size = true;
        self
    }

    /// Sets the distance in sectors of the boundaries that no request crosses.
    pub fn chunk_sectors(mut self, sectors: u32) -> Self {
        self.0.limits.chunk_sectors = sectors;
        self
    }

    /// Sets the largest number of segments of memory of a request. The tag set's limit holds, too.
    pub fn max_segments(mut self, segments: u16) -> Self {
        self.0.limits.max_segments = segments;
        self
    }

    /// Sets the longest segment; at least 4 KiB. The limit of the tag set's mapper holds, too, and
    /// is the default. Rounded down to [`Self::dma_alignment`], and to whole sectors.
    pub fn max_segment_size(mut self, size: u32) -> Self {
        self.0.limits.max_segment_size = size;
        self
    }

    /// Lets segments meet only at multiples of `mask + 1`, a power of two: for devices that take a
    /// list of pages. The block layer does not cut segments then, so that one may be as long as a
    /// request, and bounced memory keeps its offset in a page, which the mapper has to
    /// [ask for](phyr::Limits::with_min_align_mask).
    pub fn virt_boundary_mask(mut self, mask: usize) -> Self {
        self.0.limits.virt_boundary_mask = mask;
        self
    }

    /// Lets segments begin and end only at multiples of `mask + 1`, a power of two and at most a
    /// page. With a mask of less than 511 a segment need not be a whole number of sectors.
    pub fn dma_alignment(mut self, mask: u32) -> Self {
        self.0.limits.dma_alignment = mask;
        self
    }

    /// Sets `cache` if the device caches writes, and so needs [`Op::Flush`](super::Op::Flush); and
    /// `fua` if it can write through the cache
    /// ([`RequestInfo::is_fua`](super::RequestInfo::is_fua)).
    pub fn write_cache(mut self, cache: bool, fua: bool) -> Self {
        self.0.limits.features &= !(FEAT_WRITE_CACHE | FEAT_FUA);
        if cache {
            self.0.limits.features |= FEAT_WRITE_CACHE;
        }
        if fua {
            self.0.limits.features |= FEAT_FUA;
        }
        self
    }

    /// Sets whether the medium rotates.
    pub fn rotational(mut self, rotational: bool) -> Self {
        self.0.limits.features &= !bindings::BLK_FEAT_ROTATIONAL;
        if rotational {
            self.0.limits.features |= bindings::BLK_FEAT_ROTATIONAL;
        }
        self
    }

    /// Enables [`Op::Discard`](super::Op::Discard) of at most `max_sectors` sectors, in at most
    /// `max_ranges` [ranges](super::RequestInfo::discard_ranges). The device discards multiples of
    /// `granularity` bytes best. With no sectors there is no discard.
    pub fn discard(mut self, max_sectors: u32, max_ranges: u16, granularity: u32) -> Self {
        self.0.limits.max_hw_discard_sectors = max_sectors;
        self.0.limits.max_discard_segments = max_ranges;
        self.0.limits.discard_granularity = granularity;
        self
    }

    /// Enables [`Op::WriteZeroes`](super::Op::WriteZeroes) of at most `sectors` sectors. With 0 the
    /// block layer writes pages of zeroes.
    pub fn max_write_zeroes_sectors(mut self, sectors: u32) -> Self {
        self.0.limits.max_write_zeroes_sectors = sectors;
        self
    }

    /// Sets whether [`Op::WriteZeroes`](super::Op::WriteZeroes) may deallocate sectors, which then
    /// read as zeroes, unless the request [forbids](super::RequestInfo::is_nounmap) it.
    pub fn write_zeroes_unmaps(mut self, unmaps: bool) -> Self {
        self.0.unmaps = unmaps;
        self
    }

    /// Enables atomic writes: those of up to `max` bytes, in whole logical blocks, are written
    /// completely or not at all, even if power fails. They do not cross a multiple of `boundary`, a
    /// power of two that is not less than `max`, unless it is 0. The block layer keeps both limits,
    /// and does not split such a request.
    pub fn atomic_writes(mut self, max: u32, boundary: u32) -> Self {
        self.0.limits.features |= FEAT_ATOMIC_WRITES;
        self.0.limits.atomic_write_hw_max = max;
        self.0.limits.atomic_write_hw_boundary = boundary;
        self
    }

    /// Makes the disk, named `name`, and shows it to the world: it is read before this returns.
    ///
    /// The disk's parent is the device of `tag_set`'s mapper. A number in the name that is to be
    /// free again with the disk is a [`DiskNumber`](super::DiskNumber) in `data`.
    ///
    /// Context: sleeps, for as long as the device takes to answer.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the limits make no sense, or do not go with those of the tag set's mapper: the
    ///   kernel log says which, with both numbers. Or the name is longer than 31 bytes, or is
    ///   empty; or that of an [`Attribute`](super::Attribute) is none.
    /// - `EEXIST`: there is a disk of that name, or a file of an attribute's.
    /// - `ENOMEM`: no memory.
    pub fn build<'bound, T: Operations>(
        mut self,
        name: fmt::Arguments<'_>,
        tag_set: &Arc<TagSet<'bound, T>>,
        data: T::DiskData<'bound>,
    ) -> Result<GenDisk<'bound, T>> {
        self.fit(tag_set)?;
        GenDisk::new(name, tag_set.clone(), data, &self.0)
    }

    /// Makes a queue with the limits of the disk, and no disk, for requests of the driver's own.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the limits, as for [`Self::build`].
    /// - `ENOMEM`: no memory.
    pub fn build_queue<'bound, T: Operations>(
        mut self,
        tag_set: &Arc<TagSet<'bound, T>>,
        data: T::DiskData<'bound>,
    ) -> Result<Queue<'bound, T>> {
        self.fit(tag_set)?;
        Queue::new(tag_set.clone(), data, &self.0)
    }

    /// Narrows the limits to those of the tag set and its mapper.
    fn fit<T: Operations>(&mut self, tag_set: &TagSet<'_, T>) -> Result {
        let mapper = tag_set.mapper();
        self.0.fit(tag_set.max_segments(), mapper).map_err(|error| {
            dev_err!(mapper.device(), "disk: {}\n", error);
            EINVAL
        })
    }
}

#[kunit_tests(phyr_blk_limits)]
mod tests {
    use super::*;
    use crate::limits::SAFE_MAX_SECTORS;

    fn checked(mut builder: GenDiskBuilder) -> Result<u16, &'static str> {
        builder
            .0
            .check(64, usize::MAX)
            .map_err(|error| error.limit)?;
        Ok(builder.0.limits.max_segments)
    }

    #[test]
    fn segments_stay_within_the_tag_set() {
        let new = GenDiskBuilder::new;
        assert_eq!(checked(new()), Ok(64));
        assert_eq!(checked(new().max_segments(1)), Ok(1));
        assert_eq!(checked(new().max_segments(63)), Ok(63));
        assert_eq!(checked(new().max_segments(64)), Ok(64));
        assert_eq!(checked(new().max_segments(65)), Ok(64));
        assert_eq!(checked(new().max_segments(u16::MAX)), Ok(64));
    }

    #[test]
    fn a_request_stays_within_what_can_be_mapped() {
        // CAST: the size of a page is a small constant.
        let page = bindings::PAGE_SIZE as u32 >> bindings::SECTOR_SHIFT;
        let swiotlb = (256 << 10) - 4096;
        let sectors = |asked, bytes| {
            let mut builder = GenDiskBuilder::new().max_hw_sectors(asked);
            builder.0.check(1, bytes).ok()?;
            Some(builder.0.limits.max_hw_sectors)
        };
        assert_eq!(sectors(2048, usize::MAX), Some(2048));
        assert_eq!(sectors(u32::MAX, usize::MAX), Some(u32::MAX));
        assert_eq!(sectors(0, usize::MAX), Some(SAFE_MAX_SECTORS));
        assert_eq!(sectors(2048, swiotlb), Some(504));
        assert_eq!(sectors(503, swiotlb), Some(503));
        assert_eq!(sectors(504, swiotlb + 511), Some(504));
        assert_eq!(sectors(0, swiotlb), Some(SAFE_MAX_SECTORS));
        assert_eq!(sectors(0, bindings::PAGE_SIZE), Some(page));
        assert_eq!(sectors(0, bindings::PAGE_SIZE - 1), None);
        assert_eq!(sectors(2048, 0), None);
    }

    #[test]
    fn what_the_block_layer_would_warn_of_is_an_error() {
        // CAST: the size of a page is a small constant.
        let small = bindings::PAGE_SIZE as u32;
        let sectors = small >> bindings::SECTOR_SHIFT;
        let new = GenDiskBuilder::new;
        for (builder, limit) in [
            (new().max_hw_sectors(sectors - 1), "max_hw_sectors"),
            (
                new().logical_block_size(2 * small).max_hw_sectors(sectors),
                "max_hw_sectors",
            ),
            (new().max_segment_size(1), "max_segment_size"),
            (new().max_segment_size(4095), "max_segment_size"),
            (new().virt_boundary_mask(4096), "virt_boundary_mask"),
            (new().dma_alignment(4), "dma_alignment"),
            (new().dma_alignment(small), "dma_alignment"),
            (new().dma_alignment(2 * small - 1), "dma_alignment"),
            (new().capacity_sectors(u64::MAX), "capacity"),
            (new().physical_block_size(1536), "physical_block_size"),
            (new().atomic_writes(0, 0), "atomic_writes"),
            (new().atomic_writes(511, 0), "atomic_writes"),
            (new().atomic_writes(u32::MAX, 0), "atomic_writes"),
            (new().atomic_writes(4096, 2048), "atomic_writes"),
            (new().atomic_writes(4096, 12288), "atomic_writes"),
            (
                new().logical_block_size(4096).atomic_writes(2048, 0),
                "atomic_writes",
            ),
            (
                new().chunk_sectors(7).atomic_writes(4096, 0),
                "atomic_writes",
            ),
            (
                new().chunk_sectors(12).atomic_writes(4096, 4096),
                "atomic_writes",
            ),
        ] {
            assert_eq!(checked(builder), Err(limit));
        }
        for builder in [
            new().max_hw_sectors(sectors),
            new().max_segment_size(4096),
            new().max_segment_size(u32::MAX),
            new().virt_boundary_mask(4095),
            new().dma_alignment(3),
            new().dma_alignment(small - 1),
            new().capacity_sectors(1 << 40),
            new().physical_block_size(1 << 31),
            new().atomic_writes(512, 0),
            new().atomic_writes(u32::MAX - 1, 0),
            new().atomic_writes(4096, 4096),
            new().atomic_writes(3 << 10, 1 << 31),
            new().chunk_sectors(8).atomic_writes(4096, 4096),
            new().chunk_sectors(24).atomic_writes(4096, 4096),
        ] {
            assert!(checked(builder).is_ok());
        }
    }

    #[test]
    fn units_of_atomic_writes_are_powers_of_two() {
        for (block, max, unit) in [(0, 512, 512), (512, 1536, 1024), (4096, 12288, 8192)] {
            let mut builder = GenDiskBuilder::new()
                .logical_block_size(block)
                .atomic_writes(max, 0);
            assert!(builder.0.check(1, usize::MAX).is_ok());
            assert_eq!(builder.0.limits.atomic_write_hw_unit_min, block.max(512));
            assert_eq!(builder.0.limits.atomic_write_hw_unit_max, unit);
        }
    }

    #[test]
    fn write_zeroes_unmap_all_or_nothing() {
        for (unmaps, sectors) in [(false, 0), (true, 8)] {
            let mut builder = GenDiskBuilder::new()
                .write_zeroes_unmaps(unmaps)
                .max_write_zeroes_sectors(8);
            assert!(builder.0.check(1, usize::MAX).is_ok());
            assert_eq!(builder.0.limits.max_hw_wzeroes_unmap_sectors, sectors);
        }
    }

    #[test]
    fn features_can_be_taken_back() {
        let builder = GenDiskBuilder::new()
            .write_cache(true, true)
            .rotational(true);
        assert_eq!(
            builder.0.limits.features,
            FEAT_WRITE_CACHE | FEAT_FUA | bindings::BLK_FEAT_ROTATIONAL
        );
        let builder = builder.write_cache(false, false).rotational(false);
        assert_eq!(builder.0.limits.features, 0);
    }
}
