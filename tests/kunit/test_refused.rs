// SPDX-License-Identifier: GPL-2.0

//! Reasons why memory is not mapped: an errno tells those that pass from those that stay.
//!
//! While a case runs, the device is untrusted or has a small mask, and the machine has no bounce
//! buffers. A mapping that can never succeed must not reach a warning of the DMA API, which fails
//! the run of the guest.

use crate::{
    check::Outcome,
    fixture::{
        buffer,
        contiguous,
        mapper_like,
        piece,
        with_dma_api,
        with_mask, //
    }, //
};
use core::ptr;
use kernel::{
    device::Bound,
    page::PAGE_SIZE,
    pci,
    prelude::*, //
};
use phyr::{
    batch::Capacity,
    linear::LinearError,
    memory::{
        Chunks,
        Memory,
        Pages, //
    },
    raw,
    DataDirection,
    Limits,
    Mapper, //
};

const DIR: DataDirection = DataDirection::Bidirectional;

/// The machine as it is while a case runs.
#[derive(Clone, Copy)]
struct Machine {
    bounces: bool,
    trusted: bool,
}

/// Runs `test` with a mapper of the device on such a machine.
fn with_machine(
    pdev: &pci::Device<Bound>,
    machine: Machine,
    test: impl FnOnce(&Mapper<'_>) -> Outcome,
) -> Outcome {
    let dev = raw::device(pdev.as_ref());
    // `struct device` is a part of `struct pci_dev`; the test looks where a driver must not.
    let raw = ptr::from_ref(pdev)
        .cast_mut()
        .cast::<kernel::bindings::pci_dev>();
    // SAFETY: the device is bound, and nothing is mapped for it: the suites run one test at a time,
    // and a test unmaps what it maps.
    let pool = unsafe {
        let pool = (*dev).dma_io_tlb_mem;
        if !machine.bounces {
            (*dev).dma_io_tlb_mem = ptr::null_mut();
        }
        (*raw).set_untrusted((!machine.trusted).into());
        pool
    };
    let run = || test(&Mapper::new(pdev.as_ref(), Limits::NONE)?);
    let result = run();
    // SAFETY: nothing is mapped any more.
    unsafe {
        (*dev).dma_io_tlb_mem = pool;
        (*raw).set_untrusted(0);
    }
    result
}

/// Checks that mapping `memory`, at once and in a batch, fails with `error`.
#[track_caller]
fn refuses<M: Memory<Direction = DataDirection>>(
    mapper: &Mapper<'_>,
    memory: impl Fn() -> Result<M>,
    error: Error,
) -> Outcome {
    check_err!(mapper.map(memory()?, DIR, GFP_KERNEL), error);
    let room = Capacity {
        pieces: 2,
        segments: 64,
        bytes: 64 * PAGE_SIZE,
    };
    let mut batch = mapper.batch(room, DIR, GFP_KERNEL)?;
    check_err!(batch.add(memory()?), error);
    // The batch goes on.
    check_eq!(batch.segments(), 0);
    Ok(())
}

/// Maps `memory`, and unmaps it.
fn maps<M: Memory<Direction = DataDirection>>(mapper: &Mapper<'_>, memory: Result<M>) -> Result {
    mapper.map(memory?, DIR, GFP_KERNEL)?;
    Ok(())
}

/// Allocates two pages, and a part of a third one.
fn cut() -> Result<KVVec<Pages>> {
    let mut all = KVVec::new();
    for (offset, len) in [(0, PAGE_SIZE), (0, PAGE_SIZE), (0, 512)] {
        all.push(piece(offset, len)?, GFP_KERNEL)?;
    }
    Ok(all)
}

/// Checks an untrusted device without bounce buffers: it is given whole granules only.
fn untrusted(mapper: &Mapper<'_>) -> Outcome {
    let Some(granule) = mapper.granule() else {
        return Ok(());
    };
    // CAST: the size of a granule is that of a page of the IOMMU.
    check!(!mapper.can_bounce());
    check_eq!(mapper.dma_alignment(), granule.size() as usize);
    // One phyr, its end, and both its ends; and runs of several.
    for (offset, len) in [(0, 512), (PAGE_SIZE - 512, 512), (512, 1024)] {
        refuses(mapper, || piece(offset, len), ENOBUFS)?;
    }
    refuses(mapper, cut, ENOBUFS)?;
    let linear = mapper.linear(cut()?, DIR).err();
    check_eq!(linear.map(|e| e.error), Some(LinearError::Bounced));
    // Whole granules need no copy.
    maps(mapper, piece(0, PAGE_SIZE))?;
    maps(mapper, buffer(5))?;
    Ok(())
}

/// Checks a device with a mask of 16 MiB, without bounce buffers.
fn out_of_reach(mapper: &Mapper<'_>) -> Outcome {
    if mapper.granule().is_some() {
        return Ok(());
    }
    check!(!mapper.can_bounce());
    let one = || piece(0, PAGE_SIZE);
    let start = check_some!(one()?.phyrs().flatten().next());
    check_cmp!(start.paddr().into_raw(), >=, 1 << 24, "memory that the mask reaches");
    // Where all is copied, but there is nothing to copy to, it is the same.
    refuses(mapper, one, ERANGE)?;
    refuses(mapper, || buffer(5), ERANGE)
}

/// Uses all bounce buffers, until none is left, and frees them again.
fn full(mapper: &Mapper<'_>) -> Outcome {
    const MIB: usize = 1 << 20;
    let dir = DataDirection::ToDevice;
    // CAST: a `usize` is at most 64 bits wide.
    let max = mapper.max_mapping_size() as u64;
    let limits = check_some!(Limits::NONE.with_max_segment(max));
    let mapper = mapper_like(mapper, limits)?;
    let mut all = KVVec::new();
    // 64 MiB or less are there.
    let refused = loop {
        let pages = Pages::zeroed(MIB, GFP_KERNEL)?;
        match mapper.map(pages, dir, GFP_KERNEL) {
            Ok(mapping) => all.push(mapping, GFP_KERNEL)?,
            Err(refused) => break refused,
        }
        check_cmp!(all.len(), <=, 256, "no end of bounce buffers");
    };
    check_eq!(refused.error, EAGAIN);
    drop(all);
    // They are back.
    mapper.map(refused.value, dir, GFP_KERNEL)?;
    Ok(())
}

#[kunit_tests(phyr_device_refused)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_granules_without_bounce_buffers() -> Outcome {
        let machine = Machine {
            bounces: false,
            trusted: false,
        };
        with_dma_api(|pdev, _| with_machine(pdev, machine, untrusted))
    }

    /// With bounce buffers the same device is given all of it.
    #[test]
    fn parts_of_granules_are_bounced() -> Outcome {
        let machine = Machine {
            bounces: true,
            trusted: false,
        };
        with_dma_api(|pdev, _| {
            with_machine(pdev, machine, |mapper| {
                if mapper.granule().is_none() || !mapper.can_bounce() {
                    return Ok(());
                }
                check_eq!(mapper.dma_alignment(), 1);
                maps(mapper, piece(512, 1024))?;
                maps(mapper, cut())?;
                Ok(())
            })
        })
    }

    #[test]
    fn a_trusted_device_needs_none() -> Outcome {
        let machine = Machine {
            bounces: false,
            trusted: true,
        };
        with_dma_api(|pdev, _| {
            with_machine(pdev, machine, |mapper| {
                check_eq!(mapper.dma_alignment(), 1);
                check!(!mapper.can_bounce());
                maps(mapper, piece(512, 1024))?;
                maps(mapper, cut())?;
                Ok(())
            })
        })
    }

    #[test]
    fn memory_beyond_the_mask() -> Outcome {
        let machine = Machine {
            bounces: false,
            trusted: true,
        };
        with_dma_api(|pdev, _| with_mask::<24>(pdev, || with_machine(pdev, machine, out_of_reach)))
    }

    /// Bounce buffers beyond the mask do not count.
    #[test]
    fn bounce_buffers_beyond_the_mask() -> Outcome {
        let machine = Machine {
            bounces: true,
            trusted: true,
        };
        with_dma_api(|pdev, _| with_mask::<24>(pdev, || with_machine(pdev, machine, out_of_reach)))
    }

    #[test]
    fn more_than_can_be_bounced() -> Outcome {
        with_dma_api(|_, mapper| {
            if !crate::is_bounced() {
                return Ok(());
            }
            // A phyr of 512 KiB; the mapper has no limits that would cut it.
            let long = || Chunks::zeroed(PAGE_SIZE << 7, 7, GFP_KERNEL);
            check_cmp!(mapper.max_mapping_size(), <=, PAGE_SIZE << 6);
            refuses(mapper, long, EFBIG)?;
            // CAST: a `usize` is at most 64 bits wide.
            let max = mapper.max_mapping_size() as u64;
            let limits = check_some!(Limits::NONE.with_max_segment(max));
            let mapper = mapper_like(mapper, limits)?;
            maps(&mapper, long())?;
            Ok(())
        })
    }

    #[test]
    fn bounce_buffers_come_to_an_end() -> Outcome {
        with_dma_api(|_, mapper| {
            if !crate::is_bounced() {
                return Ok(());
            }
            full(mapper)
        })
    }

    #[test]
    fn where_the_other_end_of_memory_is_out_of_reach() -> Outcome {
        // A page within the reach of the device is mapped, whatever else is not.
        let machine = Machine {
            bounces: false,
            trusted: true,
        };
        with_dma_api(|pdev, _| {
            with_mask::<32>(pdev, || {
                with_machine(pdev, machine, |mapper| {
                    if crate::is_bounced() {
                        return Ok(());
                    }
                    let memory = contiguous(0)?;
                    let end = memory.phyrs().flatten().next().map(|phyr| phyr.end());
                    let reached = end.is_some_and(|end| end <= 1 << 32);
                    if mapper.granule().is_some() || reached {
                        maps(mapper, Ok(memory))?;
                    }
                    Ok(())
                })
            })
        })
    }
}
