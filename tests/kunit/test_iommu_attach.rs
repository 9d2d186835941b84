// SPDX-License-Identifier: GPL-2.0

//! A device on its way into a domain and out of it: what else goes on meanwhile.

use crate::{
    buffers::{
        dynamic,
        fixed,
        Fixture,
        BOTH, //
    },
    edu::{
        Engine,
        BUFFER, //
    },
    fixture::{
        self,
        buffer,
        bytes,
        no_memory,
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
    linear::NotLinear,
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
    translation,
    Access,
    Domain,
    Fault,
    FaultHandler,
    NotAttached,
    Reason,
    Region,
    Translation, //
};

type Outcome = Result<(), &'static str>;

/// Runs `test` if the device has an IOMMU; it is to be where it was in the end.
fn with_iommu(test: impl FnOnce(&Device<Bound>, &Mapper<'_>) -> Outcome) -> Outcome {
    with_dma_api(|pdev, mapper| {
        let dev = pdev.as_ref();
        let before = translation(dev);
        if before == Translation::None {
            return Ok(());
        }
        test(dev, mapper)?;
        if translation(dev) != before {
            return Err("the device is not back");
        }
        Ok(())
    })
}

/// The device, for a thread that a test waits for.
fn device() -> Result<&'static Device<Bound>, &'static str> {
    let pdev: &pci::Device<Bound> = fixture::binding()?.pdev;
    Ok(pdev.as_ref())
}

/// What another thread does until it is told to stop.
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
    fn start(run: fn(&Device<Bound>) -> Outcome) -> Result<Arc<Self>, &'static str> {
        let this = pin_init!(Self {
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            rounds: AtomicU32::new(0),
            done <- Completion::new(),
        });
        let this = Arc::pin_init(this, GFP_KERNEL).map_err(no_memory)?;
        let beside = this.clone();
        let work = move || {
            while !beside.stop.load(Relaxed) {
                match device().and_then(run) {
                    Ok(()) => {
                        beside.rounds.fetch_add(1, Relaxed);
                    }
                    Err(e) => {
                        pr_err!("beside: {e}\n");
                        beside.failed.store(true, Relaxed);
                        break;
                    }
                }
            }
            beside.done.complete_all();
        };
        workqueue::system_unbound()
            .try_spawn(GFP_KERNEL, work)
            .map_err(no_memory)?;
        // Not only when all is over here.
        while this.rounds.load(Relaxed) == 0 && !this.failed.load(Relaxed) {
            fsleep(Delta::from_millis(1));
        }
        Ok(this)
    }

    /// Has it stop, and waits for that.
    fn end(&self) -> Outcome {
        self.stop.store(true, Relaxed);
        self.done.wait_for_completion();
        if self.failed.load(Relaxed) {
            return Err("the other thread failed");
        }
        Ok(())
    }
}

/// How often what two threads do at once is done: on a kernel with KASAN a tenth of it has found
/// what there was to be found.
const ROUNDS: u32 = 1000;

/// Attaches the device to a domain, and takes it out again. Returns whether it was free.
fn in_and_out(dev: &Device<Bound>) -> Result<bool, &'static str> {
    match Domain::attach(dev, None) {
        Ok(_) => Ok(true),
        Err(NotAttached::InUse) => Ok(false),
        Err(e) => {
            pr_err!("{e}\n");
            Err("not attached, for another reason")
        }
    }
}

/// What the DMA API's mappers say while the device is in `domain`.
fn refused(domain: &Domain<'_>, mapper: &Mapper<'_>) -> Outcome {
    let dev = domain.device();
    match Mapper::new(dev, Limits::NONE) {
        Err(e) if e == EBUSY => {}
        _ => return Err("another mapper"),
    }
    for pages in [1, 9] {
        match mapper.map(buffer(pages).map_err(no_memory)?, BOTH, GFP_KERNEL) {
            Err(refused) if refused.reason == EBUSY => {}
            _ => return Err("scatter"),
        }
        match mapper.linear(
            Chunks::zeroed(pages * PAGE_SIZE, 0, GFP_KERNEL).map_err(no_memory)?,
            BOTH,
        ) {
            Err(refused) if refused.reason == NotLinear::Failed(EBUSY) => {}
            _ => return Err("linear"),
        }
    }
    match mapper.linear_copy(buffer(2).map_err(no_memory)?, BOTH) {
        Err(refused) if refused.reason == NotLinear::Failed(EBUSY) => {}
        _ => return Err("a copy"),
    }
    match mapper.batch::<Chunks>(ONE_PIECE, BOTH, GFP_KERNEL) {
        Err(e) if e == EBUSY => {}
        _ => return Err("a batch"),
    }
    // In the domain all goes.
    let inside = domain
        .mapper(Limits::NONE, 16 * PAGE_SIZE)
        .map_err(|_| "no room")?;
    let mapping = inside.map(buffer(9).map_err(no_memory)?, BOTH, GFP_KERNEL);
    mapping.map(drop).map_err(|_| "in the domain")
}

const ONE_PIECE: Capacity = Capacity {
    pieces: 1,
    segments: 4,
    bytes: 4 * PAGE_SIZE,
};

/// [`refused`], and that all goes before and afterwards.
fn meanwhile(dev: &Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let map = || {
        let buffer = buffer(3).map_err(no_memory)?;
        mapper
            .map(buffer, BOTH, GFP_KERNEL)
            .map_err(|_| "not mapped by the DMA API")
    };
    let one_page = || piece(0, PAGE_SIZE).map_err(no_memory);
    let before = map()?;
    let mut batch = mapper
        .batch(ONE_PIECE, BOTH, GFP_KERNEL)
        .map_err(no_memory)?;

    let domain = Domain::attach(dev, None).map_err(|_| "not attached")?;
    refused(&domain, mapper)?;
    match batch.add(one_page()?) {
        Err(refused) if refused.reason == EBUSY => {}
        _ => return Err("a batch from before"),
    }
    // What was mapped before may end at any time.
    drop(before);
    drop(domain);

    batch.add(one_page()?).map_err(|_| "not in the batch")?;
    drop(batch.finalise().map_err(|_| "no batch")?);
    Mapper::new(dev, Limits::NONE).map_err(|_| "no mapper afterwards")?;
    map().map(drop)
}

/// An attachment is mapped, or its device in a domain of its own.
fn dma_bufs(dev: &Device<Bound>) -> Outcome {
    let fixture = Fixture::new(7)?;
    let run = || {
        let attachment = fixed(dev, &fixture).map_err(|_| "not attached")?;
        let (other, _) = dynamic(dev, &fixture)?;
        let domain = Domain::attach(dev, None).map_err(|_| "no domain")?;
        for result in [attachment.map(BOTH), other.map(BOTH)] {
            if result != Err(EBUSY) {
                return Err("mapped, or another error");
            }
        }
        drop(domain);
        attachment.map(BOTH).map_err(|_| "not mapped")?;
        other.map(BOTH).map_err(|_| "not mapped")?;
        for mapped in [2, 1] {
            match Domain::attach(dev, None) {
                Err(NotAttached::DmaBufs(count)) if count == mapped => {}
                _ => return Err("a domain, or another reason"),
            }
            // One ends, and is not counted any more, also if it ends twice.
            attachment.unmap();
            attachment.unmap();
        }
        drop(other);
        Domain::attach(dev, None).map(drop).map_err(|_| "no domain")
    };
    let result = run();
    fixture.end()?;
    result
}

const READ_WRITE: i32 = (bindings::IOMMU_READ | bindings::IOMMU_WRITE) as i32;

/// A region of the platform, of which there is none in these machines.
fn region(start: u64, len: usize, kind: bindings::iommu_resv_type) -> Region {
    Region {
        start,
        // CAST: a `usize` is at most 64 bits wide.
        len: len as u64,
        prot: READ_WRITE,
        kind,
    }
}

/// What the platform wants to be in reach is, one to one, and nothing else goes there.
fn direct(dev: &Device<Bound>, engine: &Engine<'_>) -> Outcome {
    const DIRECT: bindings::iommu_resv_type = bindings::iommu_resv_type_IOMMU_RESV_DIRECT;
    const RELAXABLE: bindings::iommu_resv_type =
        bindings::iommu_resv_type_IOMMU_RESV_DIRECT_RELAXABLE;

    // CAST: a page.
    let page = PAGE_SIZE as u64;
    let mut memory = Chunks::zeroed(4 * PAGE_SIZE, 2, GFP_KERNEL).map_err(no_memory)?;
    memory
        .write(0, &bytes(BUFFER, 61)?)
        .map_err(|_| "not written")?;
    let start = match memory.phyrs().next() {
        Some(Ok(phyr)) if phyr.len() == 4 * PAGE_SIZE => phyr.paddr().into_raw(),
        _ => return Err("not one piece"),
    };
    let regions = [
        region(start + page, 2 * PAGE_SIZE, DIRECT),
        // The page before, once more, and the page behind.
        region(start, 4 * PAGE_SIZE, RELAXABLE),
    ];
    // SAFETY: the memory is there for longer than the domain.
    let domain = unsafe { Domain::attach_with(dev, &regions) };
    let domain = domain.map_err(|_| "not attached")?;
    for nr in 0..4 {
        if table::lookup(dev, start + nr * page) != Some(start + nr * page) {
            return Err("not one to one");
        }
        let iova = DmaAddr::from_raw(start + nr * page);
        let there = Chunks::zeroed(PAGE_SIZE, 0, GFP_KERNEL).map_err(no_memory)?;
        match domain.map_at(there, iova, Access::READ) {
            Err(refused) if refused.reason == Reason::Reserved => {}
            _ => return Err("mapped there, or another reason"),
        }
    }
    let vec = |at| DmaVec::new(DmaAddr::from_raw(start + at), PAGE_SIZE);
    engine
        .read(vec(0), 0, BUFFER)
        .and_then(|()| engine.write(vec(3 * page), 0, BUFFER))
        .map_err(|_| "no transfer")?;
    drop(domain);
    let mut seen = bytes(BUFFER, 62)?;
    memory
        .read(3 * PAGE_SIZE, &mut seen)
        .map_err(|_| "not read")?;
    if seen[..] != bytes(BUFFER, 61)?[..] {
        return Err("other bytes");
    }
    // Half a granule cannot be had without the rest of it.
    for (first, len) in [(start + 16, PAGE_SIZE), (start, PAGE_SIZE + 16)] {
        // SAFETY: the memory is there for longer than the domain.
        match unsafe { Domain::attach_with(dev, &[region(first, len, DIRECT)]) } {
            // CAST: a page and a bit.
            Err(NotAttached::Direct {
                first: f,
                last,
                error,
            }) if (f, last, error) == (first, first + len as u64 - 1, EDOM) => {}
            _ => return Err("half a granule: attached, or another reason"),
        }
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

/// The domain of `dev`, as the thread of AMD's interrupt sees it: without a lock, for as long as it
/// does not sleep.
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

/// A report that comes when the domain has gone already finds nobody to be told.
fn late_report(dev: &Device<Bound>) -> Outcome {
    for _ in 0..20 {
        let told = Arc::new(Told::default(), GFP_KERNEL).map_err(no_memory)?;
        let count = Arc::new(Count(told.clone()), GFP_KERNEL).map_err(no_memory)?;
        let domain = Domain::attach(dev, Some(count)).map_err(|_| "not attached")?;
        let seen = domain_of(dev);
        // SAFETY: just seen.
        unsafe { report(seen) };
        if told.faults.load(Relaxed) != 1 {
            return Err("not told");
        }
        drop(domain);
        // Dropping it slept, but not since nobody has the domain any more.
        // SAFETY: the device was in it until then.
        unsafe { report(seen) };
        if told.faults.load(Relaxed) != 1 {
            return Err("told after the end");
        }
        if !told.dropped.load(Relaxed) {
            return Err("the handler is kept");
        }
    }
    Ok(())
}

/// Reports of another thread while domains come and go.
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
            let told = Arc::new(Told::default(), GFP_KERNEL).map_err(no_memory)?;
            let count = Arc::new(Count(told.clone()), GFP_KERNEL).map_err(no_memory)?;
            drop(Domain::attach(dev, Some(count)).map_err(|_| "not attached")?);
            if !told.dropped.load(Relaxed) {
                return Err("the handler is kept");
            }
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

    /// Each of them gets a domain, one at a time, and none sees what the other has freed.
    #[test]
    fn two_threads_attach() {
        let result = with_iommu(|dev, _| {
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
            if free == 0 {
                return Err("never free");
            }
            result
        });
        assert_eq!(result, Ok(()));
    }

    /// A mapping is made and ends, or is refused.
    #[test]
    fn one_attaches_while_another_maps() {
        let result = with_iommu(|_, mapper| {
            let beside = Beside::start(|dev| in_and_out(dev).map(|_| ()))?;
            let run = || {
                let (mut mapped, mut busy) = (0, 0);
                for _ in 0..20 * ROUNDS {
                    match mapper.map(piece(0, PAGE_SIZE).map_err(no_memory)?, BOTH, GFP_KERNEL) {
                        Ok(_) => mapped += 1,
                        Err(refused) if refused.reason == EBUSY => busy += 1,
                        Err(_) => return Err("another error"),
                    }
                    if mapped > 100 && busy > 100 {
                        break;
                    }
                }
                if mapped == 0 || busy == 0 {
                    return Err("always mapped, or never");
                }
                Ok(())
            };
            let result = run();
            beside.end()?;
            result
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn the_dma_api_maps_nothing_meanwhile() {
        assert_eq!(with_iommu(meanwhile), Ok(()));
    }

    #[test]
    fn a_dma_buf_is_mapped_or_the_device_in_a_domain() {
        assert_eq!(with_iommu(|dev, _| dma_bufs(dev)), Ok(()));
    }

    #[test]
    fn what_the_platform_wants_is_in_reach() {
        let result = with_iommu(|dev, _| {
            let engine = Engine::new(fixture::binding()?.pdev).map_err(|_| "no engine")?;
            direct(dev, &engine)
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn nobody_is_told_after_the_end() {
        assert_eq!(with_iommu(|dev, _| late_report(dev)), Ok(()));
    }

    #[test]
    fn reports_go_on_while_domains_end() {
        assert_eq!(with_iommu(|dev, _| reports(dev)), Ok(()));
    }
}
