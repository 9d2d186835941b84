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
pub(crate) const fn list_words_at(offset: usize, bytes: usize, page_shift: u32) -> usize {
    match (offset + bytes).div_ceil(1 << page_shift) {
        0..=2 => 0,
        pages => entry_words(pages - 1, page_shift),
    }
}

/// Returns the words of a list of `entries`.
const fn entry_words(entries: usize, page_shift: u32) -> usize {
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

#[cfg(CONFIG_KUNIT = "y")]
#[path = "prp/tests.rs"]
mod tests;
