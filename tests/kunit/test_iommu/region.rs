// SPDX-License-Identifier: GPL-2.0

//! The IOVA space of a domain, and the region of a mapper in it.

use crate::{
    check::{
        Failure,
        Outcome, //
    },
    edu::Engine,
    fixture,
    table,
    test_iommu::setup::{
        reason,
        scattered, //
    }, //
};
use kernel::{
    device::Bound,
    page::PAGE_SIZE,
    pci,
    prelude::*, //
};
use phyr::{
    linear::{
        Limit,
        LinearError, //
    },
    memory::{
        Chunks,
        Memory, //
    },
    DataDirection,
    DmaVec,
    Limits, //
};
use phyr_iommu::{
    Access,
    Domain,
    DomainError, //
};

/// Length of a mapper's IOVA region, in bytes.
pub(crate) const REGION: usize = 64 * PAGE_SIZE;

/// Checks that a mapper allocates from its own region, and that nobody else maps there.
pub(crate) fn own_region(pdev: &pci::Device<Bound>, domain: &Domain<'_>) -> Outcome {
    let dir = DataDirection::Bidirectional;
    let mapper = domain.mapper(Limits::NONE, REGION)?;
    check_eq!(mapper.max_mapping_size(), REGION);
    check!(mapper.granule().is_some());
    let map = |nr: usize| -> Result<_> { Ok(mapper.map(fixture::buffer(nr)?, dir, GFP_KERNEL)) };
    let half = map(32)??;
    // The rest is too short for this, in one range or page by page.
    let refused = check_err!(map(33)?, ENOSPC);
    check_eq!(refused.value.len(), 33 * PAGE_SIZE);
    let rest = map(32)??;
    check_err!(map(1)?, ENOSPC);
    let long = mapper.linear(scattered(65)?, dir).err().map(|e| e.error);
    // CAST: a few pages.
    check_matches!(
        long,
        Some(LinearError::Limit { limit: Limit::MappingSize, max, .. }) if max == REGION as u64
    );
    // The addresses of the mapper are nobody else's.
    for vec in Iterator::chain(half.dma_vecs(), rest.dma_vecs()) {
        let at = domain.map_at(scattered(1)?, vec.addr(), Access::READ);
        check_matches!(reason(at), Some(DomainError::Overlap(_)));
    }
    let engine = Engine::new(pdev)?;
    let from = check_some!(half.dma_vecs().next());
    let to = check_some!(rest.dma_vecs().next());
    engine
        .read(from, 2 * PAGE_SIZE - 9, 512)
        .and_then(|()| engine.write(to, 3 * PAGE_SIZE - 9, 512))?;
    drop(half);
    let lookup = |vec: DmaVec| table::lookup(pdev.as_ref(), vec.addr().into_raw());
    check_eq!(lookup(from), None);
    check!(lookup(to).is_some());
    drop(rest);
    // All of it is back, and goes to others with the mapper.
    map(64)??;
    drop(mapper);
    domain.map_at(scattered(1)?, to.addr(), Access::READ)?;
    Ok(())
}

/// Maps up to the device's mask.
pub(crate) fn full(domain: &Domain<'_>) -> Outcome {
    const LEN: usize = 1 << 20;
    let map = || Chunks::zeroed(LEN, 8, GFP_KERNEL);
    let mut mappings = KVVec::new();
    loop {
        match domain.map(map()?, Access::READ) {
            Ok(mapping) => {
                // CAST: a `usize` is at most 64 bits wide.
                check_cmp!(mapping.dma_vec().addr().into_raw() + LEN as u64, <=, 1 << 24);
                mappings.push(mapping, GFP_KERNEL)?;
            }
            Err(refused) if refused.error == DomainError::NoSpace => break,
            Err(refused) => return Err(Failure::from(refused)),
        }
    }
    check!(
        (12..=16).contains(&mappings.len()),
        "{} MiB",
        mappings.len()
    );
    mappings.pop();
    domain.map(map()?, Access::READ)?;
    Ok(())
}
