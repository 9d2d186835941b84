// SPDX-License-Identifier: GPL-2.0

//! Bytes that the device moves through a domain, and those that it must not move.

use crate::{
    check::{
        check_bytes,
        Outcome, //
    },
    edu::{
        Engine,
        BUFFER, //
    },
    fixture::bytes,
    test_iommu::setup::{
        at,
        leads,
        place,
        scattered, //
    }, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use phyr::{
    memory::Memory,
    DmaAddr,
    DmaVec, //
};
use phyr_iommu::{
    Access,
    Domain, //
};

/// Returns a page at `iova`, for the engine.
pub(crate) fn vec(iova: DmaAddr) -> DmaVec {
    DmaVec::new(iova, PAGE_SIZE)
}

/// Checks bytes that the device moves from one mapping to another.
pub(crate) fn carry(engine: &Engine<'_>, domain: &Domain<'_>) -> Outcome {
    let all = bytes(BUFFER, 21)?;
    let mut from = scattered(8)?;
    from.write(PAGE_SIZE + 5, &all)?;
    let places = [0, 1, 6, 7].map(|nr| (nr, place(&from, nr)));
    let from = domain.map_at(from, at(0), Access::READ)?;
    let to = domain.map(scattered(8)?, Access::WRITE)?;

    for (nr, place) in places {
        // CAST: a few pages.
        check_eq!(leads(domain, at(nr as u64)), place);
    }
    engine
        .read(from.dma_vec(), PAGE_SIZE + 5, BUFFER)
        .and_then(|()| engine.write(to.dma_vec(), 3 * PAGE_SIZE - 7, BUFFER))?;
    let mut seen = bytes(BUFFER, 22)?;
    let to = to.unmap();
    to.read(3 * PAGE_SIZE - 7, &mut seen)?;
    check_bytes(&seen, &all)
}

/// Maps a page at two addresses: the device reads at one what it has written at the other.
pub(crate) fn aliased(engine: &Engine<'_>, domain: &Domain<'_>) -> Outcome {
    let memory = Arc::new(scattered(2)?, GFP_KERNEL)?;
    let all = bytes(64, 33)?;
    let mut source = scattered(1)?;
    source.write(0, &all)?;
    let source = domain.map(source, Access::READ)?;
    let map = |pages| domain.map_at(memory.clone(), at(pages), Access::READ_WRITE);
    let (one, two) = (map(0)?, map(512)?);
    check_eq!(leads(domain, at(1)), leads(domain, at(513)));
    engine
        .read(source.dma_vec(), 0, 64)
        .and_then(|()| engine.write(one.dma_vec(), 100, 64))
        .and_then(|()| engine.read(two.dma_vec(), 100, 64))
        .and_then(|()| engine.write(two.dma_vec(), PAGE_SIZE, 64))?;
    drop(one.unmap());
    check_eq!(leads(domain, at(0)), None);
    check!(leads(domain, at(512)).is_some());
    drop(two);
    let mut seen = bytes(64, 34)?;
    memory.read(PAGE_SIZE, &mut seen)?;
    check_bytes(&seen, &all)
}

/// Checks that accesses which the domain does not allow change nothing.
pub(crate) fn faults(engine: &Engine<'_>, domain: &Domain<'_>) -> Outcome {
    let all = bytes(BUFFER, 41)?;
    let mut memory = scattered(2)?;
    memory.write(0, &all)?;
    let source = domain.map_at(scattered(1)?, at(100), Access::READ)?;
    // Two pages that the device writes, and so has in its IOTLB, before they are unmapped.
    let warm = |memory| -> Result<_> {
        let mapping = domain.map_at(memory, at(1), Access::READ_WRITE)?;
        engine
            .read(mapping.dma_vec(), 0, BUFFER)
            .and_then(|()| engine.write(mapping.dma_vec(), 0, BUFFER))
            .and_then(|()| engine.read(source.dma_vec(), 0, BUFFER))?;
        Ok(mapping)
    };
    engine.read(source.dma_vec(), 0, BUFFER)?;

    let mapping = domain.map_at(memory, at(1), Access::READ)?;
    // Only for reading, the page below, the page above.
    for iova in [at(1), at(0), at(3)] {
        engine.write(vec(iova), 0, BUFFER)?;
    }
    let memory = warm(mapping.unmap())?.unmap();
    // For Intel's driver to write the next two to the log, it must have forgotten these: it counts
    // for five seconds.
    fsleep(Delta::from_secs(6));
    engine.write(vec(at(1)), 0, BUFFER)?;
    let mut seen = bytes(BUFFER, 42)?;
    memory.read(0, &mut seen)?;
    check_bytes(&seen, &all)?;
    // After a gathered end nothing is in reach either.
    let mapping = warm(memory)?;
    let mut gather = domain.gather(1)?;
    gather.unmap(mapping)?;
    let memory = gather.flush();
    engine.write(vec(at(1)), 0, BUFFER)?;
    memory
        .iter()
        .try_for_each(|memory| memory.read(0, &mut seen))?;
    check_bytes(&seen, &all)?;
    pr_info!("phyr_test: what an owned domain does not allow changed nothing\n");
    Ok(())
}
