// SPDX-License-Identifier: GPL-2.0

//! Page sizes, and mappings that end with one flush.

use crate::{
    check::Outcome,
    fixture::{
        LEN_2M,
        ORDER_2M, //
    },
    test_iommu::setup::{
        at,
        leads,
        refused,
        scattered,
        BASE,
        PAGE, //
    }, //
};
use kernel::{
    prelude::*,
    ptr::Alignment, //
};
use phyr::memory::{
    Chunks,
    Memory, //
};
use phyr_iommu::{
    Access,
    Domain,
    Reason, //
};

/// Checks that large pages are used where memory and address allow, and are counted.
pub(crate) fn large_pages(domain: &Domain<'_>) -> Outcome {
    // CAST: a constant.
    const LARGE: u64 = LEN_2M as u64;
    let memory = || Chunks::zeroed(2 * LEN_2M, ORDER_2M, GFP_KERNEL);
    let large = domain.map(memory()?, Access::READ_WRITE)?;
    // With granules of 64 KiB there is nothing between them and 512 MiB.
    let has_large = domain.granule().size() == 4096;
    if has_large {
        check_eq!(large.iova().into_raw() % LARGE, 0);
    }
    let sizes = large.page_sizes();
    // Two that are neighbours are one where the IOMMU has pages of every size.
    let are_large = sizes.count(LARGE) == 2 || sizes.count(2 * LARGE) == 1;
    check_eq!(are_large, has_large);
    check_eq!(sizes.count(PAGE) == 0, has_large);
    // A page off: nothing but small ones.
    let small = domain.map_at(memory()?, at(1), Access::READ_WRITE)?;
    let sizes = small.page_sizes();
    check_eq!(
        (sizes.count(LARGE), sizes.count(PAGE)),
        (0, 2 * LARGE / PAGE)
    );
    // Alignment that is asked for.
    let align = Alignment::new::<{ 16 << 20 }>();
    let aligned = domain.map_aligned(scattered(3)?, align, Access::READ);
    check_eq!(aligned?.iova().into_raw() % (16 << 20), 0);
    Ok(())
}

/// Ends many mappings with one flush; their memory comes back in the order in which it went in.
pub(crate) fn gathered(domain: &Domain<'_>) -> Outcome {
    let mut mappings = KVVec::new();
    for nr in 0..16 {
        let mut memory = scattered(3)?;
        // CAST: a few.
        memory.write(0, &[nr as u8 + 1])?;
        let mapping = domain.map_at(memory, at(8 * nr), Access::READ_WRITE);
        mappings.push(mapping?, GFP_KERNEL)?;
    }
    let mut gather = domain.gather(15)?;
    let mut left = None;
    for mapping in mappings {
        if let Err(refused) = gather.unmap(mapping) {
            check_eq!(refused.reason, E2BIG);
            check!(left.is_none());
            left = Some(refused.mapping);
        }
    }
    check_eq!(left.as_ref().map(|left| left.iova()), Some(at(8 * 15)));
    // The room is not given out before the flush.
    let early = domain.map_at(scattered(1)?, at(0), Access::READ);
    refused(early, Reason::Overlap(BASE))?;
    let memory = gather.flush();
    for (nr, memory) in memory.iter().enumerate() {
        let mut first = [0];
        memory.read(0, &mut first)?;
        // CAST: a few.
        check_eq!(usize::from(first[0]), nr + 1);
        check_eq!(leads(domain, at(8 * nr as u64)), None);
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
