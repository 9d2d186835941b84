// SPDX-License-Identifier: GPL-2.0

//! Page sizes, and mappings that end with one flush.

use crate::{
    check::Outcome,
    fixture::{
        LEN_2M,
        ORDER_2M, //
    },
    oracle,
    test_iommu::setup::{
        at,
        leads,
        refused,
        scattered,
        BASE, //
    }, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};
use phyr::{
    memory::{
        Chunks,
        Memory, //
    },
    DmaAddr,
    DmaVec, //
};
use phyr_iommu::{
    Access,
    Domain,
    DomainError, //
};

/// Checks that memory is mapped where large pages can be used, if that is possible.
pub(crate) fn large_pages(domain: &Domain<'_>) -> Outcome {
    // CAST: a constant.
    const LARGE: u64 = LEN_2M as u64;
    let memory = || Chunks::zeroed(2 * LEN_2M, ORDER_2M, GFP_KERNEL);
    let large = domain.map(memory()?, Access::READ_WRITE)?;
    // With granules of 64 KiB there is nothing between them and 512 MiB.
    let has_large = domain.granule().size() == 4096;
    if has_large {
        check_eq!(large.dma_vec().addr().into_raw() % LARGE, 0);
    }
    // A page off: nothing but small ones.
    let small = domain.map_at(memory()?, at(1), Access::READ_WRITE)?;
    for mapping in [&large, &small] {
        let vec = mapping.dma_vec();
        // CAST: a few MiB.
        for offset in (0..vec.len() as u64).step_by(PAGE_SIZE) {
            let iova = DmaAddr::from_raw(vec.addr().into_raw() + offset);
            check!(leads(domain, iova).is_some(), "{offset:#x}");
        }
    }
    Ok(())
}

/// Ends many mappings with one flush; their memory comes back in the order in which it went in.
pub(crate) fn gathered(dev: &Device<Bound>, domain: &Domain<'_>) -> Outcome {
    let mut mappings = KVVec::new();
    for nr in 0..16 {
        let mut memory = scattered(3)?;
        // CAST: a few.
        memory.write(0, &[nr as u8 + 1])?;
        let mapping = domain.map_at(memory, at(8 * nr), Access::READ_WRITE);
        let mapping = mapping?;
        oracle::access(dev, mapping.dma_vec())?;
        mappings.push(mapping, GFP_KERNEL)?;
    }
    let mut gather = domain.gather(15)?;
    let mut left = None;
    for mapping in mappings {
        if let Err(refused) = gather.unmap(mapping) {
            check_eq!(refused.error, E2BIG);
            check!(left.is_none());
            left = Some(refused.mapping);
        }
    }
    check_eq!(
        left.as_ref().map(|left| left.dma_vec().addr()),
        Some(at(8 * 15))
    );
    // The IOVAs are not given out before the flush.
    let early = domain.map_at(scattered(1)?, at(0), Access::READ);
    refused(early, DomainError::Overlap(BASE))?;
    let memory = gather.flush();
    for (nr, memory) in memory.iter().enumerate() {
        let mut first = [0];
        memory.read(0, &mut first)?;
        // CAST: a few.
        check_eq!(usize::from(first[0]), nr + 1);
        let start = at(8 * nr as u64);
        check_eq!(leads(domain, start), None);
        oracle::check_refused(dev, DmaVec::new(start, 3 * PAGE_SIZE))?;
    }
    check_eq!(memory.len(), 15);
    check!(leads(domain, at(8 * 15)).is_some());
    domain.map_at(scattered(1)?, at(0), Access::READ)?;
    // Dropped, it flushes as well.
    let mut gather = domain.gather(1)?;
    gather.unmap(check_some!(left))?;
    drop(gather);
    check_eq!(leads(domain, at(8 * 15)), None);
    Ok(())
}
