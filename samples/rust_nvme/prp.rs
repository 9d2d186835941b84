// SPDX-License-Identifier: GPL-2.0

//! Physical region pages: DMA ranges to PRP entries.
//!
//! C: `nvme_pci_setup_data_prp()` in [`drivers/nvme/host/pci.c`](srctree/drivers/nvme/host/pci.c)
//!
//! Entry point: [`build`]. A PRP entry names one controller page. The first may start inside its
//! page, all others start at offset 0, and only the last page may be left early. So:
//!
//! ```text
//! pages    PRP1      PRP2
//! 1        entry 0   -
//! 2        entry 0   entry 1
//! 3..      entry 0   address of the list of entries 1..
//! ```
//!
//! A list that reaches the end of a controller page goes on elsewhere: the last word of the page
//! is then no entry, but the address of the rest. Here the rest follows at once, in the next page
//! of the same [`DescriptorList`].

use super::desc::{
    DataPointer,
    DataRange,
    DescriptorError, //
    DescriptorKind,
    DescriptorList,
};

/// Bytes of one entry.
const ENTRY: u64 = 8;

/// Returns the words that the list of a transfer of `bytes` needs, whatever its offset in the first
/// page.
///
/// Includes the chain pointers of a list that starts at a page boundary.
pub(crate) const fn list_words(bytes: usize, page_shift: u32) -> usize {
    // One page more for an offset in the first; one less as PRP1 is not in the list.
    let entries = bytes.div_ceil(1 << page_shift);
    let per_page = (1 << page_shift) / 8;

    if entries <= per_page {
        entries
    } else {
        // All pages but the last lose a word to the chain pointer.
        entries + (entries - 2) / (per_page - 1)
    }
}

/// Appends entries to a [`DescriptorList`], chaining where it crosses a page.
///
/// Address and length are copies: the list computes them at each call. Everything is inlined into
/// the loop over the pages, so that it stays in registers.
struct Writer<'a, L: DescriptorList> {
    list: &'a mut L,
    addr: u64,
    words: usize,
    page_mask: u64,
    next: usize,
    last: u64,
}

impl<L: DescriptorList> Writer<'_, L> {
    #[inline(always)]
    fn put(&mut self, value: u64) -> Result<(), DescriptorError> {
        if self.next >= self.words {
            return Err(DescriptorError::TooMany);
        }
        self.list.put(self.next, value);
        self.next += 1;
        Ok(())
    }

    #[inline(always)]
    fn push(&mut self, entry: u64) -> Result<(), DescriptorError> {
        // CAST: An index into memory fits in an address.
        let here = self.addr + ENTRY * self.next as u64;

        if here & self.page_mask == 0 && self.next > 0 {
            self.chain(here)?;
        }
        self.put(entry)?;
        self.last = entry;
        Ok(())
    }

    /// Goes on to the page at `here`, as the one before is full: the last entry moves there, and a
    /// pointer takes its place.
    #[inline(always)]
    fn chain(&mut self, here: u64) -> Result<(), DescriptorError> {
        let moved = self.last;
        self.put(moved)?;
        self.list.put(self.next - 2, here);
        Ok(())
    }
}

/// The entries of a transfer, as they are found.
struct Builder<'a, L: DescriptorList> {
    writer: Writer<'a, L>,
    /// The first two entries. The second goes to the list as soon as there is a third.
    head: [u64; 2],
    entries: u32,
}

impl<L: DescriptorList> Builder<'_, L> {
    #[inline(always)]
    fn push(&mut self, page: u64) -> Result<(), DescriptorError> {
        match self.entries {
            3.. => self.writer.push(page)?,
            0 => self.head = [page, 0],
            1 => self.head = [self.head[0], page],
            2 => {
                self.writer.push(self.head[1])?;
                self.writer.push(page)?;
            }
        }
        self.entries += 1;
        Ok(())
    }

    #[inline(always)]
    fn finish(self) -> DataPointer {
        let [first, second] = self.head;
        let second = if self.entries > 2 {
            self.writer.addr
        } else {
            second
        };

        DataPointer {
            kind: DescriptorKind::Prp,
            words: [first, second],
            entries: self.entries,
        }
    }
}

/// Describes one range of at most two pages. [`None`] if it has more, or where [`build`] fails.
#[inline]
pub(crate) fn short(range: DataRange, page_shift: u32) -> Option<DataPointer> {
    let page = 1 << page_shift;
    let offset = range.addr & (page - 1);
    if range.addr & 3 != 0 || range.len == 0 || range.len > 2 * page - offset {
        return None;
    }
    // `build` fails for a range that reaches beyond the address space.
    let next = (range.addr - offset).checked_add(page)?;
    let (second, entries) = if range.len > page - offset {
        (next, 2)
    } else {
        (0, 1)
    };
    Some(DataPointer {
        kind: DescriptorKind::Prp,
        words: [range.addr, second],
        entries,
    })
}

/// Returns whether there is a hole behind the first range, so that [`build`] would fail.
#[inline]
pub(crate) fn begins_with_gap(
    mut ranges: impl Iterator<Item = DataRange>,
    page_shift: u32,
) -> bool {
    let (Some(first), Some(second)) = (ranges.next(), ranges.next()) else {
        return false;
    };
    let end = first.addr.wrapping_add(first.len);
    end != second.addr && (end | second.addr) & ((1 << page_shift) - 1) != 0
}

/// Describes `ranges` by PRP entries for a controller page of `1 << page_shift` bytes.
///
/// Ranges that touch (one ends where the next starts) are one to the controller, so they need
/// not touch at a page boundary.
///
/// # Errors
///
/// - [`DescriptorError::Empty`]: no range, or an empty one.
/// - [`DescriptorError::Misaligned`]: the first address is not a multiple of 4.
/// - [`DescriptorError::Gap`]: a hole inside a page; only an SGL can describe this transfer.
/// - [`DescriptorError::TooMany`]: `list` is too short.
/// - [`DescriptorError::TooLong`]: a range reaches beyond the address space.
///
/// On an error the list holds garbage, which the controller must not read.
pub(crate) fn build<L: DescriptorList>(
    ranges: impl Iterator<Item = DataRange>,
    list: &mut L,
    page_shift: u32,
) -> Result<DataPointer, DescriptorError> {
    let page_mask = (1 << page_shift) - 1;
    let mut builder = Builder {
        writer: Writer {
            addr: list.addr(),
            words: list.words(),
            list,
            page_mask,
            next: 0,
            last: 0,
        },
        head: [0; 2],
        entries: 0,
    };
    // Where the data so far ends, and the first page not yet named.
    let mut end = None;
    let mut page = 0;

    for range in ranges {
        if range.len == 0 {
            return Err(DescriptorError::Empty);
        }
        match end {
            None if range.addr & 3 != 0 => return Err(DescriptorError::Misaligned),
            None => page = range.addr,
            Some(end) if end == range.addr => {}
            Some(end) if (end | range.addr) & page_mask != 0 => return Err(DescriptorError::Gap),
            Some(_) => page = range.addr,
        }

        let stop = range
            .addr
            .checked_add(range.len)
            .ok_or(DescriptorError::TooLong)?;
        while page < stop {
            builder.push(page)?;
            page = (page | page_mask)
                .checked_add(1)
                .ok_or(DescriptorError::TooLong)?;
        }
        end = Some(stop);
    }

    if builder.entries == 0 {
        return Err(DescriptorError::Empty);
    }
    Ok(builder.finish())
}

/// Tables at the edges, then random cases against a model of the controller's side.
#[kernel::prelude::kunit_tests(rust_nvme_prp)]
mod tests {
    // PANIC: An `unwrap` or an index that fails is a failed test.
    // CAST: All are small numbers.

    use super::{
        super::tests::{
            ranges,
            ListMemory,
            Random, //
        },
        *, //
    };
    use kernel::prelude::*;

    const SHIFT: u32 = 12;
    const PAGE: u64 = 1 << SHIFT;
    const LIST: u64 = 0x7000_0000;

    fn describe(
        of: &[(u64, u64)],
        memory: &mut ListMemory,
        shift: u32,
    ) -> Result<DataPointer, DescriptorError> {
        build(ranges(of), memory, shift)
    }

    /// Reads the data pointer as a controller does for a transfer of `left` bytes. Ranges that
    /// touch come out as one.
    fn decode(
        pointer: &DataPointer,
        memory: &ListMemory,
        mut left: u64,
        shift: u32,
    ) -> KVec<DataRange> {
        let page = 1u64 << shift;
        let mut out: KVec<DataRange> = KVec::new();
        let mut take = |entry: u64, left: &mut u64| {
            let len = (page - (entry & (page - 1))).min(*left);
            *left -= len;
            match out.last_mut() {
                Some(last) if last.addr + last.len == entry => last.len += len,
                _ => out
                    .push(DataRange { addr: entry, len }, GFP_KERNEL)
                    .unwrap(),
            }
        };

        let [first, second] = pointer.words;
        take(first, &mut left);
        if left > 0 && left <= page {
            take(second, &mut left);
        }
        let mut at = second;
        while left > 0 {
            let end_of_page = at & (page - 1) == page - ENTRY;
            if end_of_page && left > page {
                at = memory.read(at);
                // A controller may refuse a chain pointer with an offset.
                assert!(at & (page - 1) == 0);
                continue;
            }
            take(memory.read(at), &mut left);
            at += ENTRY;
        }
        out
    }

    /// Returns the same ranges with those joined that touch, as [`decode`] must return them.
    fn joined(of: &[(u64, u64)]) -> KVec<DataRange> {
        let mut out: KVec<DataRange> = KVec::new();
        for range in ranges(of) {
            match out.last_mut() {
                Some(last) if last.addr + last.len == range.addr => last.len += range.len,
                _ => out.push(range, GFP_KERNEL).unwrap(),
            }
        }
        out
    }

    fn total(of: &[(u64, u64)]) -> u64 {
        of.iter().map(|(_, len)| len).sum()
    }

    #[test]
    fn short_transfers_need_no_list() {
        let mut none = ListMemory::new(LIST, 0);
        // (addr, len), entries, second word
        let table = [
            ((0x1_0000, 512), 1, 0),
            ((0x1_0000, PAGE), 1, 0),
            ((0x1_0ffc, 4), 1, 0),
            ((0x1_0e00, 512), 1, 0),
            ((0x1_0e00, 516), 2, 0x1_1000),
            ((0x1_0000, PAGE + 4), 2, 0x1_1000),
            ((0x1_0000, 2 * PAGE), 2, 0x1_1000),
            ((0x1_0800, PAGE), 2, 0x1_1000),
        ];

        for ((addr, len), entries, second) in table {
            let pointer = describe(&[(addr, len)], &mut none, SHIFT).unwrap();
            assert!(short(DataRange { addr, len }, SHIFT) == Some(pointer));
            assert_eq!(pointer.words, [addr, second]);
            assert_eq!(pointer.entries, entries);
            assert!(pointer.kind == DescriptorKind::Prp);
        }
    }

    #[test]
    fn three_pages_need_a_list() {
        for (addr, len) in [
            (0x1_0000, 3 * PAGE),
            (0x1_0000, 2 * PAGE + 4),
            (0x1_0ffc, PAGE + 8),
        ] {
            let mut memory = ListMemory::new(LIST, 2);
            assert!(short(DataRange { addr, len }, SHIFT).is_none());
            let pointer = describe(&[(addr, len)], &mut memory, SHIFT).unwrap();
            assert_eq!(pointer.words, [addr, LIST]);
            assert_eq!(pointer.entries, 3);
            assert_eq!(memory.read(LIST), 0x1_1000);
            assert_eq!(memory.read(LIST + 8), 0x1_2000);

            let mut short = ListMemory::new(LIST, 1);
            assert!(describe(&[(addr, len)], &mut short, SHIFT) == Err(DescriptorError::TooMany));
        }
    }

    #[test]
    fn ranges_may_be_anywhere_but_not_have_holes() {
        // Ranges and whether PRPs can describe them.
        let table: [(&[(u64, u64)], bool); 9] = [
            (&[(0x1_0000, PAGE), (0x9_0000, PAGE)], true),
            (&[(0x1_0e00, 512), (0x9_0000, PAGE), (0x5_0000, 4)], true),
            (&[(0x9_0000, PAGE), (0x1_0000, PAGE)], true),
            // Touching, though not at a page's end.
            (&[(0x1_0000, 512), (0x1_0200, 512)], true),
            (&[(0x1_0e00, 256), (0x1_0f00, 256), (0x9_0000, 8)], true),
            (&[(0x1_0000, 512), (0x1_0400, 512)], false),
            (&[(0x1_0000, 512), (0x9_0000, PAGE)], false),
            (&[(0x1_0000, PAGE), (0x9_0200, 512)], false),
            (&[(0x1_0e00, 1024), (0x9_0200, 512)], false),
        ];

        for (of, fine) in table {
            let mut memory = ListMemory::new(LIST, 8);
            match describe(of, &mut memory, SHIFT) {
                Ok(pointer) => {
                    assert!(fine);
                    assert!(decode(&pointer, &memory, total(of), SHIFT)[..] == joined(of)[..]);
                }
                Err(e) => assert!(!fine && e == DescriptorError::Gap),
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let table: [(&[(u64, u64)], DescriptorError); 6] = [
            (&[], DescriptorError::Empty),
            (&[(0x1000, 0)], DescriptorError::Empty),
            (&[(0x1000, PAGE), (0x5000, 0)], DescriptorError::Empty),
            (&[(0x1002, 4)], DescriptorError::Misaligned),
            (&[(u64::MAX - 7, 16)], DescriptorError::TooLong),
            (&[(0x1000, u64::MAX)], DescriptorError::TooLong),
        ];

        for (of, error) in table {
            let mut memory = ListMemory::new(LIST, 8);
            assert!(describe(of, &mut memory, SHIFT) == Err(error));
        }
    }

    #[test]
    fn a_list_chains_at_the_end_of_its_page() {
        // Where the list starts in its page (words), and how many words are left there.
        for start in [0u64, 1, 509, 510, 511] {
            let room = 512 - start;
            for extra in [-2i64, -1, 0, 1, 2] {
                let Ok(entries) = u64::try_from(room as i64 + extra) else {
                    continue;
                };
                if entries < 2 {
                    continue;
                }

                let mut memory = ListMemory::new(LIST + 8 * start, 1024);
                let of = [(0x10_0000, (entries + 1) * PAGE)];
                let pointer = describe(&of, &mut memory, SHIFT).unwrap();
                assert_eq!(u64::from(pointer.entries), entries + 1);
                assert!(decode(&pointer, &memory, total(&of), SHIFT)[..] == joined(&of)[..]);

                // Nothing is written beyond the entries and the chain pointer.
                let chained = entries > room;
                assert_eq!(memory.written() as u64, entries + u64::from(chained));
            }
        }
    }

    #[test]
    fn list_words_is_exact() {
        // Bytes, words: the worst offset, and not one word more than is used.
        for pages in [1u64, 2, 3, 511, 512, 513, 514, 1023, 1024, 1025, 1536] {
            let bytes = pages * PAGE;
            let words = list_words(bytes as usize, SHIFT);
            let mut memory = ListMemory::new(LIST, words);
            let pointer = describe(&[(0x10_0004, bytes)], &mut memory, SHIFT).unwrap();
            assert_eq!(u64::from(pointer.entries), pages + 1);
            // Two pages need no list.
            assert_eq!(memory.written(), if pages == 1 { 0 } else { words });
        }
    }

    #[test]
    fn random_transfers_decode_to_themselves() {
        // A small page makes chains of several pages common.
        const SHIFT: u32 = 6;
        const PAGE: u64 = 1 << SHIFT;
        let mut random = Random::new(7);
        let (mut gaps, mut begin) = (0, 0);

        for _ in 0..4000 {
            let mut of: KVec<(u64, u64)> = KVec::new();
            let mut addr = 0x1_0000 + 4 * random.below(PAGE / 4);
            for _ in 0..=random.below(24) {
                let mut len = 4 * (1 + random.below(4 * PAGE / 4));
                if random.below(16) != 0 {
                    // Mostly: end at a page's end.
                    len += PAGE.wrapping_sub(addr + len) & (PAGE - 1);
                }
                of.push((addr, len), GFP_KERNEL).unwrap();
                addr = match random.below(16) {
                    0 => addr + len,
                    1 => (addr + len + 4 * random.below(64)) & !3,
                    _ => 0x1_0000 + PAGE * random.below(1 << 20),
                };
            }

            let mut memory = ListMemory::new(LIST + 8 * random.below(8), 256);
            let want = joined(&of);
            let last = want.len() - 1;
            let hole = want.iter().enumerate().any(|(i, range)| {
                (i > 0 && range.addr & (PAGE - 1) != 0)
                    || (i < last && (range.addr + range.len) & (PAGE - 1) != 0)
            });

            let begins = begins_with_gap(ranges(&of), SHIFT);
            assert!(hole || !begins);
            begin += u32::from(begins);
            match describe(&of, &mut memory, SHIFT) {
                Ok(pointer) => {
                    assert!(!hole);
                    assert!(decode(&pointer, &memory, total(&of), SHIFT)[..] == want[..]);
                }
                Err(e) => {
                    assert!(hole && e == DescriptorError::Gap);
                    gaps += 1;
                }
            }
        }
        // Both outcomes were met.
        assert!(gaps > 100 && gaps < 3900);
        assert!(begin > 50 && begin < gaps);
    }
}
