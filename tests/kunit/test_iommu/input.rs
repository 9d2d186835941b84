// SPDX-License-Identifier: GPL-2.0

//! Bad input: each has its reason.

use crate::{
    check::Outcome,
    fixture::piece,
    test_iommu::setup::{
        at,
        leads,
        reason,
        refused,
        scattered,
        BASE,
        PAGE, //
    }, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};
use phyr::{
    memory::{
        Chunks,
        Memory,
        Pages, //
    },
    DataDirection,
    DmaAddr,
    Phyr,
    PhysAddr, //
};
use phyr_iommu::{
    Access,
    Domain,
    DomainError, //
};

/// Memory whose second phyr is beyond the physical addresses of any IOMMU.
struct HalfThere(Chunks);

// SAFETY: the first phyr is the chunk's; the other is never mapped, as no IOMMU takes it.
unsafe impl Memory for HalfThere {
    type Direction = DataDirection;

    type Phyrs<'a> =
        core::iter::Chain<phyr::memory::ChunkPieces<'a>, core::iter::Once<Result<Phyr>>>;

    fn phyrs(&self) -> Self::Phyrs<'_> {
        let beyond = Phyr::new(PhysAddr::from_raw(1 << 62), PAGE_SIZE);
        Iterator::chain(self.0.phyrs(), core::iter::once(beyond.map_err(|_| EINVAL)))
    }

    fn len(&self) -> usize {
        self.0.len() + PAGE_SIZE
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.0.read(offset, to)
    }

    fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.0.write(offset, from)
    }
}

/// Checks the reason for each bad input, and that it leaves nothing mapped.
pub(crate) fn bad_input(domain: &Domain<'_>) -> Outcome {
    let access = Access::READ_WRITE;
    let two = || scattered(2);
    let granule = domain.granule().size();
    let map_at = |iova| -> Result<_> { Ok(domain.map_at(two()?, DmaAddr::from_raw(iova), access)) };
    refused(
        domain.map(KVVec::<Pages>::new(), access),
        DomainError::Empty,
    )?;
    let unaligned = DomainError::Unaligned {
        iova: BASE + 1,
        granule,
    };
    refused(map_at(BASE + 1)?, unaligned)?;
    let mut pieces = KVVec::new();
    for (offset, len) in [(0, PAGE_SIZE), (16, 64)] {
        let piece = piece(offset, len)?;
        pieces.push(piece, GFP_KERNEL)?;
    }
    let misaligned = DomainError::Misaligned {
        phyr: 1,
        offset: PAGE,
        granule,
    };
    refused(domain.map(pieces, access), misaligned)?;
    // The last page there is: two do not fit.
    let beyond = reason(map_at(u64::MAX - PAGE + 1)?);
    check_matches!(
        beyond,
        Some(DomainError::OutOfAperture { .. } | DomainError::Overflow)
    );
    // Overlap: all of it, the first page, the last page, in the middle of a longer one.
    let there = domain.map_at(scattered(4)?, at(8), access)?;
    for pages in [8, 7, 11, 9] {
        let overlap = domain.map_at(two()?, at(pages), access);
        refused(overlap, DomainError::Overlap(BASE + 8 * PAGE))?;
    }
    for pages in [6, 12] {
        domain.map_at(two()?, at(pages), access)?;
    }
    drop(there);

    // The page tables of SMMUs refuse such an address with a warning.
    if cfg!(CONFIG_ARM64) {
        return Ok(());
    }
    // Half of it was mapped, and is not any more.
    let half = HalfThere(scattered(3)?);
    match domain.map_at(half, at(0), access) {
        // An IOMMU with physical addresses of 63 bits (virtio) takes it.
        Ok(mapping) if leads(domain, at(3)).is_some() => drop(mapping),
        other => check_matches!(reason(other), Some(DomainError::Failed(_))),
    }
    for page in 0..4 {
        check_eq!(leads(domain, at(page)), None, "page {page}");
    }
    domain.map_at(two()?, at(0), access)?;
    Ok(())
}

/// Checks that a reserved region is not mapped: the window of interrupts, on x86.
pub(crate) fn reserved(domain: &Domain<'_>) -> Outcome {
    #[cfg(CONFIG_X86)]
    {
        const MSI: u64 = 0xfee0_0000;
        for iova in [MSI, MSI + 0xf_f000, MSI - PAGE] {
            let memory = scattered(2)?;
            let iova = DmaAddr::from_raw(iova);
            refused(
                domain.map_at(memory, iova, Access::READ),
                DomainError::Reserved,
            )?;
        }
    }
    let _ = domain;
    Ok(())
}
