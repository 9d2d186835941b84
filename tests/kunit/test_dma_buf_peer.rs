// SPDX-License-Identifier: GPL-2.0

//! dma-bufs of a BAR: one device's memory, mapped for another.
//!
//! They need a second device, and a machine on which the kernel allows peer-to-peer traffic.

use crate::{
    buffers::{
        find,
        ranges,
        settle,
        Told,
        BOTH, //
    },
    check::{
        Failure,
        Outcome, //
    },
    edu::{
        Engine,
        BUFFER, //
    },
    fixture::{
        pattern,
        with_dma_api, //
    },
    peer::{
        self,
        BAR,
        LEN, //
    },
    table, //
};
use core::sync::atomic::Ordering::Relaxed;
use kernel::{
    device::Bound,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::Arc, //
};
use phyr::{
    linear::LinearError,
    Mapper,
    Phyr,
    PhysAddr, //
};
use phyr_dma_buf::{
    AccessMode,
    Attachment,
    BarMemory,
    DeviceOnly,
    Exported,
    Exporter, //
};

/// Three ranges, in another order than they are in the BAR.
pub(crate) const RANGES: [(usize, usize); 3] = [
    (0, 2 * PAGE_SIZE),
    (8 * PAGE_SIZE, 3 * PAGE_SIZE),
    (4 * PAGE_SIZE, PAGE_SIZE),
];

pub(crate) struct Bars;

impl Exporter for Bars {
    type Module = crate::LocalModule;
    type Memory = BarMemory;
    type CpuMapping = DeviceOnly;
}

pub(crate) fn export(memory: &peer::Memory, ranges: &[(usize, usize)]) -> Result<Exported<Bars>> {
    // SAFETY: the BAR is memory that nobody relies on.
    unsafe { memory.peer.export(BAR, ranges, Bars, AccessMode::ReadWrite) }
}

/// Attaches the engine's device, which allows peer-to-peer.
fn attach(
    pdev: &pci::Device<Bound>,
    buf: &Exported<Bars>,
) -> Result<(Attachment<Told>, Arc<Told>)> {
    let told = Arc::new(Told::default(), GFP_KERNEL)?;
    let attachment = Attachment::dynamic(pdev.as_ref(), buf.dma_buf().into(), true, told.clone())?;
    Ok((attachment, told))
}

/// Returns the offset in the BAR of byte `at` of the buffer.
fn place(mut at: usize) -> Result<usize, Failure> {
    for (offset, len) in RANGES {
        if at < len {
            return Ok(offset + at);
        }
        at -= len;
    }
    Err(Failure::new(fmt!("{at} bytes past the end of the buffer")))
}

/// Checks that the ranges lead to the BAR, as one range behind an IOMMU, by the page table and by
/// bytes that the engine moves.
fn carry(memory: &peer::Memory, pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let buf = export(memory, &RANGES)?;
    let (attachment, _) = attach(pdev, &buf)?;
    attachment.map(BOTH)?;
    let vecs = ranges(&attachment)?;

    let start = memory.pdev.resource_start(BAR)?;
    let mut phyrs = KVVec::new();
    for (offset, len) in RANGES {
        // CAST: the tests run on 64 bits.
        let phyr = Phyr::new(PhysAddr::from_raw(start + offset as u64), len)?;
        phyrs.push(phyr, GFP_KERNEL)?;
    }
    table::check(mapper, vecs.iter().copied(), phyrs.iter().copied())?;
    let gap = LinearError::Gap {
        phyr: 1,
        // CAST: the tests run on 64 bits.
        offset: 2 * PAGE_SIZE as u64,
    };
    if mapper.granule().is_some() {
        check_eq!(attachment.linear()?.len(), buf.dma_buf().size());
    } else {
        check_eq!(attachment.linear(), Err(gap));
    }

    let bar = memory.bar()?;
    let engine = Engine::new(pdev)?;
    peer::fill(&bar, 0, LEN, |_| 0)?;
    // From the first range to the last, and to the end of the second.
    let (from, to, seed) = (PAGE_SIZE, [5 * PAGE_SIZE, 4 * PAGE_SIZE], 3);
    peer::fill(&bar, place(from)?, BUFFER, |n| pattern(seed + n))?;
    let (vec, at) = find(&vecs, from)?;
    engine.read(vec, at, BUFFER)?;
    for to in to {
        let (vec, at) = find(&vecs, to)?;
        engine.write(vec, at, BUFFER)?;
        peer::holds(&bar, place(to)?, BUFFER, |n| pattern(seed + n))?;
    }
    // Next to the ranges nothing was written.
    peer::holds(&bar, 2 * PAGE_SIZE, 2 * PAGE_SIZE, |_| 0)?;
    peer::holds(&bar, 5 * PAGE_SIZE, 3 * PAGE_SIZE, |_| 0)?;
    peer::holds(&bar, 11 * PAGE_SIZE, PAGE_SIZE, |_| 0)?;

    buf.revoke()?;
    table::check_gone(mapper, vecs.iter().copied())?;
    check_err!(attachment.map(BOTH), ENODEV);
    Ok(())
}

/// Runs `test` if there is a second device. With `peer=1` there must be one.
fn with_memory(
    test: impl FnOnce(&peer::Memory, &pci::Device<Bound>, &Mapper<'_>) -> Outcome,
) -> Outcome {
    let Some(memory) = peer::memory() else {
        return if crate::wants_peer() {
            Err(Failure::new(fmt!(
                "no ivshmem device is bound to phyr_test"
            )))
        } else {
            Ok(())
        };
    };
    let result = with_dma_api(|pdev, mapper| test(memory, pdev, mapper));
    settle();
    result
}

#[kunit_tests(phyr_device_dma_buf_peer)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_bar_in_one_mapping() -> Outcome {
        with_memory(carry)
    }

    #[test]
    fn who_cannot_be_told_or_does_not_expect_it_is_refused() -> Outcome {
        with_memory(|memory, pdev, _| {
            let buf = export(memory, &RANGES)?;
            let fixed = Attachment::static_importer(pdev.as_ref(), buf.dma_buf().into());
            let told = Arc::new(Told::default(), GFP_KERNEL)?;
            let dynamic = Attachment::dynamic(pdev.as_ref(), buf.dma_buf().into(), false, told);
            check_err!(fixed, EOPNOTSUPP);
            check_err!(dynamic, EOPNOTSUPP);
            // Nor does the CPU get at it.
            check_err!(buf.dma_buf().cpu(BOTH), EINVAL);
            check_eq!(buf.counts(), (0, 0));
            Ok(())
        })
    }

    #[test]
    fn ranges_are_whole_pages_of_the_bar() -> Outcome {
        with_memory(|memory, _, _| {
            // CAST: the tests run on 64 bits.
            let len = memory.pdev.resource_len(BAR)? as usize;
            let refused: [&[(usize, usize)]; 7] = [
                &[],
                &[(0, 0)],
                &[(0, 1)],
                &[(1, PAGE_SIZE)],
                &[(0, len + PAGE_SIZE)],
                &[(len, PAGE_SIZE)],
                &[(0, PAGE_SIZE), (usize::MAX, PAGE_SIZE)],
            ];
            for ranges in refused {
                check_eq!(export(memory, ranges).err(), Some(EINVAL), "{ranges:?}");
            }
            drop(export(memory, &[(0, len)])?);
            // SAFETY: there is no such BAR.
            let none = unsafe { memory.peer.export(6, &RANGES, Bars, AccessMode::ReadWrite) };
            check_err!(none, EINVAL);
            Ok(())
        })
    }

    /// The exporter is unbound while its buffer is mapped, and the buffer outlives it.
    #[test]
    fn revoked_as_the_exporter_goes() -> Outcome {
        with_memory(|memory, pdev, mapper| {
            let buf = export(memory, &RANGES)?;
            // One that is gone before.
            drop(export(memory, &RANGES)?);
            settle();
            let (attachment, told) = attach(pdev, &buf)?;
            attachment.map(BOTH)?;
            let vecs = ranges(&attachment)?;
            peer::unbound(|| {
                check_eq!(told.0.load(Relaxed), 1);
                check!(buf.is_revoked());
                check!(attachment.dma_vecs(|_| ()).is_err());
                table::check_gone(mapper, vecs.iter().copied())?;
                check_err!(attachment.map(BOTH), ENODEV);
                check!(attach(pdev, &buf).is_err());
                drop(attachment);
                drop(buf);
                settle();
                Ok(())
            })
        })?;
        // And again, now that it is bound again.
        with_memory(carry)
    }
}
