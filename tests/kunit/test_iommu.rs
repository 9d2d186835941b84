// SPDX-License-Identifier: GPL-2.0

//! A domain that a driver owns: mappings in it, and faults everywhere else.

use crate::{
    check::{
        check_bytes,
        Outcome, //
    },
    edu::{
        Engine,
        BUFFER, //
    },
    fixture::{
        self,
        bytes,
        piece,
        with_dma_api, //
    },
    table,
    test_iommu::{
        input::{
            bad_input,
            reserved, //
        },
        model::random,
        pages::{
            gathered,
            large_pages, //
        },
        region::{
            full,
            own_region,
            REGION, //
        },
        setup::{
            at,
            has_iommu,
            scattered,
            with_domain,
            BASE, //
        },
        transfer::{
            aliased,
            carry,
            faults, //
        }, //
    }, //
};
use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};
use kernel::{
    device::Device,
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};
use phyr::{
    memory::Memory,
    raw,
    DataDirection,
    Limits,
    Mapper, //
};
use phyr_iommu::{
    Access,
    AttachError, //
    Domain,
    Fault,
    FaultHandler,
};

mod input;
pub(crate) mod model;
mod pages;
mod region;
mod setup;
mod transfer;

/// Counts faults, and keeps the address of the last one.
#[derive(Default)]
struct Seen {
    count: AtomicU64,
    iova: AtomicU64,
}

impl FaultHandler for Seen {
    fn fault(&self, _dev: &Device, fault: Fault) {
        self.count
            .fetch_add(if fault.write { 100 } else { 1 }, Ordering::Relaxed);
        self.iova.store(fault.iova.into_raw(), Ordering::Relaxed);
    }
}

#[kunit_tests(phyr_device_iommu)]
mod tests {
    use super::*;

    #[test]
    fn the_device_carries_bytes_through_a_domain() -> Outcome {
        with_domain(|pdev, domain| {
            let engine = Engine::new(pdev)?;
            carry(&engine, domain)?;
            aliased(&engine, domain)
        })
    }

    #[test]
    fn each_bad_input_has_its_reason() -> Outcome {
        with_domain(|_, domain| {
            bad_input(domain)?;
            reserved(domain)
        })
    }

    #[test]
    fn large_pages_can_be_used() -> Outcome {
        if crate::keeps_tables() {
            return Ok(());
        }
        with_domain(|_, domain| large_pages(domain))
    }

    #[test]
    fn many_mappings_end_with_one_flush() -> Outcome {
        with_domain(|pdev, domain| gathered(pdev.as_ref(), domain))
    }

    #[test]
    fn a_thousand_random_steps_match_the_model() -> Outcome {
        with_domain(|_, domain| random(domain))
    }

    #[test]
    fn the_devices_mask_ends_the_region() -> Outcome {
        with_dma_api(|pdev, mapper| {
            if !has_iommu(mapper.device()) {
                return Ok(());
            }
            fixture::with_mask::<24>(pdev, || full(&Domain::attach(mapper.device(), None)?))
        })
    }

    #[test]
    fn a_device_has_one_domain() -> Outcome {
        with_domain(|pdev, _| {
            let another = Domain::attach(pdev.as_ref(), None);
            check_eq!(another.err(), Some(AttachError::InUse));
            Ok(())
        })
    }

    /// With `domain=1` the scatter, batch and linear suites map in such a region as well.
    #[test]
    fn a_mapper_has_a_region_of_its_own() -> Outcome {
        with_domain(own_region)
    }

    #[test]
    fn a_mapper_in_a_domain_refuses_bad_input() -> Outcome {
        with_domain(|_, domain| {
            let new = |limits, size| domain.mapper(limits, size).err();
            // The upper half of all addresses, which some IOMMU has; the lower half is never free.
            const HALF: usize = 1 << 63;
            let _upper = domain.mapper(Limits::NONE, HALF);
            let granule = domain.granule().size();
            let small = Limits::NONE.with_max_segment(granule - 1);
            // CAST: a page at most.
            let aligned = Limits::NONE.with_min_align_mask(2 * granule as u32 - 1);
            let all = [
                (new(Limits::NONE, 0), EINVAL),
                (new(check_some!(small), REGION), EINVAL),
                (new(check_some!(aligned), REGION), EINVAL),
                (new(Limits::NONE, usize::MAX), EOVERFLOW),
                (new(Limits::NONE, HALF), ENOSPC),
            ];
            for (nr, (seen, expected)) in all.into_iter().enumerate() {
                check_eq!(seen, Some(expected), "{nr}");
            }
            Ok(())
        })
    }

    /// A mapping keeps its domain, whichever handle is dropped first.
    #[test]
    fn a_mapping_keeps_its_domain() -> Outcome {
        with_dma_api(|pdev, mapper| {
            let dev = mapper.device();
            if !has_iommu(dev) {
                return Ok(());
            }
            let before = table::domain_type(dev);
            let domain = Domain::attach(dev, None)?;
            let mapper = domain.mapper(Limits::NONE, REGION)?;
            let linear = mapper.linear(scattered(4)?, DataDirection::Bidirectional);
            let linear = linear?;
            let mapping = domain.map(scattered(2)?, Access::READ_WRITE);
            let mapping = mapping?;
            drop((domain, mapper));

            let engine = Engine::new(pdev)?;
            engine
                .read(linear.dma_vec(), PAGE_SIZE - 3, 64)
                .and_then(|()| engine.write(mapping.dma_vec(), PAGE_SIZE - 60, 64))?;
            check!(table::lookup(dev, linear.dma_vec().addr().into_raw()).is_some());
            drop(linear);
            check_eq!(table::domain_type(dev), Some(table::OWNED));
            drop(mapping);
            check_eq!(table::domain_type(dev), before);
            Ok(())
        })
    }

    /// Back from its own domain, the device does DMA as before.
    #[test]
    fn the_dma_api_works_afterwards() -> Outcome {
        with_dma_api(|pdev, mapper| {
            if !has_iommu(mapper.device()) {
                return Ok(());
            }
            for _ in 0..3 {
                let domain = Domain::attach(mapper.device(), None)?;
                let mapping = domain.map_at(scattered(4)?, at(0), Access::READ_WRITE);
                drop(mapping?);
                drop(domain);
                by_the_dma_api(&Engine::new(pdev)?, mapper)?;
            }
            Ok(())
        })
    }

    fn by_the_dma_api(engine: &Engine<'_>, mapper: &Mapper<'_>) -> Outcome {
        let all = bytes(BUFFER, 51)?;
        let map = |memory| {
            let dir = DataDirection::Bidirectional;
            mapper.map(memory, dir, GFP_KERNEL)
        };
        let mut from = piece(0, PAGE_SIZE)?;
        from.write(0, &all)?;
        let from = map(from)?;
        let to = map(piece(0, PAGE_SIZE)?)?;
        let (source, target) = (from.dma_vecs().next(), to.dma_vecs().next());
        let target = check_some!(target);
        engine
            .read(check_some!(source), 0, BUFFER)
            .and_then(|()| engine.write(target, 0, BUFFER))?;
        let mut seen = bytes(BUFFER, 52)?;
        let to = to.unmap();
        to.read(0, &mut seen)?;
        table::check_gone(mapper, core::iter::once(target))?;
        check_bytes(&seen, &all)
    }

    /// The handler gets what the IOMMU's driver reports: here the test reports in its place.
    #[test]
    fn faults_are_told() -> Outcome {
        with_dma_api(|_, mapper| {
            let dev = mapper.device();
            if !has_iommu(dev) {
                return Ok(());
            }
            let seen = Arc::new(Seen::default(), GFP_KERNEL)?;
            let domain = Domain::attach(dev, Some(seen.clone()))?;
            for write in [false, true] {
                // SAFETY: the device is bound and in the domain.
                unsafe {
                    let raw = raw::device(dev);
                    let domain = kernel::bindings::iommu_get_domain_for_dev(raw);
                    // CAST: a bit, an address.
                    // Not all drivers of IOMMUs tell which device it was.
                    kernel::bindings::report_iommu_fault(
                        domain,
                        if write { raw } else { core::ptr::null_mut() },
                        BASE as usize,
                        i32::from(write),
                    );
                }
            }
            drop(domain);
            check_eq!(
                (
                    seen.count.load(Ordering::Relaxed),
                    seen.iova.load(Ordering::Relaxed),
                ),
                (101, BASE)
            );
            Ok(())
        })
    }

    /// Only where it is asked for (`faults=1`); see `phyr_device_linear`.
    #[test]
    fn what_is_not_allowed_faults() -> Outcome {
        with_domain(|pdev, domain| {
            if !crate::wants_faults() {
                return Ok(());
            }
            faults(&Engine::new(pdev)?, domain)
        })
    }
}
