// SPDX-License-Identifier: GPL-2.0

//! Mappings of every kind, and turns with them.

use crate::{
    buffers::{
        pages,
        BOTH, //
    },
    check::Outcome,
    fixture::{
        buffer,
        piece, //
    },
    table,
    test_forget::leaked::{
        all_stay,
        forget,
        goes_on,
        phyrs, //
    },
    test_unmap::{
        shaped,
        Mapped, //
    }, //
};
use core::pin::pin;
use kernel::{
    device::Bound,
    page::PAGE_SIZE,
    pci,
    prelude::*, //
};
use phyr::{
    batch::Capacity,
    memory::{
        Chunks,
        Memory,
        Pages, //
    },
    DataDirection,
    IotlbGather,
    Mapper,
    Unmapping, //
};

/// Forgets a mapping of `memory`.
pub(crate) fn mapping<M: Memory<Direction = DataDirection>>(
    pdev: &pci::Device<Bound>,
    mapper: &Mapper<'_>,
    memory: M,
) -> Outcome {
    let phyrs = phyrs(&memory)?;
    let mapping = mapper.map(memory, BOTH, GFP_KERNEL)?;
    let vec = check_some!(mapping.dma_vecs().next());
    let place = table::lookup(mapper.device(), vec.addr().into_raw());
    forget(mapping, phyrs)?;
    all_stay()?;
    check_eq!(table::lookup(mapper.device(), vec.addr().into_raw()), place);
    goes_on(pdev, mapper, vec)
}

/// Allocates pieces that do not join: their mapping has several ranges, with an IOMMU, too.
pub(crate) fn parts() -> Result<KVVec<Pages>> {
    let mut parts = KVVec::new();
    for offset in [0, 512, 1024] {
        let part = piece(offset, 512)?;
        parts.push(part, GFP_KERNEL)?;
    }
    Ok(parts)
}

/// Forgets the CPU's turn and its vmap: the mapping still ends.
pub(crate) fn turns(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let memory = pages(3)?;
    let mut mapping = mapper.map(memory, BOTH, GFP_KERNEL)?;
    let vec = check_some!(mapping.dma_vecs().next());
    forget(mapping.cpu(), KVec::new())?;
    goes_on(pdev, mapper, vec)?;
    let mut cpu = mapping.cpu();
    // Its range of kernel addresses leaks.
    forget(cpu.vmap()?, KVec::new())?;
    cpu.write(0, b"again")?;
    drop(cpu);
    let memory = mapping.unmap();
    let mut seen = [0; 5];
    memory.read(0, &mut seen)?;
    check_eq!(&seen, b"again");
    Ok(())
}

/// Forgets the CPU's turn with a linear mapping, and the mapping.
pub(crate) fn linear(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let memory = Chunks::zeroed(2 * PAGE_SIZE, 1, GFP_KERNEL)?;
    let phyrs = phyrs(&memory)?;
    let mut linear = mapper.linear(memory, BOTH)?;
    let vec = linear.dma_vec();
    forget(linear.cpu()?, KVec::new())?;
    goes_on(pdev, mapper, vec)?;
    forget(linear, phyrs)?;
    all_stay()?;
    goes_on(pdev, mapper, vec)
}

/// Forgets the device's turn with a copy, and the copy.
pub(crate) fn copy(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let memory = buffer(3)?;
    let phyrs = phyrs(&memory)?;
    let mut copy = mapper.linear_copy(memory, BOTH)?;
    let turn = copy.hand_over()?;
    let vec = turn.dma_vec();
    forget(turn, KVec::new())?;
    goes_on(pdev, mapper, vec)?;
    copy.write(0, b"mine")?;
    forget(copy, phyrs)?;
    all_stay()?;
    goes_on(pdev, mapper, vec)
}

/// Forgets an open batch, and one that has become a mapping.
pub(crate) fn batch(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    for finalised in [false, true] {
        let room = Capacity {
            pieces: 2,
            segments: 8,
            bytes: 8 * PAGE_SIZE,
        };
        let mut batch = mapper.batch(room, BOTH, GFP_KERNEL)?;
        let mut places = KVec::new();
        for nr in [1, 3] {
            let piece = buffer(nr)?;
            for phyr in phyrs(&piece)? {
                places.push(phyr, GFP_KERNEL)?;
            }
            batch.add(piece)?;
        }
        if !finalised {
            forget(batch, places)?;
            all_stay()?;
            continue;
        }
        let mapping = batch.finalise()?;
        let vec = check_some!(mapping.dma_vecs().next());
        forget(mapping, places)?;
        all_stay()?;
        goes_on(pdev, mapper, vec)?;
    }
    Ok(())
}

/// Forgets mappings on their way to their end: unlinked, and not flushed. Neither their memory nor
/// their addresses are given out again.
pub(crate) fn unmapping(_pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let (mut all, mut places) = (KVVec::new(), KVec::new());
    let gather = pin!(IotlbGather::new());
    let mut unmapping = Unmapping::new(mapper, gather);
    for nr in 0..8 {
        let memory = shaped(nr)?;
        for phyr in phyrs(&memory)? {
            places.push(phyr, GFP_KERNEL)?;
        }
        let mut mapped = Mapped::new(mapper, memory)?;
        mapped.unlink(mapper, &mut unmapping);
        // Where each ends by itself there is nothing to forget.
        if mapped.is_unlinked() {
            all.push(mapped, GFP_KERNEL)?;
        }
    }
    forget(unmapping, KVec::new())?;
    for nr in 0..64 {
        let other = Mapped::new(mapper, shaped(nr)?)?;
        check!(!all.iter().any(|mapped| mapped.overlaps(&other)));
        other.end(mapper);
    }
    if all.is_empty() {
        return Ok(());
    }
    forget(all, places)?;
    all_stay()
}
