// SPDX-License-Identifier: GPL-2.0

//! Looks up DMA addresses in the IOMMU's page table.

use crate::{
    check::Outcome,
    oracle, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};
use phyr::{
    ownership::ATTACHED,
    raw,
    DmaVec,
    Mapper,
    Phyr, //
};

/// Type of a domain of the driver's own.
pub(crate) const OWNED: u32 = bindings::IOMMU_DOMAIN_UNMANAGED;

/// Returns the type of the domain that the device is in, `IOMMU_DOMAIN_*`, or `None` if there is no
/// IOMMU.
pub(crate) fn domain_type(dev: &Device<Bound>) -> Option<u32> {
    let _lock = ATTACHED.lock();
    // SAFETY: the device is bound.
    let domain = unsafe { bindings::iommu_get_domain_for_dev(raw::device(dev)) };
    // SAFETY: no domain is freed while the lock is held.
    unsafe { domain.as_ref() }.map(|domain| domain.type_)
}

/// Returns the physical address that the device reaches through `addr`, or `None` if it faults.
///
/// Always `None` without an IOMMU.
pub(crate) fn lookup(dev: &Device<Bound>, addr: u64) -> Option<u64> {
    // SAFETY: the device is bound.
    let domain = unsafe { bindings::iommu_get_domain_for_dev(raw::device(dev)) };
    if domain.is_null() {
        return None;
    }
    // SAFETY: the device keeps its domain while it is bound.
    match unsafe { bindings::iommu_iova_to_phys(domain, addr) } {
        0 => None,
        paddr => Some(paddr),
    }
}

/// Checks that `vecs` lead to `phyrs`, at both edges of every granule.
#[track_caller]
pub(crate) fn check(
    mapper: &Mapper<'_>,
    mut vecs: impl Iterator<Item = DmaVec>,
    phyrs: impl Iterator<Item = Phyr>,
) -> Outcome {
    let Some(granule) = mapper.granule() else {
        return Ok(());
    };
    let (mut addr, mut left) = (0, 0);

    for phyr in phyrs {
        // CAST: a `usize` is at most 64 bits wide.
        let (mut paddr, mut rest) = (phyr.paddr().into_raw(), phyr.len() as u64);
        while rest != 0 {
            if left == 0 {
                let vec = check_some!(vecs.next());
                oracle::access(mapper.device(), vec)?;
                (addr, left) = (vec.addr().into_raw(), vec.len() as u64);
            }
            check_eq!(lookup(mapper.device(), addr), Some(paddr), "at {addr:#x}");
            let step = rest.min(left).min(granule.size() - granule.offset(addr));
            let last = addr + (step - 1);
            let end = paddr + (step - 1);
            check_eq!(lookup(mapper.device(), last), Some(end), "at {last:#x}");
            // A range may end where the addresses do.
            addr = addr.wrapping_add(step);
            left -= step;
            paddr += step;
            rest -= step;
        }
    }
    check_eq!(left, 0, "bytes of the last range");
    check_eq!(vecs.next(), None);
    Ok(())
}

/// Checks that no granule of `vecs` is mapped, nor in reach of a device model.
#[track_caller]
pub(crate) fn check_gone(mapper: &Mapper<'_>, vecs: impl Iterator<Item = DmaVec>) -> Outcome {
    for vec in vecs {
        check_unlinked(mapper, vec)?;
        if mapper.granule().is_some() {
            oracle::check_refused(mapper.device(), vec)?;
        }
    }
    Ok(())
}

/// Checks that no granule of `vec` is in the page table. A device may reach it until the flush.
#[track_caller]
pub(crate) fn check_unlinked(mapper: &Mapper<'_>, vec: DmaVec) -> Outcome {
    let Some(granule) = mapper.granule() else {
        return Ok(());
    };
    let (start, last) = (vec.addr().into_raw(), vec.len() as u64 - 1);
    let first = granule.align_down(start);
    // CAST: a granule's size fits.
    for addr in (first..=start + last).step_by(granule.size() as usize) {
        check_eq!(lookup(mapper.device(), addr), None, "at {addr:#x}");
    }
    Ok(())
}
