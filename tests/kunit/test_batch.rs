// SPDX-License-Identifier: GPL-2.0

//! Batches on a device: until full, still usable after an error, nothing left when dropped.

use crate::{
    check::{
        Failure,
        Outcome, //
    },
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
) -> Result<Batch<'m, 'm, Pages>> {
    let capacity = Capacity {
        pieces,
        segments,
        bytes,
    };
    mapper.batch(capacity, DIR, GFP_KERNEL)
}

/// Checks that adding `piece` fails with `error` and gives the piece back.
#[track_caller]
fn refuses(batch: &mut Batch<'_, '_, Pages>, piece: Pages, error: Error) -> Outcome {
    let len = piece.len();
    let refused = check_err!(batch.add(piece), error);
    check_eq!(refused.value.len(), len);
    Ok(())
}

/// Finalises `batch`, checks it against its own memory, unmaps.
fn finish(mapper: &Mapper<'_>, batch: Batch<'_, '_, Pages>) -> Result<KVVec<Pages>, Failure> {
    let mapping = batch.finalise()?;
    let mut vecs = KVVec::<DmaVec>::new();
    for vec in mapping.dma_vecs() {
        vecs.push(vec, GFP_KERNEL)?;
    }
    // Asked of the page table first, and compared with the memory when it is back.
    let mut seen = KVVec::new();
    for vec in &vecs {
        seen.push(
            table::lookup(mapper.device(), vec.addr().into_raw()),
            GFP_KERNEL,
        )?;
    }
    let memory = mapping.unmap();
    table::check_gone(mapper, vecs.iter().copied())?;

    if mapper.granule().is_some() {
        check_eq!(vecs.len(), expected(mapper, &memory)?);
        let first = segments(&memory, *mapper.limits()).flatten().next();
        check_eq!(
            seen.first().copied().flatten(),
            first.map(|phyr| phyr.paddr().into_raw())
        );
    }
    Ok(memory)
}

#[kunit_tests(phyr_device_batch)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_one_mapping() -> Outcome {
        with_device(|_, mapper| {
            let mut batch = open(mapper, 4, 16, 16 * PAGE_SIZE)?;
            for nr in [1, 3, 2] {
                batch.add(buffer(nr)?)?;
            }
            let memory = finish(mapper, batch)?;
            check_eq!(memory.len(), 3);
            Ok(())
        })
    }

    #[test]
    fn full_in_pieces_and_still_usable() -> Outcome {
        with_device(|_, mapper| {
            let mut batch = open(mapper, 2, 16, 16 * PAGE_SIZE)?;
            batch.add(piece(0, PAGE_SIZE)?)?;
            batch.add(piece(0, PAGE_SIZE)?)?;
            refuses(&mut batch, piece(0, PAGE_SIZE)?, E2BIG)?;
            finish(mapper, batch).map(drop)
        })
    }

    #[test]
    fn full_in_segments_rolls_a_piece_back() -> Outcome {
        with_device(|_, mapper| {
            let mut batch = open(mapper, 8, 2, 64 * PAGE_SIZE)?;
            batch.add(piece(512, 512)?)?;
            if mapper.granule().is_none() {
                // Two segments there: the first fits, the second does not, and both must go.
                refuses(&mut batch, buffer(2)?, E2BIG)?;
            }
            batch.add(piece(512, 512)?)?;
            refuses(&mut batch, piece(512, 512)?, E2BIG)?;
            check_eq!(batch.segments(), 2);
            finish(mapper, batch).map(drop)
        })
    }

    #[test]
    fn full_in_bytes_behind_an_iommu() -> Outcome {
        with_device(|_, mapper| {
            if mapper.granule().is_none() {
                // Nothing is set aside on the direct map: pieces and segments are what counts.
                return Ok(());
            }
            let mut batch = open(mapper, 8, 8, 3 * PAGE_SIZE)?;
            batch.add(buffer(2)?)?;
            // The first page of it fits, the second does not: neither may stay.
            refuses(&mut batch, buffer(2)?, E2BIG)?;
            batch.add(piece(0, PAGE_SIZE)?)?;
            finish(mapper, batch).map(drop)
        })
    }

    #[test]
    fn dropped_before_it_is_finalised() -> Outcome {
        with_device(|_, mapper| {
            // An IOVA range is the next to be given out when it is free again: the same batch twice
            // lands in the same place if the first left nothing behind.
            for _ in 0..64 {
                let mut batch = open(mapper, 4, 8, 8 * PAGE_SIZE)?;
                batch.add(buffer(2)?)?;
                batch.add(piece(100, 200)?)?;
                drop(batch);
            }
            Ok(())
        })
    }

    #[test]
    fn empty_and_unmappable() -> Outcome {
        with_device(|_, mapper| {
            check_err!(open(mapper, 1, 1, 1)?.finalise(), EINVAL);
            let capacity = |pieces, segments, bytes| Capacity {
                pieces,
                segments,
                bytes,
            };
            let none = mapper.batch::<Pages>(capacity(1, 1, 1), DataDirection::None, GFP_KERNEL);
            check_err!(none, EINVAL);
            for empty in [capacity(0, 1, 1), capacity(1, 0, 1), capacity(1, 1, 0)] {
                let none = mapper.batch::<Pages>(empty, DIR, GFP_KERNEL);
                check_err!(none, EINVAL);
            }
            Ok(())
        })
    }
}
