// SPDX-License-Identifier: GPL-2.0

//! Fault injection: on every path each fallible call of the kernel fails once.
//!
//! Only in a build with `PHYR_FAIL_POINTS=1`. A path is run until it passes without a failure: its
//! first fallible call fails in the first run, its second one in the second run, and so on. Each
//! time the caller must get the error of that call, the IOMMU's page table must be empty, and the
//! next run must succeed. The debug kernel looks for leaks elsewhere.
//!
//! Where the kernel can fail allocations (`failslab`, in the debug kernel, with `ignore-gfp-wait`
//! off), the same is done with each allocation: the path returns `ENOMEM`, or succeeds without.

use crate::{
    buffers::{
        fixed,
        settle,
        Fixture,
        Told,
        BOTH, //
    },
    check::{
        Failure,
        Outcome, //
    },
    fixture::{
        buffer,
        contiguous,
        piece,
        with_dma_api, //
    },
    peer,
    table,
    test_dma_buf_peer::{
        export,
        RANGES, //
    },
    test_fault_injection::{
        sweep::{
            sweep,
            Exceptions,
            Spare,
            Then,
            Tried, //
        },
        watch::{
            Counted,
            Place, //
        }, //
    },
    test_memory::{
        sources::CTable,
        user::Program, //
    }, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    page::PAGE_SIZE,
    pci,
    prelude::*,
    scatterlist::SGTable,
    sync::Arc, //
};
use phyr::{
    batch::Capacity,
    fail::{
        self,
        Point, //
    },
    memory::{
        Bytes,
        Chunks,
        Memory,
        PageMemory,
        Pages,
        UserPages, //
    },
    source::{
        Segments,
        SgPages, //
    },
    DataDirection,
    DmaTable,
    Limits,
    Mapper,
    MemoryKind,
    Pinned, //
};
use phyr_dma_buf::Attachment;
use phyr_driver::completion::{
    Completion,
    Wait, //
};
use phyr_iommu::{
    Access,
    Domain, //
};

mod sweep;
mod watch;

/// Allocates pieces of pages that can be packed.
fn parts() -> Result<KVVec<Counted<Pages>>> {
    let mut all = KVVec::new();
    for (offset, len) in [
        (0, PAGE_SIZE),
        (512, 100),
        (0, PAGE_SIZE),
        (0, PAGE_SIZE),
        (100, 50),
        (0, PAGE_SIZE),
    ] {
        all.push(Counted::new(piece(offset, len)?), GFP_KERNEL)?;
    }
    Ok(all)
}

/// Allocates `nr` scattered pages.
fn pages(nr: usize) -> Result<Counted<Pages>> {
    buffer(nr).map(Counted::new)
}

/// Allocates a vector of scattered pages.
fn vector() -> Result<Counted<Bytes<VVec<u8>>>> {
    let bytes = VVec::from_elem(0, 5 * PAGE_SIZE, GFP_KERNEL)?;
    Ok(Counted::new(Bytes::new(bytes)?))
}

/// Allocates four contiguous pages.
fn chunk() -> Result<Counted<Chunks>> {
    contiguous(2).map(Counted::new)
}

fn scatter(mapper: &Mapper<'_>, memory: Result<impl Memory<Direction = DataDirection>>) -> Result {
    drop(mapper.map(memory?, BOTH, GFP_KERNEL)?.unmap());
    Ok(())
}

fn linear(mapper: &Mapper<'_>, memory: Result<impl Memory<Direction = DataDirection>>) -> Result {
    drop(mapper.linear(memory?, BOTH)?);
    Ok(())
}

fn linear_copy(
    mapper: &Mapper<'_>,
    memory: Result<impl Memory<Direction = DataDirection>>,
) -> Result {
    drop(mapper.linear_copy(memory?, BOTH)?);
    Ok(())
}

/// Maps memory, and describes the mapping by a table.
fn described(mapper: &Mapper<'_>) -> Result {
    let mapping = mapper.map(parts()?, BOTH, GFP_KERNEL)?;
    drop(DmaTable::new(mapping.dma_vecs())?);
    Ok(())
}

/// Maps the pages of a table that C has made.
fn from_table(mapper: &Mapper<'_>, table: &SGTable) -> Result {
    let pages = Segments::new(SgPages::new(table), *mapper.limits());
    // SAFETY: the pages are those of a `CTable`, which has a reference to their memory; the mapping
    // ends here.
    let pinned = unsafe { Pinned::new(pages, BOTH, MemoryKind::System) }?;
    drop(mapper.map_pinned(&pinned, GFP_KERNEL)?);
    Ok(())
}

/// Maps memory, for the device and by `vmap()`.
fn looked_at(
    mapper: &Mapper<'_>,
    memory: Result<impl PageMemory<Direction = DataDirection>>,
) -> Result {
    let mut mapping = mapper.map(memory?, BOTH, GFP_KERNEL)?;
    drop(mapping.cpu().vmap()?);
    drop(mapping.unmap());
    Ok(())
}

/// Opens a batch, adds to it, and finalises it if `end`, or drops it.
fn batch(mapper: &Mapper<'_>, end: bool) -> Result {
    let pieces = parts()?;
    let capacity = Capacity {
        pieces: pieces.len(),
        segments: pieces.len(),
        bytes: 8 * PAGE_SIZE,
    };
    let mut batch = mapper.batch(capacity, BOTH, GFP_KERNEL)?;
    for piece in pieces {
        batch.add(piece)?;
    }
    if end {
        drop(batch.finalise()?.unmap());
    }
    Ok(())
}

/// Runs all paths of a mapper.
fn paths(mapper: &Mapper<'_>) -> Outcome {
    // Without a range the phyrs are mapped one by one, which takes a range for each.
    let around: Exceptions<'_> = &[
        (Point::dma_iova_try_alloc, Then::Succeeds),
        (Point::alloc_iova_fast, Then::Either(ENOMEM)),
    ];
    let place = Place::new(mapper)?;

    // In strict mode one page has a range, too, and without that it is not mapped.
    let one: Exceptions<'_> = &[
        (Point::dma_iova_try_alloc, Then::Fails(ENOMEM)),
        (Point::alloc_iova_fast, Then::Either(ENOMEM)),
    ];
    sweep("scatter, one page", &place, one, || {
        Ok(scatter(mapper, pages(1)))
    })?;
    sweep("scatter, a vector", &place, around, || {
        Ok(scatter(mapper, vector()))
    })?;
    sweep("a table for C", &place, around, || Ok(described(mapper)))?;
    let memory = contiguous(2)?;
    let table = CTable::new(&memory, 0, 4 * PAGE_SIZE)?;
    sweep("a table of C", &place, one, || {
        Ok(from_table(mapper, table.table()))
    })?;
    drop(table);
    let program = Program::filled(5 * PAGE_SIZE, 7)?;
    // As one page, if they are neighbours.
    let neighbours: Exceptions<'_> = &[
        (Point::dma_iova_try_alloc, Then::Either(ENOMEM)),
        (Point::alloc_iova_fast, Then::Either(ENOMEM)),
    ];
    sweep("scatter, memory of a program", &place, neighbours, || {
        let pages = UserPages::pin(program.at(0), 5 * PAGE_SIZE, BOTH);
        Ok(scatter(mapper, pages.map(Counted::new)))
    })?;
    check_eq!(program.page(0)?.pins, 0);
    sweep("scatter, joined", &place, around, || {
        Ok(scatter(mapper, pages(6)))
    })?;
    sweep("scatter, packed", &place, around, || {
        Ok(scatter(mapper, parts()))
    })?;
    let unpacked = mapper.clone().unpacked();
    sweep("scatter, runs", &place, around, || {
        Ok(scatter(&unpacked, parts()))
    })?;
    sweep("batch", &place, around, || Ok(batch(mapper, true)))?;
    sweep("batch, dropped", &place, around, || {
        Ok(batch(mapper, false))
    })?;

    // One address, or none.
    let bounced: Exceptions<'_> = &[(
        Point::dma_map_phys,
        Then::Fails(phyr::linear::LinearError::Bounced.into()),
    )];
    sweep("linear, contiguous", &place, bounced, || {
        Ok(linear(mapper, chunk()))
    })?;
    if mapper.granule().is_some() {
        sweep("linear, scattered", &place, bounced, || {
            Ok(linear(mapper, pages(5)))
        })?;
    }
    Ok(())
}

/// Attaches a domain, maps in it in every way, and ends it.
fn domain_life(dev: &Device<Bound>) -> Result {
    let (one, many, window) = (pages(1)?, pages(6)?, parts()?);
    let domain = Domain::attach(dev, None)?;
    // Dropped before the domain is.
    let _spare = Spare;
    let one = domain.map(one, Access::READ_WRITE)?;
    let many = domain.map(many, Access::READ)?;
    let mut gather = domain.gather(2)?;
    for mapping in [one, many] {
        gather.unmap(mapping).map_err(|refused| refused.error)?;
    }
    drop(gather.flush());
    let mapper = domain.mapper(Limits::NONE, 1 << 20)?;
    scatter(&mapper, Ok(window))
}

/// Exports a buffer, attaches to it and maps it.
fn buffer_life(pdev: &pci::Device<Bound>, told: bool) -> Tried {
    let fixture = match Fixture::with(7, phyr_dma_buf::AccessMode::ReadWrite, None) {
        Ok(fixture) => fixture,
        Err(e) => return Ok(Err(e)),
    };
    let run = || {
        let dev = pdev.as_ref();
        if told {
            let told = Arc::new(Told::default(), GFP_KERNEL)?;
            let attachment = Attachment::dynamic(dev, fixture.dma_buf(), false, told)?;
            attachment.map(BOTH)?;
            attachment.unmap();
        } else {
            let attachment = fixed(dev, &fixture)?;
            attachment.map(BOTH)?;
        }
        Ok(())
    };
    let result = run();
    // Checks that nothing is left attached or mapped, and that all callbacks balance.
    fixture.end()?;
    Ok(result)
}

/// Exports another device's memory, attaches to it and maps it.
fn peer_life(memory: &peer::Memory, pdev: &pci::Device<Bound>) -> Tried {
    let run = || {
        let buf = export(memory, &RANGES)?;
        let told = Arc::new(Told::default(), GFP_KERNEL)?;
        let dma_buf = buf.dma_buf().into();
        let attachment = Attachment::dynamic(pdev.as_ref(), dma_buf, true, told)?;
        attachment.map(BOTH)?;
        buf.revoke()
    };
    let result = run();
    settle();
    Ok(result)
}

#[kunit_tests(phyr_device_fault_injection)]
mod tests {
    use super::*;

    #[test]
    fn dma_api() -> Outcome {
        with_dma_api(|_, mapper| paths(mapper))
    }

    #[test]
    fn linear_copy() -> Outcome {
        with_dma_api(|_, mapper| {
            let place = Place::new(mapper)?;
            sweep("linear copy", &place, &[], || {
                Ok(super::linear_copy(mapper, pages(3)))
            })
        })
    }

    #[test]
    fn in_domain() -> Outcome {
        with_dma_api(|pdev, _| {
            let dev = pdev.as_ref();
            if table::domain_type(dev).is_none() {
                return Ok(());
            }
            let domain = Domain::attach(dev, None)?;
            let mapper = domain.mapper(Limits::NONE, 1 << 30)?;
            paths(&mapper)
        })
    }

    #[test]
    fn domain() -> Outcome {
        with_dma_api(|pdev, mapper| {
            let dev = pdev.as_ref();
            let before = table::domain_type(dev);
            if before.is_none() {
                return Ok(());
            }
            // A domain that has gone shows no mappings: the device must be back. The debug kernel
            // watches the memory.
            let place = Place::new(mapper)?;
            let around: Exceptions<'_> = &[(Point::alloc_iova_fast, Then::Either(ENOMEM))];
            sweep("domain", &place, around, || {
                let result = domain_life(dev);
                check_eq!(table::domain_type(dev), before);
                Ok(result)
            })
        })
    }

    #[test]
    fn cpu() -> Outcome {
        with_dma_api(|_, mapper| {
            let place = Place::new(mapper)?;
            let one: Exceptions<'_> = &[(Point::dma_iova_try_alloc, Then::Fails(ENOMEM))];
            sweep("vmap", &place, one, || Ok(looked_at(mapper, chunk())))?;
            // The core warns if an exporter's vmap fails: only the points before it fail, by name.
            let fixture = Fixture::new(7)?;
            for point in [
                Point::dma_buf_begin_cpu_access,
                Point::dma_resv_wait_timeout,
                Point::dma_buf_vmap_unlocked,
            ] {
                fail::arm(Some(point), 1);
                let result = fixture.buf.dma_buf().cpu(BOTH).map(drop);
                check_eq!(fail::disarm(), Some(point));
                check_eq!(result, Err(point.error()), "{}", point.name());
                drop(fixture.buf.dma_buf().cpu(BOTH)?);
            }
            fixture.end()
        })
    }

    /// A wait that fails leaves the completion to the next one.
    #[test]
    fn waits() -> Outcome {
        let done = KBox::pin_init(Completion::new(), GFP_KERNEL)?;
        for (point, wait) in [
            (
                Point::wait_for_completion_interruptible,
                Wait::Interruptible,
            ),
            (Point::wait_for_completion_killable, Wait::Killable),
        ] {
            done.complete();
            fail::arm(Some(point), 1);
            let result = done.wait(wait);
            check_eq!(fail::disarm(), Some(point));
            check_eq!(result, Err(EINTR), "{}", point.name());
            check_eq!(done.wait(wait), Ok(()));
            check_eq!(done.wait_timeout(0), Err(ETIMEDOUT));
        }
        Ok(())
    }

    #[test]
    fn dma_buf() -> Outcome {
        with_dma_api(|pdev, mapper| {
            let place = Place::new(mapper)?;
            // Segments that cannot be one range are mapped one by one.
            let around: Exceptions<'_> = &[
                (Point::dma_iova_try_alloc, Then::Succeeds),
                (Point::dma_iova_link, Then::Succeeds),
                (Point::dma_iova_sync, Then::Succeeds),
            ];
            sweep("dma-buf", &place, around, || buffer_life(pdev, false))?;
            sweep("dma-buf, dynamic", &place, around, || {
                buffer_life(pdev, true)
            })?;
            match peer::memory() {
                Some(memory) => sweep("dma-buf, of a device", &place, around, || {
                    peer_life(memory, pdev)
                }),
                None if crate::wants_peer() => Err(Failure::new(fmt!("no second device"))),
                None => Ok(()),
            }
        })
    }
}
