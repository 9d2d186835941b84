// SPDX-License-Identifier: GPL-2.0

//! Attaching a device to a domain and detaching it, while other threads map, attach and report.

use crate::{
    buffers::{
        dynamic,
        fixed,
        Fixture,
        BOTH, //
    },
    check::{
        check_bytes,
        Failure,
        Outcome, //
    },
    edu::{
        Engine,
        BUFFER, //
    },
    fixture::{
        self,
        buffer,
        bytes,
        piece,
        with_dma_api, //
    },
    table, //
};
use core::{
    ptr,
    sync::atomic::{
        AtomicBool,
        AtomicU32,
        Ordering::Relaxed, //
    }, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::{
        Arc,
        Completion, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue, //
};
use phyr::{
    batch::Capacity,
    linear::LinearError,
    memory::{
        Chunks,
        Memory, //
    },
    raw,
    DmaAddr,
    DmaVec,
    Limits,
    Mapper, //
};
use phyr_iommu::{
    Access,
    AttachError,
    Domain,
    DomainError,
    Fault,
    FaultHandler,
    ReservedRegion, //
};

/// Runs `test` if the device has an IOMMU; checks that the device is back in its first domain.
fn with_iommu(test: impl FnOnce(&Device<Bound>, &Mapper<'_>) -> Outcome) -> Outcome {
    with_dma_api(|pdev, mapper| {
        let dev = pdev.as_ref();
        let before = table::domain_type(dev);
        if before.is_none() {
            return Ok(());
        }
        test(dev, mapper)?;
        check_eq!(table::domain_type(dev), before);
        Ok(())
    })
}

/// Returns the device, for a thread that a test waits for.
fn device() -> Result<&'static Device<Bound>, Failure> {
    let pdev: &pci::Device<Bound> = fixture::binding()?.pdev;
    Ok(pdev.as_ref())
}

/// Work that another thread repeats until it is stopped.
#[pin_data]
struct Beside {
    stop: AtomicBool,
    failed: AtomicBool,
    rounds: AtomicU32,
    #[pin]
    done: Completion,
}

impl Beside {
    /// Calls `run` with the device again and again, in another thread, until [`Beside::end`].
    fn start(run: fn(&Device<Bound>) -> Outcome) -> Result<Arc<Self>> {
        let this = pin_init!(Self {
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            rounds: AtomicU32::new(0),
            done <- Completion::new(),
        });
        let this = Arc::pin_init(this, GFP_KERNEL)?;
        let beside = this.clone();
        let work = move || {
            while !beside.stop.load(Relaxed) {
                match device().and_then(run) {
                    Ok(()) => {
                        beside.rounds.fetch_add(1, Relaxed);
                    }
                    // The reason is in the log.
                    Err(_) => {
                        beside.failed.store(true, Relaxed);
                        break;
                    }
                }
            }
            beside.done.complete_all();
        };
        workqueue::system_unbound().try_spawn(GFP_KERNEL, work)?;
        // Not only when all is over here.
        while this.rounds.load(Relaxed) == 0 && !this.failed.load(Relaxed) {
            fsleep(Delta::from_millis(1));
        }
        Ok(this)
    }

    /// Stops the work, and waits for that.
    fn end(&self) -> Outcome {
        self.stop.store(true, Relaxed);
        self.done.wait_for_completion();
        check!(!self.failed.load(Relaxed), "the other thread failed");
        Ok(())
    }
}

/// Rounds of two threads at once. With KASAN a tenth of them has found every known fault.
const ROUNDS: u32 = 1000;

/// Attaches the device to a domain, and takes it out again. Returns whether it was free.
fn in_and_out(dev: &Device<Bound>) -> Result<bool, Failure> {
    match Domain::attach(dev, None) {
        Ok(_) => Ok(true),
        Err(AttachError::InUse) => Ok(false),
        Err(e) => Err(Failure::from(e)),
    }
}

/// Checks that mappers of the DMA API refuse while the device is in `domain`.
fn refused(domain: &Domain<'_>, mapper: &Mapper<'_>) -> Outcome {
    let dev = domain.device();
    let busy = Some(LinearError::Failed(EBUSY));
    check_err!(Mapper::new(dev, Limits::NONE), EBUSY);
    for pages in [1, 9] {
        check_err!(mapper.map(buffer(pages)?, BOTH, GFP_KERNEL), EBUSY);
        let chunks = Chunks::zeroed(pages * PAGE_SIZE, 0, GFP_KERNEL)?;
        let linear = mapper.linear(chunks, BOTH).err();
        check_eq!(linear.map(|e| e.error), busy);
    }
    let copy = mapper.linear_copy(buffer(2)?, BOTH).err();
    check_eq!(copy.map(|e| e.error), busy);
    check_err!(mapper.batch::<Chunks>(ONE_PIECE, BOTH, GFP_KERNEL), EBUSY);
    // In the domain all goes.
    let inside = domain.mapper(Limits::NONE, 16 * PAGE_SIZE)?;
    inside.map(buffer(9)?, BOTH, GFP_KERNEL)?;
    Ok(())
}

const ONE_PIECE: Capacity = Capacity {
    pieces: 1,
    segments: 4,
    bytes: 4 * PAGE_SIZE,
};

/// Checks [`refused()`], and that mapping works before and afterwards.
fn meanwhile(dev: &Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let map = || {
        mapper
            .map(buffer(3)?, BOTH, GFP_KERNEL)
            .map_err(Error::from)
    };
    let one_page = || piece(0, PAGE_SIZE);
    let before = map()?;
    let mut batch = mapper.batch(ONE_PIECE, BOTH, GFP_KERNEL)?;

    let domain = Domain::attach(dev, None)?;
    refused(&domain, mapper)?;
    check_err!(batch.add(one_page()?), EBUSY);
    // What was mapped before may end at any time.
    drop(before);
    drop(domain);

    batch.add(one_page()?)?;
    drop(batch.finalise()?);
    Mapper::new(dev, Limits::NONE)?;
    map()?;
    Ok(())
}

/// Checks that a device is in a domain, or has dma-bufs mapped, but not both.
fn dma_bufs(dev: &Device<Bound>) -> Outcome {
    let fixture = Fixture::new(7)?;
    let run = || {
        let attachment = fixed(dev, &fixture)?;
        let (other, _) = dynamic(dev, &fixture)?;
        let domain = Domain::attach(dev, None)?;
        for result in [attachment.map(BOTH), other.map(BOTH)] {
            check_err!(result, EBUSY);
        }
        drop(domain);
        attachment.map(BOTH)?;
        other.map(BOTH)?;
        for mapped in [2, 1] {
            let domain = Domain::attach(dev, None);
            check_eq!(domain.err(), Some(AttachError::DmaBufs(mapped)));
            // One ends, and is not counted any more, also if it ends twice.
            attachment.unmap();
            attachment.unmap();
        }
        drop(other);
        Domain::attach(dev, None)?;
        Ok(())
    };
    let result = run();
    fixture.end()?;
    result
}

const READ_WRITE: i32 = (bindings::IOMMU_READ | bindings::IOMMU_WRITE) as i32;

/// Returns a region such as firmware reserves; these machines have none.
fn region(start: u64, len: usize, kind: bindings::iommu_resv_type) -> ReservedRegion {
    ReservedRegion {
        start,
        // CAST: a `usize` is at most 64 bits wide.
        len: len as u64,
        prot: READ_WRITE,
        kind,
    }
}

/// Checks that regions of the firmware are mapped one to one, and nothing else is mapped there.
fn direct(dev: &Device<Bound>, engine: &Engine<'_>) -> Outcome {
    const DIRECT: bindings::iommu_resv_type = bindings::iommu_resv_type_IOMMU_RESV_DIRECT;
    const RELAXABLE: bindings::iommu_resv_type =
        bindings::iommu_resv_type_IOMMU_RESV_DIRECT_RELAXABLE;

    // CAST: a page.
    let page = PAGE_SIZE as u64;
    let mut memory = Chunks::zeroed(4 * PAGE_SIZE, 2, GFP_KERNEL)?;
    memory.write(0, &bytes(BUFFER, 61)?)?;
    let phyr = check_some!(memory.phyrs().next())?;
    check_eq!(phyr.len(), 4 * PAGE_SIZE);
    let start = phyr.paddr().into_raw();
    let regions = [
        region(start + page, 2 * PAGE_SIZE, DIRECT),
        // The page before, once more, and the page after it.
        region(start, 4 * PAGE_SIZE, RELAXABLE),
    ];
    // SAFETY: the memory is there for longer than the domain.
    let domain = unsafe { Domain::attach_with(dev, &regions) }?;
    for nr in 0..4 {
        check_eq!(
            table::lookup(dev, start + nr * page),
            Some(start + nr * page)
        );
        let iova = DmaAddr::from_raw(start + nr * page);
        let there = Chunks::zeroed(PAGE_SIZE, 0, GFP_KERNEL)?;
        let mapping = domain.map_at(there, iova, Access::READ).err();
        check_eq!(mapping.map(|e| e.error), Some(DomainError::Reserved));
    }
    let vec = |at| DmaVec::new(DmaAddr::from_raw(start + at), PAGE_SIZE);
    engine
        .read(vec(0), 0, BUFFER)
        .and_then(|()| engine.write(vec(3 * page), 0, BUFFER))?;
    drop(domain);
    let mut seen = bytes(BUFFER, 62)?;
    memory.read(3 * PAGE_SIZE, &mut seen)?;
    check_bytes(&seen, &bytes(BUFFER, 61)?)?;
    // Half a granule cannot be had without the rest of it.
    for (first, len) in [(start + 16, PAGE_SIZE), (start, PAGE_SIZE + 16)] {
        // SAFETY: the memory is there for longer than the domain.
        let domain = unsafe { Domain::attach_with(dev, &[region(first, len, DIRECT)]) };
        let why = AttachError::Direct {
            first,
            // CAST: a page and a bit.
            last: first + len as u64 - 1,
            error: EDOM,
        };
        check_eq!(domain.err(), Some(why));
    }
    Ok(())
}

/// A handler that counts.
struct Count(Arc<Told>);

#[derive(Default)]
struct Told {
    faults: AtomicU32,
    dropped: AtomicBool,
}

impl FaultHandler for Count {
    fn fault(&self, _dev: &Device, _fault: Fault) {
        self.0.faults.fetch_add(1, Relaxed);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.dropped.store(true, Relaxed);
    }
}

/// Returns the domain of `dev` without a lock, as the thread of AMD's interrupt does: valid until
/// the caller sleeps.
fn domain_of(dev: &Device<Bound>) -> *mut bindings::iommu_domain {
    // SAFETY: the device is bound.
    unsafe { bindings::iommu_get_domain_for_dev(raw::device(dev)) }
}

/// Reports a fault of `domain`, as a driver of an IOMMU does.
///
/// # Safety
///
/// It was [`domain_of`] a device since this thread slept last.
unsafe fn report(domain: *mut bindings::iommu_domain) {
    // SAFETY: the library keeps it until this thread sleeps.
    unsafe { bindings::report_iommu_fault(domain, ptr::null_mut(), 0x1000, 0) };
}

/// Checks that a fault that is reported after the domain has gone calls no handler.
fn late_report(dev: &Device<Bound>) -> Outcome {
    for _ in 0..20 {
        let told = Arc::new(Told::default(), GFP_KERNEL)?;
        let count = Arc::new(Count(told.clone()), GFP_KERNEL)?;
        let domain = Domain::attach(dev, Some(count))?;
        let seen = domain_of(dev);
        // SAFETY: just seen.
        unsafe { report(seen) };
        check_eq!(told.faults.load(Relaxed), 1);
        drop(domain);
        // Dropping it slept, but not since nobody has the domain any more.
        // SAFETY: the device was in it until then.
        unsafe { report(seen) };
        check_eq!(told.faults.load(Relaxed), 1);
        check!(told.dropped.load(Relaxed));
    }
    Ok(())
}

/// Reports faults in another thread while domains come and go.
fn reports(dev: &Device<Bound>) -> Outcome {
    let beside = Beside::start(|dev| {
        for _ in 0..50 {
            // SAFETY: just seen.
            unsafe { report(domain_of(dev)) };
        }
        fsleep(Delta::from_micros(20));
        Ok(())
    })?;
    let run = || {
        let mut all = 0;
        for _ in 0..ROUNDS {
            let told = Arc::new(Told::default(), GFP_KERNEL)?;
            let count = Arc::new(Count(told.clone()), GFP_KERNEL)?;
            drop(Domain::attach(dev, Some(count))?);
            check!(told.dropped.load(Relaxed));
            all += told.faults.load(Relaxed);
            if all > 100 {
                break;
            }
        }
        Ok(())
    };
    let result = run();
    beside.end()?;
    result
}

#[kunit_tests(phyr_device_iommu_attach)]
mod tests {
    use super::*;

    /// Each thread gets a domain, one at a time, and no memory that the other has freed is used.
    #[test]
    fn two_threads_attach() -> Outcome {
        with_iommu(|dev, _| {
            let beside = Beside::start(|dev| in_and_out(dev).map(|_| ()))?;
            let (mut free, mut result) = (0, Ok(()));
            for _ in 0..ROUNDS {
                match in_and_out(dev) {
                    Ok(true) => free += 1,
                    Ok(false) => {}
                    Err(e) => result = Err(e),
                }
            }
            beside.end()?;
            check_cmp!(free, !=, 0);
            result
        })
    }

    /// A mapping is made and ends, or is refused.
    #[test]
    fn one_attaches_while_another_maps() -> Outcome {
        with_iommu(|_, mapper| {
            let beside = Beside::start(|dev| in_and_out(dev).map(|_| ()))?;
            let run = || {
                let (mut mapped, mut busy) = (0, 0);
                for round in 0..40 * ROUNDS {
                    // The other thread may have had no processor until now.
                    if round >= 20 * ROUNDS {
                        fsleep(Delta::from_millis(1));
                    }
                    match mapper.map(piece(0, PAGE_SIZE)?, BOTH, GFP_KERNEL) {
                        Ok(_) => mapped += 1,
                        Err(refused) if refused.error == EBUSY => busy += 1,
                        Err(refused) => return Err(Failure::from(refused)),
                    }
                    let enough = if round < 20 * ROUNDS { 100 } else { 0 };
                    if mapped > enough && busy > enough {
                        break;
                    }
                }
                check_cmp!(mapped, !=, 0);
                check_cmp!(busy, !=, 0);
                Ok(())
            };
            let result = run();
            beside.end()?;
            result
        })
    }

    #[test]
    fn the_dma_api_maps_nothing_meanwhile() -> Outcome {
        with_iommu(meanwhile)
    }

    #[test]
    fn a_dma_buf_is_mapped_or_the_device_in_a_domain() -> Outcome {
        with_iommu(|dev, _| dma_bufs(dev))
    }

    #[test]
    fn what_the_platform_wants_is_in_reach() -> Outcome {
        with_iommu(|dev, _| {
            let engine = Engine::new(fixture::binding()?.pdev)?;
            direct(dev, &engine)
        })
    }

    #[test]
    fn nobody_is_told_after_the_end() -> Outcome {
        with_iommu(|dev, _| late_report(dev))
    }

    #[test]
    fn reports_go_on_while_domains_end() -> Outcome {
        with_iommu(|dev, _| reports(dev))
    }
}
