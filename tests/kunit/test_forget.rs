// SPDX-License-Identifier: GPL-2.0

//! `mem::forget` of each kind of mapping and guard, which safe code may do at any time.
//!
//! A forgotten value is never dropped. Its memory must stay, mapped as it was, for as long as a
//! device reaches it: the device goes on with it, and no page of it may be allocated again. When
//! the driver is unbound, callbacks into the value (an interrupt, an exporter) must end, and when
//! it is bound again, everything else must work: the second `probe` looks.
//!
//! This leaks memory and IOVA, so it is done with `forget=1` only. A device cannot be attached to a
//! domain while a forgotten attachment to a dma-buf is mapped, so domains are forgotten with
//! `forget=2` instead.
//!
//! kmemleak reports memory to which it finds no pointer. The bytes of forgotten values are kept
//! where it looks, so that it reports other leaks only.

use crate::{
    buffers::BOTH,
    check::Outcome,
    fixture::{
        buffer,
        piece,
        with_device, //
    },
    table,
    test_forget::{
        bound::{
            first_binding,
            guarded,
            interrupts,
            BEFORE_DEVRES,
            BINDING,
            GUARDED_DROPPED,
            HANDLERS_DROPPED, //
        },
        dma_buf::{
            attached,
            attachments,
            buffers, //
        },
        domain::domain,
        leaked::{
            all_stay,
            forget,
            goes_on,
            FORGOTTEN, //
        },
        mappings::{
            batch,
            copy,
            linear,
            mapping,
            parts,
            turns,
            unmapping, //
        }, //
    }, //
};
use core::sync::atomic::Ordering::{
    Acquire,
    Relaxed,
    Release, //
};
use kernel::{
    device::Bound,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::Arc, //
};
use phyr::{
    memory::Bytes,
    Limits,
    Mapper, //
};
use phyr_driver::{
    binding::Binding,
    scope::Scope, //
};

mod bound;
mod dma_buf;
mod domain;
mod leaked;
mod mappings;

/// Forgets the owner of a binding in the first probe. In the second one, checks that what was
/// forgotten has ended as it must.
pub(crate) fn probe(scope: Scope<'_>) -> Outcome {
    if !crate::forgets() {
        return Ok(());
    }
    if FORGOTTEN.load(Acquire).is_null() {
        let (binding, owner) = Binding::new(scope)?;
        BINDING.store(Arc::into_raw(binding).cast_mut(), Release);
        return Ok(forget(owner, KVec::new())?);
    }
    after(scope.device().try_into()?)
}

fn after(pdev: &pci::Device<Bound>) -> Outcome {
    let first = first_binding()?;
    check!(first.is_over());
    check_err!(first.with(|_| Ok(())), ENODEV);
    check_eq!(HANDLERS_DROPPED.load(Relaxed), 1);
    check_eq!(GUARDED_DROPPED.load(Relaxed), 1);
    check_eq!(BEFORE_DEVRES.load(Relaxed), 1);
    check_eq!(attached()?, 0);
    check_cmp!(table::domain_type(pdev.as_ref()), !=, Some(table::OWNED));
    all_stay()?;
    let mapper = Mapper::new(pdev.as_ref(), Limits::NONE)?;
    let mapping = mapper.map(buffer(4)?, BOTH, GFP_KERNEL)?;
    let vec = check_some!(mapping.dma_vecs().next());
    goes_on(pdev, &mapper, vec)?;
    drop(mapping.unmap());
    pr_info!("what was forgotten has stayed, and the device is bound again\n");
    Ok(())
}

#[kunit_tests(phyr_device_forget)]
mod tests {
    use super::*;

    fn run(test: impl FnOnce(&pci::Device<Bound>, &Mapper<'_>) -> Outcome) -> Outcome {
        if !crate::forgets() {
            return Ok(());
        }
        with_device(test)
    }

    #[test]
    fn mappings() -> Outcome {
        run(|pdev, mapper| {
            mapping(pdev, mapper, piece(0, PAGE_SIZE)?)?;
            mapping(pdev, mapper, buffer(5)?)?;
            mapping(pdev, mapper, parts()?)?;
            let scattered = VVec::from_elem(0u8, 3 * PAGE_SIZE, GFP_KERNEL)?;
            mapping(pdev, mapper, Bytes::new(scattered)?)?;
            let contiguous = KVec::from_elem(0u8, 2 * PAGE_SIZE, GFP_KERNEL)?;
            mapping(pdev, mapper, Bytes::new(contiguous)?)
        })
    }

    #[test]
    fn mappings_on_their_way_to_their_end() -> Outcome {
        run(unmapping)
    }

    #[test]
    fn turns_of_the_cpu() -> Outcome {
        run(turns)
    }

    #[test]
    fn linear_mappings() -> Outcome {
        run(linear)
    }

    #[test]
    fn copies() -> Outcome {
        run(copy)
    }

    #[test]
    fn batches() -> Outcome {
        run(batch)
    }

    #[test]
    fn attachments_of_dma_bufs() -> Outcome {
        run(|pdev, mapper| {
            if crate::forgets_domains() {
                return Ok(());
            }
            attachments(pdev, mapper)
        })
    }

    #[test]
    fn dma_bufs() -> Outcome {
        run(|_, _| buffers())
    }

    #[test]
    fn handlers_of_interrupts() -> Outcome {
        run(|pdev, _| interrupts(pdev))
    }

    #[test]
    fn values_of_the_binding() -> Outcome {
        run(|_, _| guarded())
    }

    /// The last one: the DMA API's mappings are out of the device's reach afterwards.
    #[test]
    fn domains() -> Outcome {
        run(|pdev, _| {
            if !crate::forgets_domains() {
                return Ok(());
            }
            domain(pdev)
        })
    }
}
