// SPDX-License-Identifier: GPL-2.0

//! How large the rings and lists of the I/O queues are, and which descriptors go into the lists.
//!
//! Nothing here calls the kernel.

use super::{
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

    /// Words of descriptor memory per command.
    pub(crate) fn slot_words(&self) -> usize {
        let prp = prp::list_words(self.max_transfer, PAGE_SHIFT);
        let sgl = usize::from(self.max_segments) * sgl::DESCRIPTOR / size_of::<u64>();

        match self.format {
            Format::Prp => prp,
            Format::Sgl => sgl,
            Format::Either => prp.max(sgl),
        }
    }
}
