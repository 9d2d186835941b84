// SPDX-License-Identifier: GPL-2.0

//! Memory that something else describes, and coherent memory, moved by the device.

use crate::{
    check::{
        check_bytes,
        Outcome, //
    },
    edu::Engine,
    fixture::{
        bytes,
        contiguous, //
    },
    table,
    test_memory::sources::{
        copy_ends,
        CTable, //
    }, //
};
use core::{
    any::type_name,
    iter,
    mem::size_of, //
};
use kernel::{
    device::Bound,
    dma::Coherent,
    page::PAGE_SIZE,
    pci,
    prelude::*, //
};
use phyr::{
    memory::{
        Chunks,
        Memory,
        PageMemory, //
    },
    source::{
        bvec::{
            BioVec,
            BioVecs, //
        },
        Segments,
        SgPages,
        Source, //
    },
    DataDirection,
    DmaAddr,
    DmaVec,
    Mapper,
    MemoryKind,
    Phyr,
    PhysAddr,
    Pinned, //
};

const PAGES: usize = 40;
const ALL: usize = PAGES * PAGE_SIZE;

/// The parts of the memory that are described: all, and one that begins and ends within pages.
const PARTS: [(usize, usize); 2] = [(0, ALL), (100, ALL - 1100)];

/// Has the device [copy the ends](copy_ends) of what `source` yields, which is `memory` from
/// `start` on; checks all of `memory`, whose bytes are `expected`, and the page table.
fn carry<S: Source>(
    pdev: &pci::Device<Bound>,
    mapper: &Mapper<'_>,
    memory: &Chunks,
    source: S,
    (start, len): (usize, usize),
    mut expected: KVVec<u8>,
) -> Outcome {
    pr_info!("phyr_test: {len} bytes of {}\n", type_name::<S>());
    let kind = MemoryKind::System;
    // SAFETY: `source` yields pages of `memory`, which is borrowed until the mapping has ended
    // below.
    let pinned = unsafe { Pinned::new(source, DataDirection::Bidirectional, kind) }?;
    let mapping = mapper.map_pinned(&pinned, GFP_KERNEL)?;
    let mut vecs = KVVec::<DmaVec>::new();
    for vec in mapping.dma_vecs() {
        vecs.push(vec, GFP_KERNEL)?;
    }
    check_eq!(vecs.iter().map(|vec| vec.len()).sum::<usize>(), len);
    let part = check_some!(expected.get_mut(start..start + len));
    copy_ends(pdev, &vecs, part)?;
    drop(mapping);
    table::check_gone(mapper, vecs.iter().copied())?;
    let mut seen = KVVec::from_elem(0u8, expected.len(), GFP_KERNEL)?;
    memory.read(0, &mut seen)?;
    check_bytes(&seen, &expected)
}

/// Returns pages that are scattered, and their bytes.
fn scattered() -> Result<(Chunks, KVVec<u8>)> {
    let mut memory = Chunks::zeroed(ALL, 0, GFP_KERNEL)?;
    for at in 0..PAGES {
        memory.swap(at, (at * 7 + 3) % PAGES);
    }
    let bytes = bytes(ALL, 5)?;
    memory.write(0, &bytes)?;
    Ok((memory, bytes))
}

/// Pages of a table of C's.
pub(crate) fn table(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    for part in PARTS {
        let (memory, bytes) = scattered()?;
        // CAST: less than a page.
        let table = CTable::new(&memory, part.0 as u32, part.1)?;
        let pages = Segments::new(SgPages::new(table.table()), *mapper.limits());
        carry(pdev, mapper, &memory, pages, part, bytes)?;
    }
    Ok(())
}

/// Pages in a slice of `bio_vec`.
pub(crate) fn bio_vecs(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    for part in PARTS {
        let (memory, bytes) = scattered()?;
        let mut pages = KVVec::new();
        for index in 0..PAGES {
            pages.push(check_some!(memory.page(index)), GFP_KERNEL)?;
        }
        let (mut at, end) = (part.0, part.0 + part.1);
        let mut vecs = KVVec::new();
        while at < end {
            let offset = at % PAGE_SIZE;
            let len = (PAGE_SIZE - offset).min(end - at);
            let page = check_some!(pages.get(at / PAGE_SIZE));
            vecs.push(BioVec::new(page, offset, len)?, GFP_KERNEL)?;
            at += len;
        }
        let pieces = Segments::new(BioVecs::new(&vecs), *mapper.limits());
        carry(pdev, mapper, &memory, pieces, part, bytes)?;
    }
    Ok(())
}

/// A range of physical memory.
pub(crate) fn range(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let mut memory = contiguous(2)?;
    let bytes = bytes(4 * PAGE_SIZE, 5)?;
    memory.write(0, &bytes)?;
    let part = (512, 3 * PAGE_SIZE);
    let first = check_some!(memory.phyrs().next())?.paddr().into_raw();
    // CAST: a few bytes.
    let phyr = Phyr::new(PhysAddr::from_raw(first + part.0 as u64), part.1)?;
    let source = Segments::new(iter::once(Ok(phyr)), *mapper.limits());
    carry(pdev, mapper, &memory, source, part, bytes)
}

/// Coherent memory: each sees at once what the other has written.
pub(crate) fn coherent(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    const NR: usize = 64;
    const HALF: usize = NR * size_of::<u64>();

    let ring = Coherent::<u64>::zeroed_slice(mapper.device(), 2 * NR, GFP_KERNEL)?;
    let vec = DmaVec::new(DmaAddr::from_raw(ring.dma_address()), ring.size());
    let engine = Engine::new(pdev)?;
    for turn in 1..4u64 {
        // SAFETY: the device is idle, and no other reference is live.
        let entries = unsafe { ring.as_mut() };
        for (at, entry) in (0..).zip(entries.iter_mut().take(NR)) {
            *entry = turn << 32 | at;
        }
        engine
            .read(vec, 0, HALF)
            .and_then(|()| engine.write(vec, HALF, HALF))?;
        // SAFETY: the device is idle, and no other reference is live.
        let entries = unsafe { ring.as_ref() };
        for (at, &entry) in (0..).zip(entries) {
            check_eq!(entry, turn << 32 | at % NR as u64);
        }
    }
    Ok(())
}
