// SPDX-License-Identifier: GPL-2.0

//! Limits of a disk and of its mapper: each segment that the block layer makes must be one that can
//! be mapped for the device.
//!
//! The block layer joins adjacent memory, and cuts it, by the limits of the queue; the mapper
//! refuses a segment that is over its own. If the queue's were wider, requests would fail whose
//! memory happens to be in one piece. So the disk gets the narrower of both, and limits that no
//! request could satisfy are refused when it is made.
//!
//! C: `struct device_dma_parameters`, which SCSI and MMC hold against the queue's limits by hand.

use kernel::{
    bindings,
    fmt,
    page::PAGE_SIZE,
    prelude::*, //
};
use phyr::Limits;

/// `BLK_MIN_SEGMENT_SIZE`, which is private to the block layer: the smallest `max_segment_size`,
/// for any size of a page.
pub(crate) const MIN_SEGMENT_SIZE: u32 = 4096;

/// A limit of a disk that makes no sense, or does not go with another, and both numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitError {
    /// Name of the limit, as [`GenDiskBuilder`](super::GenDiskBuilder) has it.
    pub(crate) limit: &'static str,
    value: u64,
    required: Required,
}

/// The condition that a limit does not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Required {
    /// At least this number; the words name it.
    Least(u64, &'static str),
    /// At most this number; the words name it.
    Most(u64, &'static str),
    /// One less than a power of two.
    Mask,
    PowerOfTwo,
    /// Agreement with the other limits.
    Agreement,
}

/// Checks that a limit is as `required`.
///
/// # Errors
///
/// The `limit`, which is `value`, and is not as required.
pub(crate) fn require(
    is_met: bool,
    limit: &'static str,
    value: impl Into<u64>,
    required: Required,
) -> Result<(), LimitError> {
    if is_met {
        return Ok(());
    }
    Err(LimitError {
        limit,
        value: value.into(),
        required,
    })
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, value, .. } = self;
        match self.required {
            Required::Least(least, why) => {
                write!(f, "{limit} is {value}, and must be at least {least}, {why}")
            }
            Required::Most(most, why) => {
                write!(f, "{limit} is {value}, and must be at most {most}, {why}")
            }
            Required::Mask => write!(
                f,
                "{limit} is {value:#x}, which is no power of two less one"
            ),
            Required::PowerOfTwo => write!(f, "{limit} is {value}, which is no power of two"),
            Required::Agreement => write!(
                f,
                "{limit} is {value}, which does not go with blocks, chunks and the boundary"
            ),
        }
    }
}

/// Narrows `limits` to those of `mapper`, which hold for each segment.
///
/// `max_hw_sectors` has been set, and each other limit makes sense by itself. Those that are zero
/// become the mapper's.
///
/// # Errors
///
/// The one of `limits` that cannot be kept for the device.
pub(crate) fn fit(limits: &mut bindings::queue_limits, mapper: &Limits) -> Result<(), LimitError> {
    // Rather than the block layer's default of 4 GiB, which is for devices of old.
    // CAST: a `usize` has 64 bits, where this is built.
    limits.seg_boundary_mask = mapper.boundary_mask() as usize;
    limits.max_segment_size = max_segment_size(limits, mapper)?;
    page_lists(limits, mapper)
}

/// Returns the longest segment for a disk with `limits`: its own or the mapper's, whichever is
/// less. If one is cut, it and the next are aligned as the device asks.
fn max_segment_size(limits: &bindings::queue_limits, mapper: &Limits) -> Result<u32, LimitError> {
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
    let least = MIN_SEGMENT_SIZE.max(mask + 1).into();
    require(
        aligned >= MIN_SEGMENT_SIZE,
        "max_segment_size",
        aligned,
        Required::Least(least, "with what the mapper allows"),
    )?;
    Ok(aligned)
}

/// Checks the limits of a device that takes a list of pages: no segment may be cut but at one, and
/// bounced memory has to stay where it was in its page.
fn page_lists(limits: &bindings::queue_limits, mapper: &Limits) -> Result<(), LimitError> {
    // CAST: here and below, a `usize` is at most 64 bits wide.
    let virt = limits.virt_boundary_mask as u64;
    if virt == 0 {
        return Ok(());
    }
    let request = u64::from(limits.max_hw_sectors) << bindings::SECTOR_SHIFT;
    let segment = u64::from(limits.max_segment_size);
    require(
        limits.max_segment_size == u32::MAX || segment >= request,
        "max_segment_size",
        segment,
        Required::Least(
            request,
            "the longest request: with virt_boundary_mask nothing may be cut",
        ),
    )?;
    let boundary = limits.seg_boundary_mask as u64;
    require(
        virt <= boundary,
        "virt_boundary_mask",
        virt,
        Required::Most(boundary, "the mapper's boundary mask"),
    )?;
    let kept = u64::from(mapper.min_align_mask());
    require(
        virt.min(PAGE_SIZE as u64 - 1) <= kept,
        "virt_boundary_mask",
        virt,
        Required::Most(
            kept,
            "the mapper's min_align_mask: bounce buffers keep no more of an address",
        ),
    )
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
    fn disk(max_segment_size: u32) -> bindings::queue_limits {
        bindings::queue_limits {
            max_hw_sectors: 2048,
            max_segment_size,
            ..pin_init::zeroed()
        }
    }

    /// Fits the longest segment and its boundary.
    fn fitted(
        mut disk: bindings::queue_limits,
        mapper: Limits,
    ) -> Result<(u32, usize), &'static str> {
        fit(&mut disk, &mapper).map_err(|error| error.limit)?;
        Ok((disk.max_segment_size, disk.seg_boundary_mask))
    }

    #[test]
    fn segments_are_the_mappers_where_nothing_is_said() {
        let none = usize::MAX;
        let narrow = mapper(8192, 0xffff);
        assert_eq!(fitted(disk(0), Limits::NONE), Ok((u32::MAX, none)));
        assert_eq!(fitted(disk(0), narrow), Ok((8192, 0xffff)));
        // Neither 64 KiB nor 4 GiB for ever.
        assert_eq!(
            fitted(disk(0), mapper(1 << 20, u64::MAX)),
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
            // A length of 16 bits: what comes after must be as aligned as what was before.
            (0, 65535, 65024),
            (0, (1 << 32) - 4096, u32::MAX - 4095),
        ] {
            assert_eq!(
                fitted(disk(own), mapper(most, u64::MAX)),
                Ok((expected, usize::MAX))
            );
        }
        for boundary in [0xffff, 0xffff_ffff] {
            assert_eq!(
                fitted(disk(4096), mapper(u64::MAX, boundary)).map(|(_, mask)| mask as u64),
                Ok(boundary)
            );
        }
    }

    #[test]
    fn what_no_segment_could_be_is_refused() {
        assert_eq!(
            fitted(disk(0), mapper(4095, u64::MAX)),
            Err("max_segment_size")
        );
        let mut aligned = disk(8191);
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
        let mut pages = disk(0);
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
        let narrow = keeps(0xffff).with_boundary_mask(4095);
        assert_eq!(
            fitted(pages, narrow.unwrap_or(Limits::NONE)),
            Err("virt_boundary_mask")
        );
    }

    #[test]
    fn both_numbers_are_said() {
        let said = |limit, value: u64, required, words: &str| {
            require(false, limit, value, required).is_err_and(|error| {
                kernel::str::CString::try_from_fmt(fmt!("{error}"))
                    .is_ok_and(|said| said.to_bytes() == words.as_bytes())
            })
        };
        assert!(said(
            "max_segment_size",
            512,
            Required::Least(4096, "a page"),
            "max_segment_size is 512, and must be at least 4096, a page"
        ));
        assert!(said(
            "capacity",
            9,
            Required::Most(8, "what there is"),
            "capacity is 9, and must be at most 8, what there is"
        ));
        assert!(said(
            "virt_boundary_mask",
            4096,
            Required::Mask,
            "virt_boundary_mask is 0x1000, which is no power of two less one"
        ));
    }
}
