// SPDX-License-Identifier: GPL-2.0

//! A domain, with mappings of every kind in it.

use crate::{
    buffers::pages,
    check::Outcome,
    fixture::{
        self,
        buffer, //
    },
    table,
    test_forget::{
        leaked::{
            all_stay,
            forget,
            phyrs, //
        },
        mappings::{
            mapping,
            parts, //
        }, //
    }, //
};
use kernel::{
    device::Bound,
    new_mutex,
    pci,
    prelude::*,
    sync::Arc, //
};
use phyr::{
    DmaAddr,
    Limits, //
};
use phyr_iommu::{
    AttachError, //
    Domain,
};

/// Forgets, in a domain of the device's own, mappings, a gather before its flush, a mapper, and in
/// the end the domain, which stays until the device is unbound.
pub(crate) fn domain(pdev: &pci::Device<Bound>) -> Outcome {
    let scope = fixture::binding()?.scope;
    let dev = scope.device();
    if table::domain_type(dev).is_none() {
        return Ok(());
    }
    let at = |nr: u64| DmaAddr::from_raw(0x40_0000_0000 + (nr << 20));
    let access = phyr_iommu::Access::READ_WRITE;
    // What the device's scope holds is dropped while the device is in the domain.
    let slot = Arc::pin_init(new_mutex!(None), GFP_KERNEL)?;
    let older = scope.register(slot.clone());
    forget(older?, KVec::new())?;
    let domain = Domain::attach(dev, None)?;
    let held = domain.map_at(pages(2)?, at(2), access);
    *slot.lock() = Some(held?);

    let memory = pages(4)?;
    let places = phyrs(&memory)?;
    let forgotten = domain.map_at(memory, at(0), access);
    forget(forgotten?, places)?;
    all_stay()?;
    let place = check_some!(table::lookup(dev, at(0).into_raw()));

    let memory = pages(4)?;
    let places = phyrs(&memory)?;
    let ended = domain.map_at(memory, at(1), access);
    let mut gather = domain.gather(1)?;
    gather.unmap(ended?)?;
    forget(gather, places)?;
    all_stay()?;

    let mapper = domain.mapper(Limits::NONE, 1 << 24)?;
    mapping(pdev, &mapper, buffer(5)?)?;
    mapping(pdev, &mapper, parts()?)?;
    forget(mapper, KVec::new())?;
    all_stay()?;

    forget(domain, KVec::new())?;
    all_stay()?;
    check_eq!(table::lookup(dev, at(0).into_raw()), Some(place));
    check_eq!(Domain::attach(dev, None).err(), Some(AttachError::InUse));
    Ok(())
}
