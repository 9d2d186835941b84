// SPDX-License-Identifier: GPL-2.0

//! How large the rings and lists of the I/O queues are, and which descriptors go into the lists.
//!
//! Nothing here calls the kernel.

use super::{
    cmd::{
        DSM_RANGE_WORDS,
        MAX_DSM_RANGES, //
    },
    desc::{
        List,
        Pointer,
        Range,
        Unfit, //
    },
    prp,
    sgl, //
};
use kernel::{
    fmt,
    prelude::*, //
};

/// The controller's memory page (`CC.MPS`). The smallest there is: every controller but a few
/// exotic ones has it, and pages of the host of any size consist of whole ones.
pub(crate) const PAGE_SHIFT: u32 = 12;
pub(crate) const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// From this average length of a range on an SGL is shorter than a PRP list by enough to be worth
/// it; the C driver's default threshold.
const SGL_THRESHOLD: usize = 32 << 10;

/// Fewest entries that queues get where memory is short. Below that there are fewer queues.
const MIN_ENTRIES: u16 = 32;

/// Bytes that a command takes whatever its length, about: 80 in the two rings, its
/// `struct request`, and tables of the block layer, the library and the IOMMU. Measured, not added
/// up.
const COMMAND_BYTES: usize = 2048;

/// Which descriptors to use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// PRPs only: all that the controller has, or the user's wish.
    Prp,
    /// SGLs only.
    Sgl,
    /// Whichever is shorter.
    Either,
}

impl Format {
    /// [`Format::short`] for what most requests are: few enough steps to be inlined.
    #[inline]
    pub(crate) fn shortest(self, range: Range) -> Option<Pointer> {
        match self {
            Self::Sgl => None,
            Self::Prp | Self::Either => prp::short(range, PAGE_SHIFT),
        }
    }

    /// Describes a range that is all, if the command itself has room for that. It has for any that
    /// an SGL describes; a list that the controller need not read is worth that, however short.
    pub(crate) fn short(self, range: Range) -> Option<Pointer> {
        match self {
            Self::Prp => self.shortest(range),
            Self::Sgl | Self::Either => self.shortest(range).or_else(|| sgl::short(range)),
        }
    }

    /// Describes `count` ranges of `bytes` in all, with what does not fit in a command in `list`.
    ///
    /// # Errors
    ///
    /// Those of [`prp::build`] and [`sgl::build`]; [`Unfit::Gap`] of [`Format::Prp`] only.
    pub(crate) fn describe<L: List>(
        self,
        ranges: impl Iterator<Item = Range> + Clone,
        count: usize,
        bytes: u32,
        list: &mut L,
    ) -> Result<Pointer, Unfit> {
        if count == 1 {
            let only = ranges.clone().next();
            if let Some(pointer) = only.and_then(|range| self.short(range)) {
                return Ok(pointer);
            }
        }
        match self {
            Self::Prp => prp::build(ranges, list, PAGE_SHIFT),
            Self::Sgl => sgl::build(ranges, list),
            // CAST: A request's length fits in a `usize`.
            Self::Either
                if bytes as usize / count.max(1) >= SGL_THRESHOLD
                    || prp::begins_with_gap(ranges.clone(), PAGE_SHIFT) =>
            {
                sgl::build(ranges, list)
            }
            Self::Either => match prp::build(ranges.clone(), list, PAGE_SHIFT) {
                Err(Unfit::Gap) => sgl::build(ranges, list),
                other => other,
            },
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prp => "PRP",
            Self::Sgl => "SGL",
            Self::Either => "PRP or SGL",
        })
    }
}

/// What all I/O queues of a controller have in common.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// Entries of each ring, [`Cid::TAGS`](super::cmd::Cid::TAGS) at most; one stays empty.
    pub(crate) entries: u16,
    /// Bytes of the largest transfer.
    pub(crate) max_transfer: usize,
    /// Ranges of the largest transfer.
    pub(crate) max_segments: u16,
    pub(crate) format: Format,
    /// Make PRP lists chain, for tests.
    pub(crate) chain: bool,
}

impl Layout {
    /// How many commands are in flight at most: a full ring looks like an empty one.
    pub(crate) fn depth(&self) -> u16 {
        self.entries - 1
    }

    /// Words of descriptor memory per command: a power of two, if that is less than a page.
    pub(crate) fn slot_words(&self) -> usize {
        let prp = prp::list_words(self.max_transfer, PAGE_SHIFT);
        let sgl = usize::from(self.max_segments) * sgl::DESCRIPTOR / size_of::<u64>();
        let words = match self.format {
            Format::Prp => prp,
            Format::Sgl => sgl,
            Format::Either => prp.max(sgl),
        };

        if words < PAGE_SIZE / size_of::<u64>() {
            words.next_power_of_two().max(DSM_RANGE_WORDS)
        } else {
            words
        }
    }

    /// Ranges of a dataset management command: as many as there is descriptor memory for anyway.
    pub(crate) fn max_dsm_ranges(&self) -> u16 {
        if self.chain {
            // The command points to one page, of which the rest is another.
            return 1;
        }
        let room = self.slot_words() / DSM_RANGE_WORDS;
        u16::try_from(room).map_or(MAX_DSM_RANGES, |room| room.min(MAX_DSM_RANGES))
    }

    /// About how many bytes a queue takes.
    pub(crate) fn queue_bytes(&self) -> usize {
        let list = match self.slot_words() * size_of::<u64>() {
            bytes if bytes < PAGE_SIZE => bytes.next_power_of_two(),
            bytes => bytes.next_multiple_of(PAGE_SIZE),
        };
        // What the library keeps of each segment.
        let segments = usize::from(self.max_segments) * 16;

        usize::from(self.entries) * (COMMAND_BYTES + list + segments)
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
            chain: false,
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
            assert_eq!(layout.slot_words(), words);
            assert_eq!(layout.max_dsm_ranges(), ranges);
            let chained = Layout {
                chain: true,
                ..layout
            };
            assert_eq!(chained.max_dsm_ranges(), 1);
        }
    }

    fn deep(entries: u16) -> Layout {
        Layout {
            entries,
            max_transfer: 1 << 20,
            max_segments: 256,
            format: Format::Either,
            chain: false,
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
        // The command, a list of a page, and 256 segments of 16 bytes.
        assert_eq!(deep(512).queue_bytes(), 512 * (2048 + 4096 + 4096));
        let short = Layout {
            max_transfer: 64 << 10,
            max_segments: 17,
            ..deep(2)
        };
        // 17 descriptors of 16 bytes.
        assert_eq!(short.queue_bytes(), 2 * (2048 + 512 + 272));
    }

    #[test]
    fn what_does_not_fit_gets_smaller() {
        let one = deep(1).queue_bytes();
        // Budget in commands; entries and queues.
        let table = [
            (512 * 8, (512, 8)),
            (512 * 8 - 1, (256, 8)),
            (32 * 8, (32, 8)),
            (32 * 8 - 1, (32, 4)),
            (32, (32, 1)),
            (0, (32, 1)),
            (usize::MAX / one, (512, 8)),
        ];

        for (budget, want) in table {
            let (got, count) = deep(512).fit(8, budget * one);
            assert_eq!((got.entries, count), want);
        }
    }
}
