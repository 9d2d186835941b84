// SPDX-License-Identifier: GPL-2.0

//! Random mappings against a model, and a well-used domain to look at.

use crate::{
    check::Outcome,
    fixture::{
        self,
        LEN_2M,
        ORDER_2M, //
    },
    test_iommu::setup::{
        at,
        check_dump,
        leads,
        place,
        reason,
        scattered,
        BASE,
        PAGE, //
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
    memory::Chunks,
    PhysAddr, //
};
use phyr_iommu::{
    Access,
    Domain,
    DomainError, //
    Mapping,
};

/// A well-used domain, and the mapping that was left in it.
pub(crate) struct Kept<'bound> {
    _left: Option<Mapping<'bound, Chunks>>,
    _domain: Domain<'bound>,
}

/// Argument of [`keep()`] for one large page.
pub(crate) const LARGE: usize = 254;

/// Maps and unmaps a lot in a domain, and leaves `pages` pages in it.
pub(crate) fn keep<'bound>(dev: &'bound Device<Bound>, pages: usize) -> Result<Kept<'bound>> {
    let domain = Domain::attach(dev, None)?;
    // The reason is in the log.
    random(&domain).map_err(|_| EIO)?;
    let left = match pages {
        0 => None,
        // A chunk that is one page of the IOMMU's next size.
        LARGE => Some(Chunks::zeroed(LEN_2M, ORDER_2M, GFP_KERNEL)?),
        _ => Some(Chunks::zeroed(pages * PAGE_SIZE, 0, GFP_KERNEL)?),
    };
    let left = match left {
        Some(memory) => Some(domain.map_at(memory, at(0), Access::READ_WRITE)?),
        None => None,
    };
    Ok(Kept {
        _left: left,
        _domain: domain,
    })
}

/// Removes a mapping from the model.
pub(crate) fn forget(model: &mut [Option<PhysAddr>], mapping: &Mapping<'_, Chunks>) -> Outcome {
    // CAST: a few pages.
    let first = ((mapping.dma_vec().addr().into_raw() - BASE) / PAGE) as usize;
    let pages = mapping.dma_vec().len() / PAGE_SIZE;
    let range = model.get_mut(first..first + pages);
    check_some!(range).fill(None);
    Ok(())
}

/// Does a thousand random steps, each checked against a model: an array of pages.
pub(crate) fn random(domain: &Domain<'_>) -> Outcome {
    const PAGES: usize = 64;
    const STEPS: usize = 1000;
    let mut below = fixture::random(0x696f_6d6d);
    let mut model = [None; PAGES];
    let mut mappings: KVVec<Mapping<'_, Chunks>> = KVVec::new();

    for _ in 0..STEPS {
        let first = below(PAGES);
        let nr = 1 + below(6);
        match below(3) {
            // Maps, or is refused.
            0 => {
                let memory = scattered(nr)?;
                let mut places = [None; 6];
                for (nr, place_of) in places.iter_mut().take(nr).enumerate() {
                    *place_of = place(&memory, nr);
                }
                let free = (first..first + nr)
                    .all(|page| model.get(page).is_none_or(|place| place.is_none()));
                // CAST: a few pages.
                match (
                    free,
                    domain.map_at(memory, at(first as u64), Access::READ_WRITE),
                ) {
                    (true, Ok(mapping)) if first + nr <= PAGES => {
                        mappings.push(mapping, GFP_KERNEL)?;
                        for (page, place) in places.iter().take(nr).enumerate() {
                            *check_some!(model.get_mut(first + page)) = *place;
                        }
                    }
                    // Beyond what the model looks at: taken down again.
                    (true, Ok(mapping)) => drop(mapping),
                    (free, result) => {
                        check_matches!(
                            (free, reason(result)),
                            (false, Some(DomainError::Overlap(_)))
                        )
                    }
                }
            }
            // Unmaps one.
            1 if !mappings.is_empty() => {
                let which = below(mappings.len());
                let mapping = check_some!(mappings.remove(which).ok());
                forget(&mut model, &mapping)?;
                drop(mapping.unmap());
            }
            // Unmaps some at once.
            2 if mappings.len() > 6 => {
                let mut gather = domain.gather(3)?;
                for _ in 0..3 {
                    let which = below(mappings.len());
                    let mapping = check_some!(mappings.remove(which).ok());
                    forget(&mut model, &mapping)?;
                    gather.unmap(mapping)?;
                }
                check_eq!(gather.flush().len(), 3);
            }
            _ => {}
        }
        let place = model.get(first).copied().flatten();
        // CAST: a few pages.
        let iova = at(first as u64);
        check_eq!(leads(domain, iova), place, "page {first}");
    }
    for (page, place) in model.iter().enumerate() {
        // CAST: a few pages.
        check_eq!(leads(domain, at(page as u64)), *place, "page {page}");
    }
    check_dump(domain, &mappings)
}
