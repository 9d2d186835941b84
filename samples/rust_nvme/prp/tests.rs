// SPDX-License-Identifier: GPL-2.0

//! Tests of [`prp`](super).

/// Tables at the edges, then random cases against a model of the controller's side.
#[kernel::prelude::kunit_tests(rust_nvme_prp)]
mod cases {
    // PANIC: An `unwrap` or an index that fails is a failed test.
    // CAST: All are small numbers.

    use super::super::{
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
