// SPDX-License-Identifier: GPL-2.0

//! The choice between PRPs and SGLs.
//!
//! All that depends on the format of descriptors is a method of [`Format`], and each format has a
//! file that builds them. To add one: a file beside [`prp`] and [`sgl`] with its `build()`; a
//! variant of [`DescriptorKind`](super::desc::DescriptorKind), for whose bits in a command and name
//! in a trace the compiler then asks; and a variant of [`Format`], for which it asks here.
//!
//! Nothing here calls the kernel.

use super::{
    desc::{
        DataPointer,
        DataRange,
        DescriptorError,
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prp,
    sgl, //
};
use kernel::{
    fmt,
    prelude::*, //
};

/// From this average length of a range on an SGL is shorter than a PRP list by enough to be worth
/// it; the C driver's default threshold.
const SGL_THRESHOLD: usize = 32 << 10;

/// The most segments of a request that may go by SGL: a list of one page, as in the C driver. To
/// PRPs it does not matter how many segments there are.
const MAX_SGL_SEGMENTS: usize = PAGE_SIZE / sgl::DESCRIPTOR;

/// The descriptors that a controller's commands use.
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
    /// Returns the format that the user wants (`use_sgl`), if the controller has it.
    pub(crate) fn choose(use_sgl: u8, has_sgl: bool) -> Self {
        match use_sgl {
            1 => Self::Prp,
            _ if !has_sgl => Self::Prp,
            2 => Self::Sgl,
            _ => Self::Either,
        }
    }

    /// Returns the format for commands that user space makes: SGLs, if the controller has them. It
    /// checks their length, while with PRPs a command that says more than was mapped goes on to
    /// addresses of something else.
    pub(crate) fn for_user_commands(self) -> Self {
        match self {
            Self::Prp => Self::Prp,
            Self::Sgl | Self::Either => Self::Sgl,
        }
    }

    /// Returns the most segments of a transfer of `max_transfer` bytes, which is 4 MiB at most.
    pub(crate) fn max_segments(self, max_transfer: usize) -> u16 {
        // One more for an offset in the first page.
        let pages = max_transfer / PAGE_SIZE + 1;
        let segments = match self {
            Self::Prp => pages,
            Self::Sgl | Self::Either => pages.min(MAX_SGL_SEGMENTS),
        };
        // CAST: 4 MiB have 1024 pages.
        segments as u16
    }

    /// Returns the words of a list for `max_segments` segments of `max_transfer` bytes in all.
    pub(crate) fn list_words(self, max_transfer: usize, max_segments: u16) -> usize {
        let prp = prp::list_words(max_transfer, PAGE_SHIFT);
        let sgl = usize::from(max_segments) * sgl::DESCRIPTOR / size_of::<u64>();
        match self {
            Self::Prp => prp,
            Self::Sgl => sgl,
            Self::Either => prp.max(sgl),
        }
    }

    /// Returns whether segments must be whole pages of the controller, but for the start of the
    /// first and the end of the last.
    pub(crate) fn needs_pages(self) -> bool {
        match self {
            Self::Prp => true,
            Self::Sgl | Self::Either => false,
        }
    }

    /// Returns the most ranges of a command on a registered buffer, which is of whole pages of the
    /// controller or not. The list has room for `max_segments` segments.
    pub(crate) fn max_ranges(self, is_paged: bool, max_segments: u16) -> u32 {
        match self {
            Self::Prp | Self::Either if is_paged => u32::MAX,
            _ => max_segments.into(),
        }
    }

    /// Describes the only range of a request, if that takes few enough steps to be inlined. If this
    /// returns [`None`], [`Format::short`] may still describe it.
    #[inline]
    pub(crate) fn shortest(self, range: DataRange) -> Option<DataPointer> {
        match self {
            Self::Sgl => None,
            Self::Prp | Self::Either => prp::short(range, PAGE_SHIFT),
        }
    }

    /// Describes the only range of a request, if the command itself has room for that. Prefers an
    /// SGL, which has room for any range, to a PRP list, which the controller would have to read.
    pub(crate) fn short(self, range: DataRange) -> Option<DataPointer> {
        match self {
            Self::Prp => self.shortest(range),
            Self::Sgl | Self::Either => self.shortest(range).or_else(|| sgl::short(range)),
        }
    }

    /// Plans how to describe `count` ranges of `bytes` in all.
    #[inline]
    pub(crate) fn plan(
        self,
        ranges: impl Iterator<Item = DataRange> + Clone,
        count: usize,
        bytes: u32,
    ) -> Plan {
        // CAST: A request's length fits in a `usize`.
        let bytes = bytes as usize;
        let sgl_words = match count {
            1 => 0,
            count => count * (sgl::DESCRIPTOR / size_of::<u64>()),
        };
        let is_long = || bytes >= SGL_THRESHOLD.saturating_mul(count.max(1));
        let has_gap = || prp::begins_with_gap(ranges.clone(), PAGE_SHIFT);
        if self == Self::Sgl || self == Self::Either && (is_long() || has_gap()) {
            return Plan {
                prp_words: None,
                sgl_words: Some(sgl_words),
            };
        }
        let start = ranges.clone().next().map_or(0, |range| range.addr);
        // CAST: An offset in a page.
        let offset = start as usize % PAGE_SIZE;
        Plan {
            prp_words: Some(prp::list_words_at(offset, bytes, PAGE_SHIFT)),
            sgl_words: (self == Self::Either).then_some(sgl_words),
        }
    }
}

/// The way to describe a request that [`Format::short`] does not: by PRPs, or else by an SGL, and
/// the words of a list that each needs at most. Without words the command has room for all.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    prp_words: Option<usize>,
    /// If there are PRPs, too: for ranges in which there is a gap that they cannot describe.
    sgl_words: Option<usize>,
}

impl Plan {
    /// Calls `prp` or `sgl` with the words of its list, and `sgl` after `prp` if there is a gap.
    ///
    /// # Errors
    ///
    /// Those of both. [`DescriptorError::Gap`] of [`Format::Prp`] only.
    // Each of them is called in one place, where it is inlined.
    #[inline(always)]
    pub(crate) fn carry_out<C, E>(
        self,
        context: &mut C,
        prp: impl FnOnce(&mut C, usize) -> Result<Result<DataPointer, DescriptorError>, E>,
        sgl: impl FnOnce(&mut C, usize) -> Result<Result<DataPointer, DescriptorError>, E>,
    ) -> Result<Result<DataPointer, DescriptorError>, E> {
        if let Some(words) = self.prp_words {
            match prp(context, words)? {
                Err(DescriptorError::Gap) if self.sgl_words.is_some() => {}
                built => return Ok(built),
            }
        }
        sgl(context, self.sgl_words.unwrap_or(0))
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

#[kunit_tests(rust_nvme_format)]
mod tests {
    use super::{
        super::desc::DescriptorList,
        *, //
    };

    #[test]
    fn the_format_is_the_users_if_the_controller_has_it() {
        for (use_sgl, without, with) in [
            (0, "PRP", "PRP or SGL"),
            (1, "PRP", "PRP"),
            (2, "PRP", "SGL"),
            (3, "PRP", "PRP or SGL"),
            (255, "PRP", "PRP or SGL"),
        ] {
            for (has_sgl, name) in [(false, without), (true, with)] {
                let format = Format::choose(use_sgl, has_sgl);
                assert!(super::super::tests::is_written(fmt!("{format}"), name));
                // SGLs wherever there are any.
                let for_user = format.for_user_commands();
                assert!(for_user == Format::Prp || for_user == Format::Sgl);
                assert!((for_user == Format::Sgl) == (name != "PRP"));
            }
        }
    }

    #[test]
    fn only_sgls_limit_the_segments() {
        for (bytes, prp, sgl) in [
            (4096, 2, 2),
            (255 * 4096, 256, 256),
            (256 * 4096, 257, 256),
            (4 << 20, 1025, 256),
        ] {
            for (format, segments) in [
                (Format::Prp, prp),
                (Format::Sgl, sgl),
                (Format::Either, sgl),
            ] {
                assert_eq!(format.max_segments(bytes), segments);
            }
        }
    }

    #[test]
    fn only_prps_want_whole_pages() {
        for (format, needs_pages, of_pages, of_bytes) in [
            (Format::Prp, true, u32::MAX, 7),
            (Format::Sgl, false, 7, 7),
            (Format::Either, false, u32::MAX, 7),
        ] {
            assert_eq!(format.needs_pages(), needs_pages);
            assert_eq!(format.max_ranges(true, 7), of_pages);
            assert_eq!(format.max_ranges(false, 7), of_bytes);
        }
    }

    /// A plan without a list is built once; an error of the caller is passed on.
    #[test]
    fn a_plan_is_carried_out_once() {
        use super::super::desc::NoList;

        let ranges = [DataRange {
            addr: 4096,
            len: 4096,
        }];
        let plan = Format::Either.plan(ranges.into_iter(), 1, 4096);
        let built = plan.carry_out(
            &mut NoList,
            |list, words| {
                assert_eq!(words, 0);
                assert_eq!((list.addr(), list.words()), (0, 0));
                list.put(0, 1);
                Ok::<_, Error>(prp::build(ranges.into_iter(), list, PAGE_SHIFT))
            },
            |_, _| Err(EINVAL),
        );
        assert!(matches!(built, Ok(Ok(_))));

        let mut calls = 0;
        let failed = plan.carry_out(
            &mut calls,
            |calls, _| {
                *calls += 1;
                Err(ENOMEM)
            },
            |_, _| Err(EINVAL),
        );
        assert!(matches!(failed, Err(e) if e == ENOMEM));
        assert_eq!(calls, 1);
    }

    /// An SGL follows PRPs that have found a gap, if the format has both.
    #[test]
    fn a_gap_needs_an_sgl() {
        let ranges = [
            DataRange { addr: 0, len: 8192 },
            DataRange {
                addr: 0x8000,
                len: 512,
            },
            DataRange {
                addr: 0xa000,
                len: 512,
            },
        ];
        for (format, calls) in [(Format::Prp, [1, 0]), (Format::Either, [1, 1])] {
            let plan = format.plan(ranges.into_iter(), 3, 9216);
            let mut called = [0; 2];
            let built = plan.carry_out(
                &mut called,
                |called, words| {
                    assert_eq!(words, 2);
                    called[0] += 1;
                    Ok::<_, Error>(Err(DescriptorError::Gap))
                },
                |called, words| {
                    assert_eq!(words, 6);
                    called[1] += 1;
                    Ok(Err(DescriptorError::TooMany))
                },
            );
            assert_eq!(called, calls);
            let is_gap = matches!(built, Ok(Err(DescriptorError::Gap)));
            assert_eq!(is_gap, format == Format::Prp);
        }
    }
}
