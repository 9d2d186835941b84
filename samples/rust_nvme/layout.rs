// SPDX-License-Identifier: GPL-2.0

//! Sizes of the I/O queues: their depth, and the lengths of a transfer, of its ranges and its list.
//!
//! Nothing here calls the kernel.

use super::{
    cmd::{
        DSM_RANGE_WORDS,
        MAX_DSM_RANGES, //
    },
    desc::PAGE_SIZE,
    format::Format, //
};
use kernel::prelude::*;
use phyr::Limits;

/// The longest DMA range: whole pages, as many as an SGL descriptor can describe.
// CAST: Both get wider, or stay as wide.
const MAX_RANGE: u64 = (u32::MAX as u64 + 1) - PAGE_SIZE as u64;

/// Fewest entries that queues get where memory is short. Below that there are fewer queues.
const MIN_ENTRIES: u16 = 32;

/// Bytes that a queue takes whatever its depth, about: the reserve of the library's pools, which is
/// seven pages with lists of a page, and as much for tables of the block layer and the IOMMU.
const QUEUE_BYTES: usize = 64 << 10;

/// Bytes that a command takes whatever its length, about: 80 in the two rings, its
/// `struct request`, and tables of the block layer and the library. Measured, not added up.
const COMMAND_BYTES: usize = 640;

/// Returns the controller's limits of a DMA range.
pub(crate) fn limits() -> Result<Limits> {
    // PRPs need bounced memory to keep its offset in a controller page.
    // CAST: A controller page is 4 KiB.
    Limits::NONE
        .with_max_segment(MAX_RANGE)
        .and_then(|limits| limits.with_min_align_mask(PAGE_SIZE as u32 - 1))
        .ok_or(EINVAL)
}

/// The sizes that all I/O queues of a controller have in common.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// Entries of each ring, [`Cid::TAGS`](super::cmd::Cid::TAGS) at most; one stays empty.
    pub(crate) entries: u16,
    /// Length of the longest transfer, in bytes.
    pub(crate) max_transfer: usize,
    /// Most ranges of a transfer.
    pub(crate) max_segments: u16,
    pub(crate) format: Format,
}

impl Layout {
    /// Returns the most commands in flight: a full ring would look like an empty one.
    pub(crate) fn depth(&self) -> u16 {
        self.entries - 1
    }

    /// Returns the most words of descriptor memory of a command: a power of two, if that is less
    /// than a page.
    pub(crate) fn list_words(&self) -> usize {
        let words = self.format.list_words(self.max_transfer, self.max_segments);
        if words < PAGE_SIZE / size_of::<u64>() {
            words.next_power_of_two().max(DSM_RANGE_WORDS)
        } else {
            words
        }
    }

    /// Returns the most ranges of a dataset management command: as many as there is descriptor
    /// memory for anyway.
    pub(crate) fn max_dsm_ranges(&self) -> u16 {
        let room = self.list_words() / DSM_RANGE_WORDS;
        u16::try_from(room).map_or(MAX_DSM_RANGES, |room| room.min(MAX_DSM_RANGES))
    }

    /// Returns the bytes that a queue takes, about.
    pub(crate) fn queue_bytes(&self) -> usize {
        QUEUE_BYTES + usize::from(self.entries) * COMMAND_BYTES
    }

    /// Returns the next smaller size of `count` queues: queues of half as many entries, or half as
    /// many queues. [`None`] if this is the smallest.
    pub(crate) fn smaller(self, count: u16) -> Option<(Self, u16)> {
        let entries = (self.entries / 2).max(MIN_ENTRIES);
        if entries < self.entries {
            Some((Self { entries, ..self }, count))
        } else if count > 1 {
            Some((self, count / 2))
        } else {
            None
        }
    }

    /// Returns the largest size of up to `count` queues that takes no more than `budget` bytes, or
    /// the smallest.
    pub(crate) fn fit(self, count: u16, budget: usize) -> (Self, u16) {
        let (mut layout, mut count) = (self, count);

        while layout.queue_bytes().saturating_mul(count.into()) > budget {
            match layout.smaller(count) {
                Some(smaller) => (layout, count) = smaller,
                None => break,
            }
        }
        (layout, count)
    }
}

#[kunit_tests(rust_nvme_layout)]
mod tests {
    use super::*;

    fn layout(format: Format, max_transfer: usize) -> Layout {
        let pages = max_transfer / PAGE_SIZE + 1;
        Layout {
            entries: 2,
            max_transfer,
            // CAST: All are small.
            max_segments: pages.min(256) as u16,
            format,
        }
    }

    #[test]
    fn a_discard_has_as_many_ranges_as_there_is_room_for() {
        for (format, bytes, words, ranges) in [
            (Format::Prp, 4096, 2, 1),
            (Format::Sgl, 4096, 4, 2),
            (Format::Either, 8192, 8, 4),
            (Format::Prp, 512 << 10, 128, 64),
            (Format::Either, 512 << 10, 512, 256),
            (Format::Prp, 4 << 20, 1026, 256),
        ] {
            let layout = layout(format, bytes);
            assert_eq!(layout.list_words(), words);
            assert_eq!(layout.max_dsm_ranges(), ranges);
        }
    }

    fn deep(entries: u16) -> Layout {
        Layout {
            entries,
            max_transfer: 1 << 20,
            max_segments: 256,
            format: Format::Either,
        }
    }

    #[test]
    fn queues_become_shallower_and_then_fewer() {
        let table = [
            (512, 8, Some((256, 8))),
            (65, 8, Some((32, 8))),
            (33, 8, Some((32, 8))),
            (32, 8, Some((32, 4))),
            // As they were asked for.
            (2, 3, Some((2, 1))),
            (32, 1, None),
            (2, 1, None),
        ];

        for (entries, count, want) in table {
            let got = deep(entries).smaller(count);
            assert_eq!(got.map(|(layout, count)| (layout.entries, count)), want);
        }
    }

    #[test]
    fn a_queue_takes_what_its_commands_do() {
        for entries in [2, 512] {
            let bytes = QUEUE_BYTES + usize::from(entries) * COMMAND_BYTES;
            assert_eq!(deep(entries).queue_bytes(), bytes);
        }
    }

    #[test]
    fn what_does_not_fit_gets_smaller() {
        let bytes = |entries| deep(entries).queue_bytes();
        // Budget; entries and queues.
        let table = [
            (8 * bytes(512), (512, 8)),
            (8 * bytes(512) - 1, (256, 8)),
            (8 * bytes(32), (32, 8)),
            (8 * bytes(32) - 1, (32, 4)),
            (bytes(32), (32, 1)),
            (0, (32, 1)),
            (usize::MAX, (512, 8)),
        ];

        for (budget, want) in table {
            let (got, count) = deep(512).fit(8, budget);
            assert_eq!((got.entries, count), want);
        }
    }
}
