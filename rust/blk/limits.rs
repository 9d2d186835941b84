// SPDX-License-Identifier: GPL-2.0

//! Checks of the properties of a disk, so that the block layer neither warns of them nor changes
//! them. `fit.rs` compares them with the limits of the mapper.
//!
//! C: `blk_validate_limits()` in [`block/blk-settings.c`](srctree/block/blk-settings.c).

use super::{
    fit::{
        fit,
        require,
        LimitError,
        Required,
        MIN_SEGMENT_SIZE, //
    },
    geometry::Geometry, //
};
use kernel::{
    bindings,
    prelude::*, //
};
use phyr::Mapper;

/// `BLK_FEAT_WRITE_CACHE`; bindgen does not see through the cast in the macro.
pub(crate) const FEAT_WRITE_CACHE: u32 = 1 << 0;
/// `BLK_FEAT_FUA`
pub(crate) const FEAT_FUA: u32 = 1 << 1;
/// `BLK_FEAT_ATOMIC_WRITES`
pub(crate) const FEAT_ATOMIC_WRITES: u32 = 1 << 14;
/// `BLK_SAFE_MAX_SECTORS`: the block layer's default of `max_hw_sectors`.
pub(crate) const SAFE_MAX_SECTORS: u32 = 255;

/// Properties of a disk, as [`GenDiskBuilder`](super::GenDiskBuilder) sets them.
#[derive(Clone)]
pub(crate) struct Properties {
    /// In sectors.
    pub(crate) capacity: u64,
    pub(crate) read_only: bool,
    pub(crate) geometry: Option<Geometry>,
    /// A request that writes zeroes may deallocate.
    pub(crate) unmaps: bool,
    /// A request may be longer than a mapping that is fast.
    pub(crate) exceeds_opt_mapping_size: bool,
    pub(crate) limits: bindings::queue_limits,
}

impl Default for Properties {
    fn default() -> Self {
        Self {
            capacity: 0,
            read_only: false,
            geometry: None,
            unmaps: false,
            exceeds_opt_mapping_size: false,
            limits: pin_init::zeroed(),
        }
    }
}

impl Properties {
    /// Checks the properties, and narrows the limits to those of the tag set and its mapper.
    ///
    /// # Errors
    ///
    /// The limit that makes no sense.
    pub(crate) fn fit(&mut self, max_segments: u16, mapper: &Mapper<'_>) -> Result<(), LimitError> {
        let longest = if self.exceeds_opt_mapping_size {
            mapper.max_mapping_size()
        } else {
            mapper.opt_mapping_size()
        };
        self.check(max_segments, longest)?;
        fit(&mut self.limits, mapper.limits())
    }

    /// Checks for everything that the block layer would warn of or silently change. Limits the
    /// segments to `max_segments` and a request to `max_mapping` bytes.
    ///
    /// # Errors
    ///
    /// The limit that makes no sense.
    pub(crate) fn check(
        &mut self,
        max_segments: u16,
        max_mapping: usize,
    ) -> Result<(), LimitError> {
        self.check_limits()?;
        let limits = &mut self.limits;
        if self.unmaps {
            limits.max_hw_wzeroes_unmap_sectors = limits.max_write_zeroes_sectors;
        }
        if limits.features & FEAT_ATOMIC_WRITES != 0 {
            let block = limits.logical_block_size.max(1 << bindings::SECTOR_SHIFT);
            limits.atomic_write_hw_unit_min = block;
            let max = limits.atomic_write_hw_max.checked_ilog2();
            limits.atomic_write_hw_unit_max = max.map_or(0, |bit| 1 << bit);
        }
        limits.max_segments = match limits.max_segments {
            0 => max_segments,
            segments => segments.min(max_segments),
        };
        // A request that is too long to be mapped would never succeed.
        let mappable = u32::try_from(max_mapping >> bindings::SECTOR_SHIFT).unwrap_or(u32::MAX);
        limits.max_hw_sectors = match limits.max_hw_sectors {
            0 => SAFE_MAX_SECTORS,
            sectors => sectors,
        }
        .min(mappable);
        let (sectors, least) = (limits.max_hw_sectors, self.least_sectors());
        require(
            sectors >= least,
            "max_hw_sectors",
            sectors,
            Required::Least(
                least.into(),
                "with what can be mapped for the device: a page, or a block",
            ),
        )
    }

    /// Returns the shortest `max_hw_sectors` that the block layer takes.
    fn least_sectors(&self) -> u32 {
        // CAST: the size of a page is a small constant.
        let page = bindings::PAGE_SIZE as u32;
        page.max(self.limits.logical_block_size) >> bindings::SECTOR_SHIFT
    }

    /// # Errors
    ///
    /// A limit that makes no sense by itself.
    fn check_limits(&self) -> Result<(), LimitError> {
        let limits = &self.limits;
        let (segment, alignment) = (limits.max_segment_size, limits.dma_alignment);
        let (physical, logical) = (limits.physical_block_size, limits.logical_block_size);
        // CAST: the size of a page is a small constant.
        let page = bindings::PAGE_SIZE as u32;
        // CAST: a positive number.
        let most = i64::MAX as u64 >> bindings::SECTOR_SHIFT;

        require(
            segment == 0 || segment >= MIN_SEGMENT_SIZE,
            "max_segment_size",
            segment,
            Required::Least(MIN_SEGMENT_SIZE.into(), "a segment"),
        )?;
        // CAST: a `usize` is at most 64 bits wide.
        mask("virt_boundary_mask", limits.virt_boundary_mask as u64)?;
        mask("dma_alignment", alignment.into())?;
        require(
            alignment < page,
            "dma_alignment",
            alignment,
            Required::Most((page - 1).into(), "a page"),
        )?;
        require(
            physical <= logical || physical.is_power_of_two(),
            "physical_block_size",
            physical,
            Required::PowerOfTwo,
        )?;
        require(
            limits.features & FEAT_ATOMIC_WRITES == 0 || self.is_atomic(),
            "atomic_writes",
            limits.atomic_write_hw_max,
            Required::Agreement,
        )?;
        require(
            self.capacity <= most,
            "capacity",
            self.capacity,
            Required::Most(most, "in sectors"),
        )
    }

    /// Returns whether the block layer accepts the limits of atomic writes. Of others it warns, or
    /// silently disables atomic writes.
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
}

/// Checks that `value` is one less than a power of two. All ones is one, too; zero, which is the
/// default, is `2^0 - 1`.
fn mask(limit: &'static str, value: u64) -> Result<(), LimitError> {
    let is_mask = value & value.wrapping_add(1) == 0;
    require(is_mask, limit, value, Required::Mask)
}
