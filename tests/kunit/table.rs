// SPDX-License-Identifier: GPL-2.0

//! The IOMMU's own word: what its page table says of a DMA address.

use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    }, //
};
use phyr::{
    raw,
    DmaVec,
    Mapper,
    Phyr, //
};

/// Where the device gets to through `addr`: the physical address, or `None` if it faults.
///
/// Without an IOMMU there is no such word; `None` then.
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

/// Checks that `vecs` lead to `phyrs`, byte for byte at the edges of every granule.
pub(crate) fn check(
    mapper: &Mapper<'_>,
    mut vecs: impl Iterator<Item = DmaVec>,
    phyrs: impl Iterator<Item = Phyr>,
) -> Result<(), &'static str> {
    let Some(granule) = mapper.granule() else {
        return Ok(());
    };
    let (mut addr, mut left) = (0, 0);

    for phyr in phyrs {
        // CAST: here and below, a `usize` is at most 64 bits wide.
        let (mut paddr, mut rest) = (phyr.paddr().into_raw(), phyr.len() as u64);
        while rest != 0 {
            if left == 0 {
                let vec = vecs.next().ok_or("the ranges are too short")?;
                (addr, left) = (vec.addr().into_raw(), vec.len() as u64);
            }
            if lookup(mapper.device(), addr) != Some(paddr) {
                return Err("the page table leads elsewhere");
            }
            let step = rest.min(left).min(granule.size() - granule.offset(addr));
            if lookup(mapper.device(), addr + (step - 1)) != Some(paddr + (step - 1)) {
                return Err("the page table leads elsewhere at a granule's end");
            }
            // A range may end where the addresses do.
            addr = addr.wrapping_add(step);
            left -= step;
            paddr += step;
            rest -= step;
        }
    }
    if left != 0 || vecs.next().is_some() {
        return Err("the ranges are too long");
    }
    Ok(())
}

/// Checks that nothing of `vecs` is left in the page table.
pub(crate) fn check_gone(
    mapper: &Mapper<'_>,
    vecs: impl Iterator<Item = DmaVec>,
) -> Result<(), &'static str> {
    let Some(granule) = mapper.granule() else {
        return Ok(());
    };
    for vec in vecs {
        let (start, last) = (vec.addr().into_raw(), vec.len() as u64 - 1);
        let first = granule.align_down(start);
        // CAST: a granule's size fits.
        for addr in (first..=start + last).step_by(granule.size() as usize) {
            if lookup(mapper.device(), addr).is_some() {
                return Err("still mapped");
            }
        }
    }
    Ok(())
}
