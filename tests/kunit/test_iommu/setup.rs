// SPDX-License-Identifier: GPL-2.0

//! Shared by the tests of domains: addresses, scattered memory, and a domain to test in.

use crate::{
    check::Outcome,
    fixture::with_dma_api,
    table, //
};
use core::ops::Range;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    fmt,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    str::CString, //
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
    AttachError,
    Domain,
    DomainError, //
    Mapping,
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
    result: Result<Mapping<'_, M>, MapError<M, DomainError>>,
    why: DomainError,
) -> Outcome {
    check_eq!(reason(result), Some(why));
    Ok(())
}

pub(crate) fn reason<M: Memory>(
    result: Result<Mapping<'_, M>, MapError<M, DomainError>>,
) -> Option<DomainError> {
    result.err().map(|refused| refused.error)
}

/// Checks that `domain` prints as just `mappings`.
#[track_caller]
pub(crate) fn check_dump(domain: &Domain<'_>, mappings: &[Mapping<'_, Chunks>]) -> Outcome {
    let all = mappings.iter().map(|mapping| {
        let vec = mapping.dma_vec();
        // CAST: a `usize` is at most 64 bits wide.
        vec.addr().into_raw()..vec.addr().into_raw() + vec.len() as u64
    });
    let (mut ranges, mut from) = (KVec::new(), 0);
    while let Some(next) = all
        .clone()
        .filter(|range| range.start >= from)
        .min_by_key(|range| range.start)
    {
        from = next.end;
        ranges.push(Hex(next), GFP_KERNEL)?;
    }
    let expected = CString::try_from_fmt(fmt!("{:?}", &ranges[..]))?;
    check_eq!(*CString::try_from_fmt(fmt!("{domain:?}"))?, *expected);
    Ok(())
}

/// A range of IOVAs as a domain prints it.
struct Hex(Range<u64>);

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.0.start, self.0.end)
    }
}

/// Returns whether the device has an IOMMU, and so can have a domain; also in passthrough.
pub(crate) fn has_iommu(dev: &Device<Bound>) -> bool {
    table::domain_type(dev).is_some()
}

/// Runs `test` in a domain of the device's own, if there is an IOMMU; checks that nothing is left.
pub(crate) fn with_domain(
    test: impl FnOnce(&pci::Device<Bound>, &Domain<'_>) -> Outcome,
) -> Outcome {
    with_dma_api(|pdev, mapper| {
        let dev = mapper.device();
        let before = table::domain_type(dev);
        if !has_iommu(dev) {
            check_eq!(Domain::attach(dev, None).err(), Some(AttachError::NoIommu));
            return Ok(());
        }
        let domain = Domain::attach(dev, None)?;
        check_eq!(table::domain_type(dev), Some(table::OWNED));
        test(pdev, &domain)?;
        check_dump(&domain, &[])?;
        drop(domain);
        check_eq!(table::domain_type(dev), before);
        Ok(())
    })
}
