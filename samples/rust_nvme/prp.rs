// SPDX-License-Identifier: GPL-2.0

//! Physical region pages: DMA ranges to PRP entries.
//!
//! C: `nvme_pci_setup_data_prp()` in [`drivers/nvme/host/pci.c`](srctree/drivers/nvme/host/pci.c)
//!
//! Entry points: [`short`] for one range of at most two pages, [`build`] for the rest. A PRP entry
//! names one controller page. The first may start inside its
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
    entry_words(bytes.div_ceil(1 << page_shift), page_shift)
}

/// Returns the words that the list of a transfer of `bytes` from `offset` in the first page on
/// needs. None if both its pages are in the command.
// As `entry_words`.
#[inline(always)]
pub(crate) const fn list_words_at(offset: usize, bytes: usize, page_shift: u32) -> usize {
    match (offset + bytes).div_ceil(1 << page_shift) {
        0..=2 => 0,
        pages => entry_words(pages - 1, page_shift),
    }
}

/// Returns the words of a list of `entries`.
// Where the size of a page is a constant: else objtool finds the rest of a function after a
// division that LLVM knows not to be by zero.
#[inline(always)]
const fn entry_words(entries: usize, page_shift: u32) -> usize {
    let per_page = (1 << page_shift) / 8;

    if entries <= per_page {
        entries
    } else {
        // All pages but the last lose a word to the chain pointer.
        entries + (entries - 2) / (per_page - 1)
    }
}

/// The entries of a transfer after the first, as they are found.
///
/// Each is written when the next one comes: the second of two has its place in the command, and
/// only what is followed by another may need a chain pointer in front of it.
struct Writer<L: DescriptorList> {
    list: L,
    addr: u64,
    words: usize,
    /// Words of a page.
    per_page: usize,
    next: usize,
    /// The last word of the page that [`Writer::next`] is in.
    page_end: usize,
    /// The last of `entries`, which is not written.
    last: u64,
    entries: u32,
}

impl<L: DescriptorList> Writer<L> {
    #[inline(always)]
    fn new(list: L, page_shift: u32) -> Self {
        let (addr, words, per_page) = (list.addr(), list.words(), (1 << page_shift) / 8);
        // CAST: An offset in a page.
        let first = (addr / ENTRY) as usize & (per_page - 1);
        Self {
            list,
            addr,
            words,
            per_page,
            next: 0,
            page_end: per_page - 1 - first,
            last: 0,
            entries: 0,
        }
    }

    #[inline(always)]
    fn put(&mut self, word: u64) -> Result<(), DescriptorError> {
        if self.next >= self.words {
            return Err(DescriptorError::TooMany);
        }
        self.list.put(self.next, word);
        self.next += 1;
        Ok(())
    }

    #[inline(always)]
    fn push(&mut self, entry: u64) -> Result<(), DescriptorError> {
        if self.entries > 0 {
            if self.next == self.page_end {
                self.chain()?;
            }
            self.put(self.last)?;
        }
        self.last = entry;
        self.entries += 1;
        Ok(())
    }

    /// Goes on to the next page: its address takes the last word of this one.
    #[inline(always)]
    fn chain(&mut self) -> Result<(), DescriptorError> {
        // CAST: An index into memory fits in an address.
        self.put(self.addr + ENTRY * (self.next as u64 + 1))?;
        self.page_end += self.per_page;
        Ok(())
    }

    /// Returns the pointer to the entries after `first`.
    #[inline(always)]
    fn finish(mut self, first: u64) -> Result<DataPointer, DescriptorError> {
        let second = if self.entries > 1 {
            self.put(self.last)?;
            self.addr
        } else {
            self.last
        };
        Ok(DataPointer {
            kind: DescriptorKind::Prp,
            words: [first, second],
            entries: 1 + self.entries,
        })
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

/// Returns whether there is a hole after the first range, so that [`build`] would fail.
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
/// - [`DescriptorError::TooLong`]: a range reaches into the last page of the address space, or
///   beyond.
///
/// On an error the list holds garbage, which the controller must not read.
// A function of its own: its loops have all registers.
#[inline(never)]
pub(crate) fn build<L: DescriptorList>(
    mut ranges: impl Iterator<Item = DataRange>,
    list: L,
    page_shift: u32,
) -> Result<DataPointer, DescriptorError> {
    let page_size = 1u64 << page_shift;
    let page_mask = page_size - 1;
    let mut writer = Writer::new(list, page_shift);

    let first = ranges.next().ok_or(DescriptorError::Empty)?;
    if first.len == 0 {
        return Err(DescriptorError::Empty);
    }
    if first.addr & 3 != 0 {
        return Err(DescriptorError::Misaligned);
    }
    // The end of the data so far, and the first page that is not yet named.
    let mut end = end_of(first, page_mask)?;
    let mut page = (first.addr & !page_mask) + page_size;
    loop {
        while page < end {
            writer.push(page)?;
            page += page_size;
        }
        let Some(range) = ranges.next() else {
            return writer.finish(first.addr);
        };
        if range.len == 0 {
            return Err(DescriptorError::Empty);
        }
        if range.addr != end {
            if (end | range.addr) & page_mask != 0 {
                return Err(DescriptorError::Gap);
            }
            page = range.addr;
        }
        end = end_of(range, page_mask)?;
    }
}

/// Returns where `range` ends: not in the last page, so that each of its pages has one after it.
#[inline(always)]
fn end_of(range: DataRange, page_mask: u64) -> Result<u64, DescriptorError> {
    match range.addr.checked_add(range.len) {
        Some(end) if end <= !page_mask => Ok(end),
        _ => Err(DescriptorError::TooLong),
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[path = "prp/tests.rs"]
mod tests;
