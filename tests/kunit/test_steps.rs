// SPDX-License-Identifier: GPL-2.0

//! Each call of the kernel that may fail does, one after the other, on every path.
//!
//! Only in a build with `PHYR_FAIL_POINTS=1`. A path is run again and again: the first time its
//! first fallible call fails, then its second, until it has gone by without a failure. Each time
//! the caller must get the error of that call, the IOMMU's page table must be empty, and the very
//! next try must succeed. What may be left elsewhere is for the debug kernel to see.
//!
//! Where the kernel can fail allocations (`failslab`, in the debug kernel, with
//! `ignore-gfp-wait` off) the same is done with each of them: `ENOMEM`, or a way around.

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
        piece,
        with_dma_api, //
    },
    peer,
    table::lookup,
    test_dma_buf_peer::{
        export,
        RANGES, //
    },
    test_linear::contiguous, //
};
#[cfg(CONFIG_FAILSLAB)]
use core::sync::atomic::AtomicU32;
use core::sync::atomic::{
    AtomicUsize,
    Ordering::Relaxed, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    page::{
        BorrowedPage,
        PAGE_SIZE, //
    },
    pci,
    prelude::*,
    sync::Arc, //
};
use phyr::{
    batch::Capacity,
    fail::{
        self,
        Point, //
    },
    memory::{
        Chunks,
        Memory,
        PageMemory,
        Pages, //
    },
    Limits,
    Mapper, //
};
use phyr_dma_buf::Attachment;
use phyr_iommu::{
    translation,
    Access,
    Domain,
    Translation, //
};

/// A test's own trouble, or what the path under test has returned.
type Tried = Result<Result, Failure>;

/// More failures than any path has calls.
const MANY: u32 = 500;

/// Pages on either side of a mapping in which others of the device would be.
const AROUND: u64 = 2048;

/// What may come of a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The caller gets this error.
    Fails(Error),
    /// There is another way.
    Succeeds,
    /// The error, or, elsewhere on the path, another way.
    Either(Error),
}

/// What comes of a failure where it is not the error of the point.
type Exceptions<'a> = &'a [(Point, Then)];

/// How many [`Counted`] there are.
static COUNTED: AtomicUsize = AtomicUsize::new(0);

/// Memory that is counted for as long as it is there: pages are no objects that kmemleak knows.
struct Counted<M>(M);

impl<M: Memory> Counted<M> {
    fn new(memory: M) -> Self {
        COUNTED.fetch_add(1, Relaxed);
        Self(memory)
    }
}

impl<M> Drop for Counted<M> {
    fn drop(&mut self) {
        COUNTED.fetch_sub(1, Relaxed);
    }
}

// SAFETY: it is the memory of the value that this owns, which moves with it.
unsafe impl<M: Memory> Memory for Counted<M> {
    type Phyrs<'a> = M::Phyrs<'a>;

    fn phyrs(&self) -> Self::Phyrs<'_> {
        self.0.phyrs()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.0.read(offset, to)
    }

    fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.0.write(offset, from)
    }
}

// SAFETY: as above.
unsafe impl<M: PageMemory> PageMemory for Counted<M> {
    fn page(&self, index: usize) -> Option<BorrowedPage<'_>> {
        self.0.page(index)
    }
}

/// The part of the device's addresses where its mappings are.
struct Place<'a> {
    dev: &'a Device<Bound>,
    near: Option<u64>,
}

impl<'a> Place<'a> {
    /// Finds it by a mapping, which the page table must show: or else it would show no other.
    fn new(mapper: &'a Mapper<'a>) -> Result<Self, Failure> {
        let mapping = mapper.map(buffer(3)?, BOTH, GFP_KERNEL)?;
        let first = check_some!(mapping.dma_vecs().next());
        let this = Self {
            dev: mapper.device(),
            near: mapper.granule().map(|_| first.addr().into_raw()),
        };
        if mapper.granule().is_some() {
            check_eq!(this.mapped(), 3);
        }
        drop(mapping);
        this.empty()?;
        Ok(this)
    }

    /// How many pages are mapped there.
    fn mapped(&self) -> usize {
        // CAST: widens.
        let page = PAGE_SIZE as u64;
        let Some(near) = self.near else { return 0 };
        let first = (near & !(page - 1)).saturating_sub(AROUND * page);
        (0..2 * AROUND)
            .filter(|nr| lookup(self.dev, first + nr * page).is_some())
            .count()
    }

    /// Nothing is mapped there, and no memory is kept.
    fn empty(&self) -> Outcome {
        check_eq!(COUNTED.load(Relaxed), 0, "pieces of memory are left");
        check_eq!(self.mapped(), 0, "pages are left");
        Ok(())
    }
}

/// Has each fallible call of `path` fail.
fn sweep(
    what: &str,
    place: &Place<'_>,
    exceptions: Exceptions<'_>,
    mut path: impl FnMut() -> Tried,
) -> Outcome {
    check_eq!(path()?, Ok(()), "{what}");
    place.empty()?;
    for nth in 1..MANY {
        fail::arm(None, nth);
        let result = path();
        let failed = fail::disarm();
        let Some(point) = failed else {
            check_eq!(result?, Ok(()), "{what}, without a failure");
            check_cmp!(nth, !=, 1, "{what}: nothing can fail");
            pr_info!("{what}: {} calls have failed\n", nth - 1);
            return sweep_allocations(what, place, path);
        };
        let exception = exceptions.iter().find(|exception| exception.0 == point);
        let then = exception.map_or(Then::Fails(point.error()), |exception| exception.1);
        let result = result?;
        let right = match (then, result) {
            (Then::Fails(e) | Then::Either(e), Err(got)) => e == got,
            (Then::Succeeds | Then::Either(_), Ok(())) => true,
            _ => false,
        };
        check!(right, "{what}: {} failed: {result:?}", point.name());
        again(what, point.name(), place, &mut path)?;
    }
    Err(Failure::new(fmt!("{what}: no end of failures")))
}

/// After a failure: nothing is mapped, and the next try succeeds.
fn again(what: &str, failed: &str, place: &Place<'_>, path: &mut impl FnMut() -> Tried) -> Outcome {
    place
        .empty()
        .inspect_err(|_| pr_err!("{what}: {failed}\n"))?;
    check_eq!(path()?, Ok(()), "{what}, after {failed}");
    place.empty()
}

/// Which allocation of this thread is to fail, counted from the next one; or none from now on. Says
/// how many more there were to it, which is zero once it has failed.
#[cfg(CONFIG_FAILSLAB)]
fn fail_allocation(nth: u32) -> u32 {
    let task = kernel::current!().as_ptr();
    // SAFETY: the field is for the task itself.
    unsafe {
        let left = (&raw const (*task).fail_nth).read_volatile();
        (&raw mut (*task).fail_nth).write_volatile(nth);
        left
    }
}

/// How many more there were to the one that was to fail when [`Spare`] ended that.
#[cfg(CONFIG_FAILSLAB)]
static SPARED: AtomicU32 = AtomicU32::new(0);

/// While it is dropped, and afterwards, no allocation fails any more. What comes then may not fail,
/// and yet allocates, so that the kernel warns if that fails: a device leaves a domain.
struct Spare;

impl Drop for Spare {
    fn drop(&mut self) {
        #[cfg(CONFIG_FAILSLAB)]
        SPARED.store(fail_allocation(0), Relaxed);
    }
}

/// Has each allocation of `path` fail, where the kernel can do that.
#[cfg(CONFIG_FAILSLAB)]
fn sweep_allocations(what: &str, place: &Place<'_>, mut path: impl FnMut() -> Tried) -> Outcome {
    let mut refused = 0;
    for nth in 1..MANY {
        SPARED.store(0, Relaxed);
        fail_allocation(nth);
        let result = path();
        let left = fail_allocation(0).max(SPARED.load(Relaxed));
        settle();
        if left != 0 {
            check_eq!(result?, Ok(()), "{what}, without a failure");
            pr_info!(
                "{what}: {} allocations have failed, {refused} times it did\n",
                nth - 1
            );
            return Ok(());
        }
        match result {
            // What the path needs besides, memory mostly, may be what failed.
            Ok(Ok(())) => {}
            Ok(result) => {
                check_err!(result, ENOMEM, "{what}: allocation {nth}");
                refused += 1;
            }
            Err(failure) => {
                pr_err!("{what}: allocation {nth}\n");
                return Err(failure);
            }
        }
        again(what, "an allocation", place, &mut path)?;
    }
    Err(Failure::new(fmt!("{what}: no end of allocations")))
}

#[cfg(not(CONFIG_FAILSLAB))]
fn sweep_allocations(_: &str, _: &Place<'_>, _: impl FnMut() -> Tried) -> Outcome {
    Ok(())
}

/// Pieces of pages, such as can be packed.
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

/// Scattered pages.
fn pages(nr: usize) -> Result<Counted<Pages>> {
    buffer(nr).map(Counted::new)
}

/// Four pages in one piece.
fn chunk() -> Result<Counted<Chunks>> {
    contiguous(2).map(Counted::new)
}

fn scatter(mapper: &Mapper<'_>, memory: Result<impl Memory>) -> Result {
    drop(mapper.map(memory?, BOTH, GFP_KERNEL)?.unmap());
    Ok(())
}

fn linear(mapper: &Mapper<'_>, memory: Result<impl Memory>) -> Result {
    drop(mapper.linear(memory?, BOTH)?);
    Ok(())
}

fn linear_copy(mapper: &Mapper<'_>, memory: Result<impl Memory>) -> Result {
    drop(mapper.linear_copy(memory?, BOTH)?);
    Ok(())
}

/// Maps memory and has the kernel see it in one range.
fn looked_at(mapper: &Mapper<'_>, memory: Result<impl PageMemory>) -> Result {
    let mut mapping = mapper.map(memory?, BOTH, GFP_KERNEL)?;
    drop(mapping.cpu().vmap()?);
    drop(mapping.unmap());
    Ok(())
}

/// Opens a batch, adds to it, ends it; `end` as it must be, or by dropping it.
fn batch(mapper: &Mapper<'_>, end: bool) -> Result {
    let pieces = parts()?;
    let room = Capacity {
        pieces: pieces.len(),
        segments: pieces.len(),
        bytes: 8 * PAGE_SIZE,
    };
    let mut batch = mapper.batch(room, BOTH, GFP_KERNEL)?;
    for piece in pieces {
        batch.add(piece)?;
    }
    if end {
        drop(batch.finalise()?.unmap());
    }
    Ok(())
}

/// All that is asked of a mapper.
fn paths(mapper: &Mapper<'_>) -> Outcome {
    // A range that is not to be had is got around, but where each phyr has one by itself.
    let around: Exceptions<'_> = &[
        (Point::dma_iova_try_alloc, Then::Succeeds),
        (Point::alloc_iova_fast, Then::Either(ENOMEM)),
    ];
    let place = Place::new(mapper)?;

    sweep("scatter, one page", &place, around, || {
        Ok(scatter(mapper, pages(1)))
    })?;
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

    // One address, or none: there is no other way.
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

/// A domain from its beginning to its end, with all that there is in it.
fn domain_life(dev: &Device<Bound>) -> Result {
    let (one, many, window) = (pages(1)?, pages(6)?, parts()?);
    let domain = Domain::attach(dev, None)?;
    // Dropped before the domain is.
    let _spare = Spare;
    let one = domain.map(one, Access::READ_WRITE)?;
    let many = domain.map(many, Access::READ)?;
    let mut gather = domain.gather(2)?;
    for mapping in [one, many] {
        gather.unmap(mapping).map_err(|refused| refused.reason)?;
    }
    drop(gather.flush());
    let mapper = domain.mapper(Limits::NONE, 1 << 20)?;
    scatter(&mapper, Ok(window))
}

/// A buffer from its export on: attached, mapped, looked at.
fn buffer_life(pdev: &pci::Device<Bound>, told: bool) -> Tried {
    let fixture = match Fixture::with(7, phyr_dma_buf::Access::ReadWrite, None) {
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
    // Nothing is left attached or mapped, and all calls of the exporter balance.
    fixture.end()?;
    Ok(result)
}

/// A buffer of another device's memory.
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

#[kunit_tests(phyr_device_steps)]
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
            if translation(dev) == Translation::None {
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
            let before = translation(dev);
            if before == Translation::None {
                return Ok(());
            }
            // What is left in a domain is not seen once it is gone, but for the memory, which the
            // debug kernel watches: here, that the device is back where it was.
            let place = Place::new(mapper)?;
            let around: Exceptions<'_> = &[(Point::alloc_iova_fast, Then::Either(ENOMEM))];
            sweep("domain", &place, around, || {
                let result = domain_life(dev);
                check_eq!(translation(dev), before);
                Ok(result)
            })
        })
    }

    #[test]
    fn cpu() -> Outcome {
        with_dma_api(|_, mapper| {
            let place = Place::new(mapper)?;
            let around: Exceptions<'_> = &[(Point::dma_iova_try_alloc, Then::Succeeds)];
            sweep("vmap", &place, around, || Ok(looked_at(mapper, chunk())))?;
            // The core warns of an exporter that has no address to give: of what is on the way to
            // the exporter, and in it before that, each fails by its name.
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

    #[test]
    fn dma_buf() -> Outcome {
        with_dma_api(|pdev, mapper| {
            let place = Place::new(mapper)?;
            // What cannot be one range is tried as many.
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

    #[test]
    fn descriptor() -> Outcome {
        with_dma_api(|_, _| {
            let fixture = Fixture::new(1)?;
            let calls = fixture.calls.clone();
            fail::arm(Some(Point::dma_buf_fd), 1);
            let result = fixture.buf.into_fd(0);
            check!(fail::disarm().is_some());
            check_err!(result, EMFILE);
            settle();
            check_eq!(calls.released.load(Relaxed), 1);
            Ok(())
        })
    }
}
