// SPDX-License-Identifier: GPL-2.0

//! What a disk is like: its size, its limits, what it can do.
//!
//! C: `struct queue_limits` ([`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)).

use super::{
    disk::Disk,
    fit::{
        fit,
        Misfit,
        MIN_SEGMENT_SIZE, //
    },
    geometry::Geometry,
    number::DiskNumber,
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
/// `BLK_FEAT_ATOMIC_WRITES`
const FEAT_ATOMIC_WRITES: u32 = 1 << 14;
/// `BLK_SAFE_MAX_SECTORS`: what the block layer takes if `max_hw_sectors` is not set.
const SAFE_MAX_SECTORS: u32 = 255;

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
    geometry: Option<Geometry>,
    unmaps: bool,
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
            geometry: None,
            unmaps: false,
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

    /// Has the disk tell a geometry (`HDIO_GETGEO`), [`Geometry::STANDARD`] if it has none of its
    /// own. The cylinders follow from the size, as that is when somebody asks. Without this there
    /// is no geometry: few want one, such as partitioning tools of old.
    pub fn geometry(mut self, geometry: Geometry) -> Self {
        self.geometry = Some(geometry);
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

    /// Sets the smallest request that costs the device no more than a larger one, in bytes: at
    /// least a physical block, which it is if this is not said.
    pub fn io_min(mut self, size: u32) -> Self {
        self.limits.io_min = size;
        self
    }

    /// Sets the request that the device likes best, in bytes: whole physical blocks, to which the
    /// block layer cuts it. 0 is none.
    pub fn io_opt(mut self, size: u32) -> Self {
        self.limits.io_opt = size;
        self
    }

    /// The most that one request can cover, in sectors; at least a page. The most that can be
    /// [mapped](phyr::Mapper::max_mapping_size) for the device holds anyway.
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

    /// The longest segment; at least 4 KiB. What the tag set's mapper allows holds anyway, and is
    /// the limit where none is said. Rounded down to what [`Self::dma_alignment`] says, and to
    /// whole sectors.
    pub fn max_segment_size(mut self, size: u32) -> Self {
        self.limits.max_segment_size = size;
        self
    }

    /// A segment does not cross a multiple of `mask + 1`, a power of two; at least 4 KiB. What the
    /// tag set's mapper has of it holds anyway.
    pub fn seg_boundary_mask(mut self, mask: usize) -> Self {
        self.limits.seg_boundary_mask = mask;
        self
    }

    /// Between two segments both ends are multiples of `mask + 1`, a power of two: for devices that
    /// take a list of pages. Segments are not cut then, so that one may be as long as a request
    /// is, and bounced memory keeps its place in a page, which the mapper has to
    /// [ask for](phyr::Limits::with_min_align_mask).
    pub fn virt_boundary_mask(mut self, mask: usize) -> Self {
        self.limits.virt_boundary_mask = mask;
        self
    }

    /// Segments begin and end at multiples of `mask + 1`, a power of two and at most a page. With
    /// less than 511 a segment need not be a whole number of sectors.
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

    /// Says that [`Op::WriteZeroes`](super::Op::WriteZeroes) may deallocate what reads as zeroes
    /// then, unless the request [forbids](super::Info::is_nounmap) it.
    pub fn write_zeroes_unmaps(mut self, unmaps: bool) -> Self {
        self.unmaps = unmaps;
        self
    }

    /// Says that writes of up to `max` bytes, whole logical blocks, happen all or not at all, even
    /// if power fails, unless they cross a multiple of `boundary`, a power of two that is not less
    /// than `max`; 0 is no such boundary. Each such request is one command of the device; the block
    /// layer sees to that, and to both limits.
    pub fn atomic_writes(mut self, max: u32, boundary: u32) -> Self {
        self.limits.features |= FEAT_ATOMIC_WRITES;
        self.limits.atomic_write_hw_max = max;
        self.limits.atomic_write_hw_boundary = boundary;
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
    /// - `EINVAL`: the limits make no sense, or do not go with those of the tag set's mapper: the
    ///   kernel log says which, with both numbers. Or the name is longer than 31 bytes, or is
    ///   empty; or that of an [`Attribute`](super::Attribute) is none.
    /// - `EEXIST`: there is a disk of that name, or a file of an attribute's.
    /// - `ENOMEM`: no memory.
    pub fn build<'bound, T: Operations>(
        self,
        name: fmt::Arguments<'_>,
        tag_set: &Arc<TagSet<'bound, T>>,
        data: T::DiskData<'bound>,
    ) -> Result<Disk<'bound, T>> {
        self.build_with(name, None, tag_set, data)
    }

    /// As [`DiskBuilder::build`], of a disk whose name is `prefix` and `number`, which the disk
    /// keeps until it is removed; see [`DiskNumbers`](super::DiskNumbers).
    ///
    /// # Errors
    ///
    /// Those of [`DiskBuilder::build`].
    pub fn build_numbered<'bound, T: Operations>(
        self,
        prefix: &str,
        number: DiskNumber,
        tag_set: &Arc<TagSet<'bound, T>>,
        data: T::DiskData<'bound>,
    ) -> Result<Disk<'bound, T>> {
        let nr = number.get();
        self.build_with(fmt!("{prefix}{nr}"), Some(number), tag_set, data)
    }

    fn build_with<'bound, T: Operations>(
        mut self,
        name: fmt::Arguments<'_>,
        number: Option<DiskNumber>,
        tag_set: &Arc<TagSet<'bound, T>>,
        data: T::DiskData<'bound>,
    ) -> Result<Disk<'bound, T>> {
        let mapper = tag_set.mapper();
        self.check(tag_set.max_segments(), mapper.max_mapping_size())
            .and_then(|()| fit(&mut self.limits, mapper.limits()))
            .map_err(|misfit| {
                dev_err!(mapper.device(), "disk: {}\n", misfit);
                EINVAL
            })?;
        Disk::new(name, tag_set.clone(), data, self, number)
    }

    /// Checks what the block layer would warn of, and what it would take wrongly. Limits the
    /// segments to `max_segments` and a request to `max_mapping` bytes.
    ///
    /// # Errors
    ///
    /// What is wrong.
    fn check(&mut self, max_segments: u16, max_mapping: usize) -> Result<(), Misfit> {
        self.refuse()?;
        let limits = &mut self.limits;
        if self.unmaps {
            limits.max_hw_wzeroes_unmap_sectors = limits.max_write_zeroes_sectors;
        }
        if limits.features & FEAT_ATOMIC_WRITES != 0 {
            let block = limits.logical_block_size.max(1 << bindings::SECTOR_SHIFT);
            limits.atomic_write_hw_unit_min = block;
            limits.atomic_write_hw_unit_max = 1 << limits.atomic_write_hw_max.ilog2();
        }
        limits.max_segments = match limits.max_segments {
            0 => max_segments,
            segments => segments.min(max_segments),
        };
        // A request that can never be mapped would be tried for ever.
        let mappable = u32::try_from(max_mapping >> bindings::SECTOR_SHIFT).unwrap_or(u32::MAX);
        limits.max_hw_sectors = match limits.max_hw_sectors {
            0 => SAFE_MAX_SECTORS,
            sectors => sectors,
        }
        .min(mappable);
        let (sectors, least) = (limits.max_hw_sectors, self.least_sectors());
        if sectors < least {
            return Err(Misfit::less(
                "max_hw_sectors",
                sectors.into(),
                least.into(),
                "with what can be mapped for the device: a page, or a block",
            ));
        }
        Ok(())
    }

    /// What a request must be able to cover, in sectors.
    fn least_sectors(&self) -> u32 {
        // CAST: the size of a page is a small constant.
        let page = bindings::PAGE_SIZE as u32;
        page.max(self.limits.logical_block_size) >> bindings::SECTOR_SHIFT
    }

    /// # Errors
    ///
    /// A limit that makes no sense by itself.
    fn refuse(&self) -> Result<(), Misfit> {
        let limits = &self.limits;
        // CAST: here and below, a `usize` is at most 64 bits wide.
        let boundary = limits.seg_boundary_mask as u64;
        let (segment, least) = (limits.max_segment_size, MIN_SEGMENT_SIZE);
        let alignment = u64::from(limits.dma_alignment);
        let page = bindings::PAGE_SIZE as u64;
        // CAST: a positive number.
        let most = i64::MAX as u64 >> bindings::SECTOR_SHIFT;

        if segment != 0 && segment < least {
            let (segment, least) = (segment.into(), least.into());
            return Err(Misfit::less(
                "max_segment_size",
                segment,
                least,
                "a segment",
            ));
        }
        mask("seg_boundary_mask", boundary)?;
        if boundary != 0 && boundary < u64::from(least) - 1 {
            let least = u64::from(least) - 1;
            return Err(Misfit::less(
                "seg_boundary_mask",
                boundary,
                least,
                "a segment",
            ));
        }
        mask("virt_boundary_mask", limits.virt_boundary_mask as u64)?;
        mask("dma_alignment", alignment)?;
        if alignment >= page {
            return Err(Misfit::more("dma_alignment", alignment, page - 1, "a page"));
        }
        let (physical, logical) = (limits.physical_block_size, limits.logical_block_size);
        if physical > logical && !physical.is_power_of_two() {
            return Err(Misfit::no_power("physical_block_size", physical.into()));
        }
        if limits.features & FEAT_ATOMIC_WRITES != 0 && !self.is_atomic() {
            let max = limits.atomic_write_hw_max.into();
            return Err(Misfit::unlike("atomic_writes", max));
        }
        if self.capacity > most {
            return Err(Misfit::more("capacity", self.capacity, most, "in sectors"));
        }
        Ok(())
    }

    /// Returns whether the block layer can do with the limits of atomic writes. It warns of some
    /// others, and of the rest it makes none at all, without a word.
    fn is_atomic(&self) -> bool {
        let limits = &self.limits;
        let (max, boundary) = (limits.atomic_write_hw_max, limits.atomic_write_hw_boundary);
        let block = limits.logical_block_size.max(1 << bindings::SECTOR_SHIFT);
        let (chunk, sectors) = (limits.chunk_sectors, boundary >> bindings::SECTOR_SHIFT);

        // `u32::MAX` stands for "not known yet".
        max >= block
            && max != u32::MAX
            && block.is_power_of_two()
            && (chunk == 0 || max >> bindings::SECTOR_SHIFT <= chunk)
            && (boundary == 0 || boundary.is_power_of_two() && max <= boundary)
            && (chunk == 0 || sectors == 0 || chunk % sectors == 0 || sectors % chunk == 0)
    }

    pub(crate) fn limits(&self) -> bindings::queue_limits {
        self.limits
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(crate) fn geometry_of(&self) -> Option<Geometry> {
        self.geometry
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }
}

/// Checks that `value` is one less than a power of two. All ones is one, too; zero, which is the
/// default, is `2^0 - 1`.
fn mask(limit: &'static str, value: u64) -> Result<(), Misfit> {
    if value & value.wrapping_add(1) != 0 {
        return Err(Misfit::no_mask(limit, value));
    }
    Ok(())
}

#[kunit_tests(phyr_blk_limits)]
mod tests {
    use super::*;

    fn checked(mut builder: DiskBuilder) -> Result<u16, &'static str> {
        builder
            .check(64, usize::MAX)
            .map_err(|misfit| misfit.limit)?;
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
    fn a_request_stays_within_what_can_be_mapped() {
        // CAST: the size of a page is a small constant.
        let page = bindings::PAGE_SIZE as u32 >> bindings::SECTOR_SHIFT;
        let swiotlb = (256 << 10) - 4096;
        let sectors = |asked, bytes| {
            let mut builder = DiskBuilder::new().max_hw_sectors(asked);
            builder.check(1, bytes).ok()?;
            Some(builder.limits.max_hw_sectors)
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
        let new = DiskBuilder::new;
        for (builder, limit) in [
            (new().max_hw_sectors(sectors - 1), "max_hw_sectors"),
            (
                new().logical_block_size(2 * small).max_hw_sectors(sectors),
                "max_hw_sectors",
            ),
            (new().max_segment_size(1), "max_segment_size"),
            (new().max_segment_size(4095), "max_segment_size"),
            (new().seg_boundary_mask(4094), "seg_boundary_mask"),
            (new().seg_boundary_mask(2047), "seg_boundary_mask"),
            (new().seg_boundary_mask(4096), "seg_boundary_mask"),
            (new().seg_boundary_mask(0xf7ff), "seg_boundary_mask"),
            (new().seg_boundary_mask(usize::MAX - 1), "seg_boundary_mask"),
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
            new().seg_boundary_mask(4095),
            new().seg_boundary_mask(0xffff_ffff),
            new().seg_boundary_mask(usize::MAX),
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
            let mut builder = DiskBuilder::new()
                .logical_block_size(block)
                .atomic_writes(max, 0);
            assert!(builder.check(1, usize::MAX).is_ok());
            assert_eq!(builder.limits.atomic_write_hw_unit_min, block.max(512));
            assert_eq!(builder.limits.atomic_write_hw_unit_max, unit);
        }
    }

    #[test]
    fn write_zeroes_unmap_all_or_nothing() {
        for (unmaps, sectors) in [(false, 0), (true, 8)] {
            let mut builder = DiskBuilder::new()
                .write_zeroes_unmaps(unmaps)
                .max_write_zeroes_sectors(8);
            assert!(builder.check(1, usize::MAX).is_ok());
            assert_eq!(builder.limits.max_hw_wzeroes_unmap_sectors, sectors);
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
