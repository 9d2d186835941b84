// SPDX-License-Identifier: GPL-2.0

//! Batches on a device: until full, still usable after an error, nothing left when dropped.

use crate::{
    fixture::{
        buffer,
        piece,
        with_device, //
    },
    table,
    test_scatter::expected, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};
use phyr::{
    batch::{
        Batch,
        Capacity, //
    },
    memory::{
        segments,
        Memory,
        Pages, //
    },
    DataDirection,
    DmaVec,
    Mapper, //
};

const DIR: DataDirection = DataDirection::Bidirectional;

fn open<'m>(
    mapper: &'m Mapper<'m>,
    pieces: usize,
    segments: usize,
    bytes: usize,
) -> Result<Batch<'m, 'm, Pages>, &'static str> {
    let room = Capacity {
        pieces,
        segments,
        bytes,
    };
    mapper
        .batch(room, DIR, GFP_KERNEL)
        .map_err(|_| "not opened")
}

fn page(offset: usize, len: usize) -> Result<Pages, &'static str> {
    piece(offset, len).map_err(|_| "no memory")
}

fn add(batch: &mut Batch<'_, '_, Pages>, piece: Pages) -> Result<(), &'static str> {
    batch.add(piece).map_err(|_| "not added")
}

/// Whether adding a page fails with `error` and gives the page back.
fn refuses(batch: &mut Batch<'_, '_, Pages>, piece: Pages, error: Error) -> bool {
    let len = piece.len();
    match batch.add(piece) {
        Ok(()) => false,
        Err(refused) => refused.reason == error && refused.memory.len() == len,
    }
}

/// Finalises `batch`, checks it against its own memory, unmaps.
fn finish(mapper: &Mapper<'_>, batch: Batch<'_, '_, Pages>) -> Result<KVVec<Pages>, &'static str> {
    let mapping = batch.finalise().map_err(|_| "not finalised")?;
    let mut vecs = KVVec::<DmaVec>::new();
    for vec in mapping.dma_vecs() {
        vecs.push(vec, GFP_KERNEL).map_err(|_| "no memory")?;
    }
    // Asked of the page table first, and compared with the memory when it is back.
    let mut seen = KVVec::new();
    for vec in &vecs {
        seen.push(
            table::lookup(mapper.device(), vec.addr().into_raw()),
            GFP_KERNEL,
        )
        .map_err(|_| "no memory")?;
    }
    let memory = mapping.unmap();
    table::check_gone(mapper, vecs.iter().copied())?;

    if mapper.granule().is_some() {
        if vecs.len() != expected(mapper, &memory)? {
            return Err("not as many ranges as planned");
        }
        let first = segments(&memory, *mapper.limits()).flatten().next();
        if seen.first().copied().flatten() != first.map(|phyr| phyr.paddr().into_raw()) {
            return Err("the first range led elsewhere");
        }
    }
    Ok(memory)
}

#[kunit_tests(phyr_device_batch)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_one_mapping() {
        let result = with_device(|_, mapper| {
            let mut batch = open(mapper, 4, 16, 16 * PAGE_SIZE)?;
            for nr in [1, 3, 2] {
                add(&mut batch, buffer(nr).map_err(|_| "no memory")?)?;
            }
            let memory = finish(mapper, batch)?;
            if memory.len() != 3 {
                return Err("not all pieces came back");
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn full_in_pieces_and_still_usable() {
        let result = with_device(|_, mapper| {
            let mut batch = open(mapper, 2, 16, 16 * PAGE_SIZE)?;
            add(&mut batch, page(0, PAGE_SIZE)?)?;
            add(&mut batch, page(0, PAGE_SIZE)?)?;
            if !refuses(&mut batch, page(0, PAGE_SIZE)?, E2BIG) {
                return Err("a third piece: not E2BIG");
            }
            finish(mapper, batch).map(drop)
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn full_in_segments_rolls_a_piece_back() {
        let result = with_device(|_, mapper| {
            let mut batch = open(mapper, 8, 2, 64 * PAGE_SIZE)?;
            add(&mut batch, page(512, 512)?)?;
            if mapper.granule().is_none() {
                // Two segments there: the first fits, the second does not, and both must go.
                if !refuses(&mut batch, buffer(2).map_err(|_| "no memory")?, E2BIG) {
                    return Err("a segment too many: not E2BIG");
                }
            }
            add(&mut batch, page(512, 512)?)?;
            if !refuses(&mut batch, page(512, 512)?, E2BIG) {
                return Err("a third segment: not E2BIG");
            }
            if batch.segments() != 2 {
                return Err("the batch changed");
            }
            finish(mapper, batch).map(drop)
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn full_in_bytes_behind_an_iommu() {
        let result = with_device(|_, mapper| {
            if mapper.granule().is_none() {
                // Nothing is set aside on the direct map: pieces and segments are what counts.
                return Ok(());
            }
            let mut batch = open(mapper, 8, 8, 3 * PAGE_SIZE)?;
            add(&mut batch, buffer(2).map_err(|_| "no memory")?)?;
            // The first page of it fits, the second does not: neither may stay.
            if !refuses(&mut batch, buffer(2).map_err(|_| "no memory")?, E2BIG) {
                return Err("a page too many: not E2BIG");
            }
            add(&mut batch, page(0, PAGE_SIZE)?)?;
            finish(mapper, batch).map(drop)
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn dropped_before_it_is_finalised() {
        let result = with_device(|_, mapper| {
            // An IOVA range is the next to be given out when it is free again: the same batch twice
            // lands in the same place if the first left nothing behind.
            for _ in 0..64 {
                let mut batch = open(mapper, 4, 8, 8 * PAGE_SIZE)?;
                add(&mut batch, buffer(2).map_err(|_| "no memory")?)?;
                add(&mut batch, page(100, 200)?)?;
                drop(batch);
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn empty_and_unmappable() {
        let result = with_device(|_, mapper| {
            if !matches!(open(mapper, 1, 1, 1)?.finalise(), Err(e) if e == EINVAL) {
                return Err("an empty batch: not EINVAL");
            }
            let room = |pieces, segments, bytes| Capacity {
                pieces,
                segments,
                bytes,
            };
            let none = mapper.batch::<Pages>(room(1, 1, 1), DataDirection::None, GFP_KERNEL);
            if !matches!(none, Err(e) if e == EINVAL) {
                return Err("no direction: not EINVAL");
            }
            for room in [room(0, 1, 1), room(1, 0, 1), room(1, 1, 0)] {
                let none = mapper.batch::<Pages>(room, DIR, GFP_KERNEL);
                if !matches!(none, Err(e) if e == EINVAL) {
                    return Err("no room: not EINVAL");
                }
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }
}
