// SPDX-License-Identifier: GPL-2.0

//! Oracles: what the controller makes of the descriptors is what they were made of, and each
//! reason of a refusal is true.

use super::{
    controller::{
        walk,
        Memory, //
    },
    desc::{
        DataPointer,
        DataRange,
        DescriptorError,
        DescriptorKind,
        DescriptorList,
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    format::Format,
    layout::Layout,
    prp,
    sgl, //
};
use crate::{
    ranges::{
        touching,
        END, //
    },
    Input, //
};
use core::convert::Infallible;

/// Ranges, mostly as PRPs can describe them for pages of `page` bytes.
fn ranges(input: &mut Input<'_>, page: u64) -> Vec<(u64, u64)> {
    let mut end = 0x10_0000 + 4 * input.below(page / 4);
    input.list(12, |input| {
        let addr = match input.below(16) {
            0 => input.number(),
            1 => end.wrapping_add(4 * input.below(8)),
            2..=4 => end,
            5 => 0u64.wrapping_sub(page * input.below(8)),
            _ => page * (1 + input.below(1 << 20)),
        };
        let len = match input.below(16) {
            0 => input.number(),
            1 => input.below(4 * page),
            2 => 4 * (1 + input.below(page)),
            _ => (page - addr % page) + page * input.below(12),
        };
        end = addr.wrapping_add(len);
        (addr, len)
    })
}

fn each(ranges: &[(u64, u64)]) -> impl Iterator<Item = DataRange> + Clone + '_ {
    ranges.iter().map(|&(addr, len)| DataRange { addr, len })
}

fn bytes(ranges: &[(u64, u64)]) -> u128 {
    ranges.iter().map(|&(_, len)| u128::from(len)).sum()
}

/// Checks that the controller finds the bytes of `ranges` through `pointer`, in so many
/// descriptors.
fn leads_to(pointer: &DataPointer, memory: &Memory, ranges: &[(u64, u64)], page: u64) {
    match walk(pointer, memory, bytes(ranges) as u64, page) {
        Ok((found, nr)) => {
            assert_eq!(pointer.entries, nr);
            match pointer.kind {
                DescriptorKind::Prp => {
                    assert_eq!(touching(found), touching(ranges.iter().copied()))
                }
                DescriptorKind::Sgl => assert_eq!(found, ranges),
            }
        }
        Err(wrong) => panic!("{wrong}: {pointer:x?}"),
    }
}

fn wraps(&(addr, len): &(u64, u64)) -> bool {
    u128::from(addr) + u128::from(len) >= END
}

/// Returns the number of words of a list at `addr` of `entries`, with the pointers from page to
/// page.
fn words(mut entries: u128, addr: u64, page: u64) -> u128 {
    let mut room = u128::from((page - addr % page) / 8);
    let mut words = 0;
    while entries > room {
        // All but one, and where the list goes on.
        words += room;
        entries -= room - 1;
        room = u128::from(page / 8);
    }
    words + entries
}

/// Returns each reason that PRPs cannot describe `ranges`, by looking at all of them.
fn unfit_prp(ranges: &[(u64, u64)], memory: (u64, usize), page: u64) -> Vec<DescriptorError> {
    let mut out = Vec::new();
    if ranges.is_empty() || ranges.iter().any(|range| range.1 == 0) {
        out.push(DescriptorError::Empty);
    }
    if ranges.first().is_some_and(|range| range.0 % 4 != 0) {
        out.push(DescriptorError::Misaligned);
    }
    // The last page of all cannot be used: after it there is no address.
    let last =
        |&(addr, len): &(u64, u64)| u128::from(addr) + u128::from(len) > END - u128::from(page);
    if ranges.iter().any(last) {
        out.push(DescriptorError::TooLong);
    }
    let hole = |pair: &[(u64, u64)]| {
        let end = u128::from(pair[0].0) + u128::from(pair[0].1);
        end != pair[1].0.into() && (end % u128::from(page) != 0 || pair[1].0 % page != 0)
    };
    if ranges.windows(2).any(hole) {
        out.push(DescriptorError::Gap);
    }
    // Of those that touch, a page is named once.
    let mut entries = 0;
    let mut end: Option<u128> = None;
    for &(addr, len) in ranges {
        let stop = u128::from(addr) + u128::from(len);
        let from = match end {
            Some(end) if end == u128::from(addr) => end.div_ceil(page.into()),
            _ => u128::from(addr / page),
        };
        entries += stop.div_ceil(page.into()).saturating_sub(from);
        end = Some(stop);
    }
    // Counted only where it is not clear: a list has at least a word for each but the first.
    let (list, there) = (entries.saturating_sub(1), memory.1 as u128);
    if entries > 2 && (list > there || words(list, memory.0, page) > there) {
        out.push(DescriptorError::TooMany);
    }
    out
}

fn unfit_sgl(ranges: &[(u64, u64)], words: usize) -> Vec<DescriptorError> {
    let mut out = Vec::new();
    if ranges.is_empty() || ranges.iter().any(|range| range.1 == 0) {
        out.push(DescriptorError::Empty);
    }
    if ranges.iter().any(|range| (range.0 | range.1) % 4 != 0) {
        out.push(DescriptorError::Misaligned);
    }
    if ranges
        .iter()
        .any(|range| wraps(range) || range.1 > u32::MAX.into())
    {
        out.push(DescriptorError::TooLong);
    }
    if ranges.len() > 1 && 2 * ranges.len() > words {
        out.push(DescriptorError::TooMany);
    }
    out
}

/// Chooses a place in a page.
fn memory(input: &mut Input<'_>, page: u64, most: u64) -> (u64, usize) {
    let addr = 0x7000_0000 + 8 * input.below(page / 8);
    (addr, input.below(most) as usize)
}

pub fn check_prp(input: &mut Input<'_>) {
    // Small pages have their lists chain soon.
    let shift = input.pick(&[PAGE_SHIFT, 5, 6, 7]);
    let page = 1 << shift;
    let (addr, words_there) = memory(input, page, 260);
    let ranges = ranges(input, page);
    let mut memory = Memory::new(addr, words_there);
    let unfit = unfit_prp(&ranges, (addr, words_there), page);

    match prp::build(each(&ranges), &mut memory, shift) {
        Ok(pointer) => {
            assert_eq!(unfit, []);
            assert!(pointer.kind == DescriptorKind::Prp);
            let entries = u128::from(pointer.entries);
            let list = if entries > 2 {
                words(entries - 1, addr, page)
            } else {
                0
            };
            assert_eq!(memory.written() as u128, list);
            leads_to(&pointer, &memory, &ranges, page);
        }
        Err(e) => assert!(unfit.contains(&e), "{e:?} is none of {unfit:?}"),
    }
}

pub fn check_sgl(input: &mut Input<'_>) {
    let ranges = match input.below(2) {
        0 => ranges(input, 4096),
        _ => input.list(20, |input| {
            (4 * input.below(1 << 40), 4 * (1 + input.below(1 << 30)))
        }),
    };
    let (addr, words) = memory(input, 4096, 44);
    let mut memory = Memory::new(addr, words);
    let unfit = unfit_sgl(&ranges, words);

    match sgl::build(each(&ranges), &mut memory) {
        Ok(pointer) => {
            assert_eq!(unfit, []);
            assert!(pointer.kind == DescriptorKind::Sgl);
            assert_eq!(pointer.entries as usize, ranges.len());
            leads_to(&pointer, &memory, &ranges, 4096);
        }
        Err(e) => assert!(unfit.contains(&e), "{e:?} is none of {unfit:?}"),
    }
}

fn format(input: &mut Input<'_>) -> Format {
    input.pick(&[Format::Either, Format::Prp, Format::Sgl])
}

/// Describes ranges as the driver does, in lists of the size that is planned for them, at one of
/// the places where the library has such lists.
fn describe(
    format: Format,
    ranges: &[(u64, u64)],
    bytes: u32,
    place: u64,
) -> (Result<DataPointer, DescriptorError>, Memory) {
    let mut memory = Memory::new(0x7000_0000, 0);
    if ranges.len() == 1 {
        let only = each(ranges).next().and_then(|range| format.short(range));
        if let Some(pointer) = only {
            return (Ok(pointer), memory);
        }
    }
    let plan = format.plan(each(ranges), ranges.len(), bytes);
    let list = |words: usize| {
        let size = (8 * words.max(1)).next_power_of_two().min(PAGE_SIZE) as u64;
        let addr = 0x7000_0000 + place % PAGE_SIZE as u64 / size * size;
        Memory::new(addr, words)
    };
    let Ok(got) = plan.carry_out(
        &mut memory,
        |memory, words| {
            *memory = list(words);
            Ok::<_, Infallible>(prp::build(each(ranges), memory, PAGE_SHIFT))
        },
        |memory, words| {
            *memory = list(words);
            Ok(sgl::build(each(ranges), memory))
        },
    );
    (got, memory)
}

/// Checks which of the two formats is taken, and that it leads to the same bytes.
pub fn check_format(input: &mut Input<'_>) {
    let page = PAGE_SIZE as u64;
    let format = format(input);
    let ranges = ranges(input, page);
    let place = 8 * input.below(512);
    // There is as much room as is planned.
    let there = (0x7000_0000, usize::MAX);
    // Twice the longest transfer.
    let Some(bytes) = u32::try_from(bytes(&ranges))
        .ok()
        .filter(|&bytes| bytes <= 8 << 20)
    else {
        return;
    };
    let (got, mut memory) = describe(format, &ranges, bytes, place);
    let gap = unfit_prp(&ranges, there, page).contains(&DescriptorError::Gap);
    let long = u64::from(bytes) >= 32768 * (ranges.len().max(1) as u64);
    // One range, of more than the two pages that PRPs describe without a list.
    let in_command = match ranges[..] {
        [(addr, len)] => {
            let second = (addr - addr % page).checked_add(page);
            len % 4 == 0 && (second.is_none() || addr % page + len > 2 * page)
        }
        _ => false,
    };
    match got {
        Ok(pointer) => {
            let is_sgl = match format {
                Format::Prp => false,
                Format::Sgl => true,
                Format::Either => long || gap || in_command,
            };
            assert_eq!(pointer.kind == DescriptorKind::Sgl, is_sgl);
            // After PRPs that were given up there may be more words than are read.
            if pointer.kind == DescriptorKind::Sgl
                && !long
                && !in_command
                && format == Format::Either
            {
                let again = sgl::build(each(&ranges), &mut memory);
                assert_eq!(again, Ok(pointer));
            }
            leads_to(&pointer, &memory, &ranges, page);
        }
        Err(e) => {
            let unfit = match format {
                Format::Prp => unfit_prp(&ranges, there, page),
                Format::Sgl => unfit_sgl(&ranges, there.1),
                Format::Either => {
                    let mut both = unfit_sgl(&ranges, there.1);
                    both.extend(unfit_prp(&ranges, there, page));
                    both.retain(|&e| e != DescriptorError::Gap);
                    both
                }
            };
            assert!(unfit.contains(&e), "{e:?} is none of {unfit:?}");
        }
    }
}

/// Checks that the list that is planned for a transfer that the layout allows is no longer than the
/// layout says, and has room for it.
pub fn check_lists(input: &mut Input<'_>) {
    let page = PAGE_SIZE as u64;
    let nr = 1 + input.below(64);
    let layout = Layout {
        entries: 2 + input.below(4095) as u16,
        max_transfer: (page * (1 + input.below(2048))) as usize,
        max_segments: nr as u16,
        format: format(input),
    };
    assert_eq!(layout.depth() + 1, layout.entries);

    // As many ranges as there may be, of which each but the last ends with a page.
    let mut left = layout.max_transfer as u64;
    let mut ranges = Vec::new();
    let mut addr = page * (1 + input.below(16)) + 4 * input.below(1024);
    while left != 0 && (ranges.len() as u64) < nr {
        let end = page - addr % page;
        let len = match input.below(3) {
            0 => left,
            1 => end,
            _ => end + page * input.below(32),
        };
        let len = len.min(left);
        ranges.push((addr, len));
        left -= len;
        addr = page * (1 + input.below(1 << 20));
        if len % 4 != 0 {
            return;
        }
    }
    let total = bytes(&ranges) as u32;
    let (got, memory) = describe(layout.format, &ranges, total, 8 * input.below(512));
    assert!(memory.words() <= layout.list_words());
    let pointer = match got {
        Ok(pointer) => pointer,
        // Only one that does not end with a page.
        Err(DescriptorError::Gap) => return assert!(layout.format == Format::Prp),
        Err(e) => panic!("{e:?} in {} words", memory.words()),
    };
    leads_to(&pointer, &memory, &ranges, page);
}

#[test]
fn formats_have_names() {
    let names = [Format::Prp, Format::Sgl, Format::Either].map(|format| format.to_string());
    assert_eq!(names, ["PRP", "SGL", "PRP or SGL"]);
}

/// A list of 4 GiB, which nobody has, is one too long to be said.
#[test]
fn an_sgl_segment_has_less_than_4_gib() {
    struct Endless(usize);

    impl super::desc::DescriptorList for Endless {
        fn addr(&self) -> u64 {
            0
        }

        fn words(&self) -> usize {
            usize::MAX
        }

        fn put(&mut self, index: usize, _value: u64) {
            self.0 = index;
        }
    }

    let one = DataRange { addr: 0, len: 4 };
    for (nr, fits) in [((1 << 28) - 1, true), (1 << 28, false)] {
        let mut list = Endless(0);
        let got = sgl::build(std::iter::repeat_n(one, nr), &mut list);
        assert_eq!(list.0, 2 * nr - 1);
        match got {
            Ok(pointer) => assert!(fits && pointer.words[1] & 0xffff_ffff == 16 * nr as u64),
            Err(e) => assert!(!fits && e == DescriptorError::TooMany),
        }
    }
}
