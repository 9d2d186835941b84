// SPDX-License-Identifier: GPL-2.0

//! Shared by the tests of domains: addresses, scattered memory, and a domain to test in.

use crate::{
    check::Outcome,
    fixture::with_dma_api,
    table, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    page::PAGE_SIZE,
    pci,
    prelude::*, //
};
use phyr::{
    memory::{
        Chunks,
        Memory, //
    },
    DmaAddr,
    MapError,
    PhysAddr, //
};
use phyr_iommu::{
    translation,
    Domain,
    Mapping,
    NotAttached,
    Reason,
    Translation, //
};

// CAST: a page.
pub(crate) const PAGE: u64 = PAGE_SIZE as u64;

/// First of the addresses that tests choose: no window of a PCI bus is there.
pub(crate) const BASE: u64 = 0x40_0000_0000;

pub(crate) fn at(pages: u64) -> DmaAddr {
    DmaAddr::from_raw(BASE + pages * PAGE)
}

/// Returns the physical address behind `iova`, by the page table alone.
pub(crate) fn leads(domain: &Domain<'_>, iova: DmaAddr) -> Option<PhysAddr> {
    table::lookup(domain.device(), iova.into_raw()).map(PhysAddr::from_raw)
}

/// Allocates `nr` pages that are not in the order of their addresses.
pub(crate) fn scattered(nr: usize) -> Result<Chunks> {
    let mut memory = Chunks::zeroed(nr * PAGE_SIZE, 0, GFP_KERNEL)?;
    for at in 0..nr / 2 {
        memory.swap(at, nr - 1 - at);
    }
    Ok(memory)
}

/// Returns the physical address of page `nr` of `memory`.
pub(crate) fn place<M: Memory>(memory: &M, nr: usize) -> Option<PhysAddr> {
    let mut left = nr * PAGE_SIZE;
    for phyr in memory.phyrs().flatten() {
        if left < phyr.len() {
            // CAST: a `usize` is at most 64 bits wide.
            return Some(PhysAddr::from_raw(phyr.paddr().into_raw() + left as u64));
        }
        left -= phyr.len();
    }
    None
}

/// Checks that nothing was mapped, for this reason.
#[track_caller]
pub(crate) fn refused<M: Memory>(
    result: Result<Mapping<'_, M>, MapError<M, Reason>>,
    why: Reason,
) -> Outcome {
    check_eq!(reason(result), Some(why));
    Ok(())
}

pub(crate) fn reason<M: Memory>(
    result: Result<Mapping<'_, M>, MapError<M, Reason>>,
) -> Option<Reason> {
    result.err().map(|refused| refused.error)
}

/// Returns whether the device has an IOMMU, and so can have a domain; also in passthrough.
pub(crate) fn has_iommu(dev: &Device<Bound>) -> bool {
    translation(dev) != Translation::None
}

/// Runs `test` in a domain of the device's own, if there is an IOMMU; checks that nothing is left.
pub(crate) fn with_domain(
    test: impl FnOnce(&pci::Device<Bound>, &Domain<'_>) -> Outcome,
) -> Outcome {
    with_dma_api(|pdev, mapper| {
        let dev = mapper.device();
        let before = translation(dev);
        if !has_iommu(dev) {
            check_eq!(Domain::attach(dev, None).err(), Some(NotAttached::NoIommu));
            return Ok(());
        }
        let domain = Domain::attach(dev, None)?;
        check_eq!(translation(dev), Translation::Owned);
        test(pdev, &domain)?;
        let mut left = 0;
        domain.for_each(|_, _| left += 1);
        check_eq!(left, 0);
        drop(domain);
        check_eq!(translation(dev), before);
        Ok(())
    })
}
