// SPDX-License-Identifier: GPL-2.0

//! Scatter gather lists: DMA ranges to SGL descriptors.
//!
//! C: `nvme_pci_setup_data_sgl()` in [`drivers/nvme/host/pci.c`](srctree/drivers/nvme/host/pci.c)
//!
//! Entry points: [`short`] for one range, [`build`] for the rest. A descriptor is 16 bytes:
//!
//! ```text
//! word 0   address
//! word 1   63:60 type   59:56 subtype (0: address)   55:32 -   31:0 length in bytes
//! ```
//!
//! One range is a data block descriptor in the command itself. More are a list of data blocks in
//! memory, and the command holds a last segment descriptor with the list's address and length.
//! One segment is enough: its length is not bound to a page.

use super::desc::{
    DataPointer,
    DataRange,
    DescriptorError, //
    DescriptorKind,
    DescriptorList,
};

const DATA_BLOCK: u64 = 0x0;
const LAST_SEGMENT: u64 = 0x3;

/// Bytes of a descriptor.
pub(crate) const DESCRIPTOR: usize = 16;

/// Returns the two words of a descriptor.
#[inline]
fn descriptor(kind: u64, addr: u64, len: u32) -> [u64; 2] {
    [addr, kind << 60 | u64::from(len)]
}

/// Returns the data block descriptor of `range`.
#[inline(always)]
fn data_block(range: DataRange) -> Result<[u64; 2], DescriptorError> {
    if range.len == 0 {
        return Err(DescriptorError::Empty);
    }
    // A controller may require multiples of 4 bytes (SGLS), which the disk's limits guarantee.
    if (range.addr | range.len) & 3 != 0 {
        return Err(DescriptorError::Misaligned);
    }
    range
        .addr
        .checked_add(range.len)
        .ok_or(DescriptorError::TooLong)?;

    let len = u32::try_from(range.len).map_err(|_| DescriptorError::TooLong)?;
    Ok(descriptor(DATA_BLOCK, range.addr, len))
}

/// Describes one range. [`None`] where [`build`] fails.
pub(crate) fn short(range: DataRange) -> Option<DataPointer> {
    Some(DataPointer {
        kind: DescriptorKind::Sgl,
        words: data_block(range).ok()?,
        entries: 1,
    })
}

/// Describes `ranges` by SGL descriptors.
///
/// # Errors
///
/// - [`DescriptorError::Empty`]: no range, or an empty one.
/// - [`DescriptorError::Misaligned`]: an address or length is not a multiple of 4.
/// - [`DescriptorError::TooMany`]: `list` is too short.
/// - [`DescriptorError::TooLong`]: a range has more than `u32::MAX` bytes or wraps around.
#[inline(always)]
pub(crate) fn build<L: DescriptorList>(
    mut ranges: impl Iterator<Item = DataRange>,
    list: &mut L,
) -> Result<DataPointer, DescriptorError> {
    let first = data_block(ranges.next().ok_or(DescriptorError::Empty)?)?;
    let Some(second) = ranges.next() else {
        return Ok(DataPointer {
            kind: DescriptorKind::Sgl,
            words: first,
            entries: 1,
        });
    };

    put(list, 0, first)?;
    put(list, 1, data_block(second)?)?;
    let mut entries = 2;
    for range in ranges {
        put(list, entries, data_block(range)?)?;
        entries += 1;
    }

    let bytes = u32::try_from(entries * DESCRIPTOR).map_err(|_| DescriptorError::TooMany)?;
    Ok(DataPointer {
        kind: DescriptorKind::Sgl,
        words: descriptor(LAST_SEGMENT, list.addr(), bytes),
        // CAST: Fewer than `bytes`, which fits.
        entries: entries as u32,
    })
}

/// Stores descriptor `index` of the list.
#[inline(always)]
fn put<L: DescriptorList>(
    list: &mut L,
    index: usize,
    words: [u64; 2],
) -> Result<(), DescriptorError> {
    let [addr, control] = words;
    let at = 2 * index;

    if at + 1 >= list.words() {
        return Err(DescriptorError::TooMany);
    }
    list.put(at, addr);
    list.put(at + 1, control);
    Ok(())
}

/// Tables at the edges, then random cases against a model of the controller's side.
#[kernel::prelude::kunit_tests(rust_nvme_sgl)]
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

    const LIST: u64 = 0x7000_0000;

    fn describe(
        of: &[(u64, u64)],
        memory: &mut ListMemory,
    ) -> Result<DataPointer, DescriptorError> {
        build(ranges(of), memory)
    }

    /// Reads the data pointer as a controller does.
    fn decode(pointer: &DataPointer, memory: &ListMemory) -> KVec<(u64, u64)> {
        let mut out = KVec::new();
        let [addr, control] = pointer.words;
        let len = control & 0xffff_ffff;
        assert_eq!(control >> 32 & 0x0fff_ffff, 0);

        if control >> 60 == DATA_BLOCK {
            out.push((addr, len), GFP_KERNEL).unwrap();
            return out;
        }
        assert_eq!(control >> 60, LAST_SEGMENT);
        assert_eq!(len % 16, 0);
        for at in (addr..addr + len).step_by(DESCRIPTOR) {
            let control = memory.read(at + 8);
            assert_eq!(control >> 32, DATA_BLOCK);
            out.push((memory.read(at), control), GFP_KERNEL).unwrap();
        }
        out
    }

    #[test]
    fn one_range_is_inline() {
        let mut none = ListMemory::new(LIST, 0);
        for (addr, len) in [(0x1000, 4), (0x1ffc, 4), (4, 0xffff_fffc)] {
            let pointer = describe(&[(addr, len)], &mut none).unwrap();
            assert_eq!(pointer.words, [addr, len]);
            assert_eq!(pointer.entries, 1);
            assert!(pointer.kind == DescriptorKind::Sgl);
        }
    }

    #[test]
    fn more_are_one_segment() {
        let of = [(0x1ffc, 4), (0x5008, 512), (0x200, 4096), (0x1200, 4)];
        for n in 2..=of.len() {
            let mut memory = ListMemory::new(LIST, 2 * n);
            let pointer = describe(&of[..n], &mut memory).unwrap();
            assert_eq!(pointer.words, [LIST, 3 << 60 | 16 * n as u64]);
            assert_eq!(pointer.entries as usize, n);
            assert!(decode(&pointer, &memory)[..] == of[..n]);

            let mut short = ListMemory::new(LIST, 2 * n - 1);
            assert!(describe(&of[..n], &mut short) == Err(DescriptorError::TooMany));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let table: [(&[(u64, u64)], DescriptorError); 8] = [
            (&[], DescriptorError::Empty),
            (&[(0x1000, 0)], DescriptorError::Empty),
            (&[(0x1000, 4), (0x2000, 0)], DescriptorError::Empty),
            (&[(0x1002, 4)], DescriptorError::Misaligned),
            (&[(0x1000, 6)], DescriptorError::Misaligned),
            (
                &[(0x1000, 4), (0x2000, 4), (0x3001, 4)],
                DescriptorError::Misaligned,
            ),
            (&[(0x1000, 1 << 32)], DescriptorError::TooLong),
            (&[(u64::MAX - 3, 8)], DescriptorError::TooLong),
        ];

        for (of, error) in table {
            let mut memory = ListMemory::new(LIST, 16);
            assert!(describe(of, &mut memory) == Err(error));
        }
    }

    #[test]
    fn random_transfers_decode_to_themselves() {
        let mut random = Random::new(11);

        for _ in 0..2000 {
            let mut of: KVec<(u64, u64)> = KVec::new();
            for _ in 0..=random.below(40) {
                let len = 4 * (1 + random.below(1 << 16));
                of.push((4 * random.below(1 << 40), len), GFP_KERNEL)
                    .unwrap();
            }
            let mut memory = ListMemory::new(LIST + 8 * random.below(512), 2 * of.len());
            let pointer = describe(&of, &mut memory).unwrap();
            assert!(decode(&pointer, &memory)[..] == of[..]);
        }
    }
}
