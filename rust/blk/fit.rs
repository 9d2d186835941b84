// SPDX-License-Identifier: GPL-2.0

//! A disk's limits and its mapper's: what the block layer makes of memory must be what can be
//! mapped for the device, wherever that memory is.
//!
//! The block layer joins what is adjacent, and cuts it, by the limits of the queue; the mapper
//! refuses a segment that is over its own. Where the queue's are wider, requests fail whose memory
//! happens to be in one piece. So they are the narrower of both, and what no request could satisfy
//! is refused when the disk is made.
//!
//! C: `struct device_dma_parameters`, which SCSI and MMC hold against the queue's limits by hand.

use kernel::{
    bindings,
    fmt,
    page::PAGE_SIZE,
    prelude::*, //
};
use phyr::Limits;

/// `BLK_MIN_SEGMENT_SIZE`, which is private to the block layer: what a segment must be able to
/// hold, whatever the size of a page.
pub(crate) const MIN_SEGMENT_SIZE: u32 = 4096;

/// A limit of a disk that makes no sense, or does not go with another; and the two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Name of the limit, as [`DiskBuilder`](super::DiskBuilder) has it.
    pub(crate) limit: &'static str,
    value: u64,
    wanted: Wanted,
}

/// The condition that a limit would have to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The number, or what the words name, or more.
    Least(u64, &'static str),
    /// The number, or what the words name, or less.
    Most(u64, &'static str),
    /// One less than a power of two.
    Mask,
    /// A power of two.
    PowerOfTwo,
    /// A value that goes with the other limits.
    Likeness,
}

impl Misfit {
    /// Says that `limit` is `value`, which is less than `least`; `why` names what that is.
    pub(crate) const fn less(
        limit: &'static str,
        value: u64,
        least: u64,
        why: &'static str,
    ) -> Self {
        Self {
            limit,
            value,
            wanted: Wanted::Least(least, why),
        }
    }

    /// Says that `limit` is `value`, which is more than `most`; `why` names what that is.
    pub(crate) const fn more(
        limit: &'static str,
        value: u64,
        most: u64,
        why: &'static str,
    ) -> Self {
        Self {
            limit,
            value,
            wanted: Wanted::Most(most, why),
        }
    }

    /// Says that `limit` is `value`, which is no mask.
    pub(crate) const fn no_mask(limit: &'static str, value: u64) -> Self {
        Self {
            limit,
            value,
            wanted: Wanted::Mask,
        }
    }

    /// Says that `limit` is `value`, which is no power of two.
    pub(crate) const fn no_power(limit: &'static str, value: u64) -> Self {
        Self {
            limit,
            value,
            wanted: Wanted::PowerOfTwo,
        }
    }

    /// Says that `limit` is `value`, which does not go with the other limits.
    pub(crate) const fn unlike(limit: &'static str, value: u64) -> Self {
        Self {
            limit,
            value,
            wanted: Wanted::Likeness,
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, value, .. } = self;
        match self.wanted {
            Wanted::Least(least, why) => {
                write!(f, "{limit} is {value}, and must be at least {least}, {why}")
            }
            Wanted::Most(most, why) => {
                write!(f, "{limit} is {value}, and must be at most {most}, {why}")
            }
            Wanted::Mask => write!(
                f,
                "{limit} is {value:#x}, which is no power of two less one"
            ),
            Wanted::PowerOfTwo => write!(f, "{limit} is {value}, which is no power of two"),
            Wanted::Likeness => write!(
                f,
                "{limit} is {value}, which does not go with blocks, chunks and the boundary"
            ),
        }
    }
}

/// Narrows `limits` to those of `mapper`, which hold for each segment.
///
/// Of `limits`, `max_hw_sectors` has been set, and each of the others makes sense by itself. Those
/// that are zero become the mapper's.
///
/// # Errors
///
/// The one of `limits` that cannot be kept for the device.
pub(crate) fn fit(limits: &mut bindings::queue_limits, mapper: &Limits) -> Result<(), Misfit> {
    // CAST: a `usize` has 64 bits, where this is built.
    let boundary = mapper.boundary_mask() as usize;
    limits.seg_boundary_mask = match limits.seg_boundary_mask {
        // Rather than the block layer's default of 4 GiB, which is for devices of old.
        0 => boundary,
        mask => mask.min(boundary),
    };
    limits.max_segment_size = max_segment_size(limits, mapper)?;
    page_lists(limits, mapper)
}

/// The longest segment for a disk with `limits`: its own or the mapper's, whichever is less. Where
/// one is cut, it and the next are aligned as the device asks.
fn max_segment_size(limits: &bindings::queue_limits, mapper: &Limits) -> Result<u32, Misfit> {
    let most = u32::try_from(mapper.max_segment()).unwrap_or(u32::MAX);
    let size = match limits.max_segment_size {
        // Rather than the block layer's default of 64 KiB.
        0 => most,
        size => size.min(most),
    };
    // No request is so long.
    if size == u32::MAX {
        return Ok(size);
    }
    // The block layer's default is that of a sector.
    let mask = limits.dma_alignment.max(bindings::SECTOR_SIZE - 1);
    let aligned = size & !mask;
    if aligned < MIN_SEGMENT_SIZE {
        let least = MIN_SEGMENT_SIZE.max(mask + 1);
        return Err(Misfit::less(
            "max_segment_size",
            aligned.into(),
            least.into(),
            "with what the mapper allows",
        ));
    }
    Ok(aligned)
}

/// Checks the limits of a device that takes a list of pages: no segment may be cut but at one, and
/// bounced memory has to stay where it was in its page.
fn page_lists(limits: &bindings::queue_limits, mapper: &Limits) -> Result<(), Misfit> {
    // CAST: here and below, a `usize` is at most 64 bits wide.
    let virt = limits.virt_boundary_mask as u64;
    if virt == 0 {
        return Ok(());
    }
    let request = u64::from(limits.max_hw_sectors) << bindings::SECTOR_SHIFT;
    let segment = u64::from(limits.max_segment_size);
    if limits.max_segment_size != u32::MAX && segment < request {
        return Err(Misfit::less(
            "max_segment_size",
            segment,
            request,
            "the longest request: with virt_boundary_mask nothing may be cut",
        ));
    }
    if (limits.seg_boundary_mask as u64) < virt {
        return Err(Misfit::more(
            "virt_boundary_mask",
            virt,
            limits.seg_boundary_mask as u64,
            "seg_boundary_mask, with the mapper's",
        ));
    }
    if u64::from(mapper.min_align_mask()) < virt.min(PAGE_SIZE as u64 - 1) {
        return Err(Misfit::more(
            "virt_boundary_mask",
            virt,
            mapper.min_align_mask().into(),
            "the mapper's min_align_mask: bounce buffers keep no more of an address",
        ));
    }
    Ok(())
}

#[kunit_tests(phyr_blk_fit)]
mod tests {
    use super::*;

    const KIB_64: u32 = 64 << 10;

    fn mapper(max_segment: u64, boundary: u64) -> Limits {
        Limits::NONE
            .with_max_segment(max_segment)
            .and_then(|limits| limits.with_boundary_mask(boundary))
            .unwrap_or(Limits::NONE)
    }

    /// Limits of a disk whose requests have up to 1 MiB.
    fn disk(max_segment_size: u32, seg_boundary_mask: usize) -> bindings::queue_limits {
        bindings::queue_limits {
            max_hw_sectors: 2048,
            max_segment_size,
            seg_boundary_mask,
            ..pin_init::zeroed()
        }
    }

    /// The longest segment and its boundary.
    fn fitted(
        mut disk: bindings::queue_limits,
        mapper: Limits,
    ) -> Result<(u32, usize), &'static str> {
        fit(&mut disk, &mapper).map_err(|misfit| misfit.limit)?;
        Ok((disk.max_segment_size, disk.seg_boundary_mask))
    }

    #[test]
    fn segments_are_the_mappers_where_nothing_is_said() {
        let none = usize::MAX;
        let narrow = mapper(8192, 0xffff);
        assert_eq!(fitted(disk(0, 0), Limits::NONE), Ok((u32::MAX, none)));
        assert_eq!(fitted(disk(0, 0), narrow), Ok((8192, 0xffff)));
        // Neither 64 KiB nor 4 GiB for ever.
        assert_eq!(
            fitted(disk(0, 0), mapper(1 << 20, u64::MAX)),
            Ok((1 << 20, none))
        );
    }

    #[test]
    fn segments_stay_within_the_mapper() {
        for (own, most, expected) in [
            (4096, 8192, 4096),
            (8191, 8192, 7680),
            (8192, 8192, 8192),
            (8193, 8192, 8192),
            (KIB_64, 8192, 8192),
            (u32::MAX, 8192, 8192),
            (u32::MAX, u64::from(u32::MAX), u32::MAX),
            (u32::MAX, u64::from(u32::MAX) + 1, u32::MAX),
            (u32::MAX, u64::MAX, u32::MAX),
            // A length of 16 bits: what comes behind must be as aligned as what was before.
            (0, 65535, 65024),
            (0, (1 << 32) - 4096, u32::MAX - 4095),
        ] {
            assert_eq!(
                fitted(disk(own, 0), mapper(most, u64::MAX)),
                Ok((expected, usize::MAX))
            );
        }
        for (own, most, expected) in [
            (0xffff, 0xffff_ffff, 0xffff),
            (0xffff_ffff, 0xffff, 0xffff),
            (usize::MAX, 0xffff, 0xffff),
            (0xffff, u64::MAX, 0xffff),
        ] {
            assert_eq!(
                fitted(disk(4096, own), mapper(u64::MAX, most)),
                Ok((4096, expected))
            );
        }
    }

    #[test]
    fn what_no_segment_could_be_is_refused() {
        assert_eq!(
            fitted(disk(0, 0), mapper(4095, u64::MAX)),
            Err("max_segment_size")
        );
        let mut aligned = disk(8191, 0);
        aligned.dma_alignment = 4095;
        assert_eq!(fitted(aligned, Limits::NONE), Ok((4096, usize::MAX)));
        aligned.max_segment_size = 4097;
        assert_eq!(fitted(aligned, Limits::NONE), Ok((4096, usize::MAX)));
        assert_eq!(
            fitted(aligned, mapper(4095, u64::MAX)),
            Err("max_segment_size")
        );
    }

    #[test]
    fn lists_of_pages_are_cut_at_pages_only() {
        let mut pages = disk(0, 0);
        pages.virt_boundary_mask = 4095;
        let keeps = |mask| {
            Limits::NONE
                .with_min_align_mask(mask)
                .unwrap_or(Limits::NONE)
        };
        let most = |limits: Limits, bytes| limits.with_max_segment(bytes).unwrap_or(Limits::NONE);

        assert!(fitted(pages, keeps(4095)).is_ok());
        assert!(fitted(pages, keeps(0xffff)).is_ok());
        assert_eq!(fitted(pages, keeps(2047)), Err("virt_boundary_mask"));
        assert_eq!(fitted(pages, Limits::NONE), Err("virt_boundary_mask"));
        // The longest request, and less.
        assert!(fitted(pages, most(keeps(4095), 1 << 20)).is_ok());
        assert_eq!(
            fitted(pages, most(keeps(4095), (1 << 20) - 512)),
            Err("max_segment_size")
        );
        pages.max_segment_size = KIB_64;
        assert_eq!(fitted(pages, keeps(4095)), Err("max_segment_size"));
        pages.max_segment_size = 0;
        pages.virt_boundary_mask = 0xffff;
        pages.seg_boundary_mask = 4095;
        assert_eq!(fitted(pages, keeps(0xffff)), Err("virt_boundary_mask"));
    }

    #[test]
    fn both_numbers_are_said() {
        let said = |misfit: Misfit, words: &str| {
            kernel::str::CString::try_from_fmt(fmt!("{misfit}"))
                .is_ok_and(|said| said.to_bytes() == words.as_bytes())
        };
        assert!(said(
            Misfit::less("max_segment_size", 512, 4096, "a page"),
            "max_segment_size is 512, and must be at least 4096, a page"
        ));
        assert!(said(
            Misfit::more("capacity", 9, 8, "what there is"),
            "capacity is 9, and must be at most 8, what there is"
        ));
        assert!(said(
            Misfit::no_mask("virt_boundary_mask", 4096),
            "virt_boundary_mask is 0x1000, which is no power of two less one"
        ));
    }
}
