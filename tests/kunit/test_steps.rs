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
    fixture::{
        buffer,
        no_memory,
        piece,
        with_dma_api,
        NO_MEMORY, //
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
type Tried = Result<Result, &'static str>;

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
    fn new(mapper: &'a Mapper<'a>) -> Result<Self, &'static str> {
        let mapping = mapper
            .map(buffer(3).map_err(no_memory)?, BOTH, GFP_KERNEL)
            .map_err(|_| "not mapped")?;
        let first = mapping.dma_vecs().next().ok_or("no ranges")?;
        let this = Self {
            dev: mapper.device(),
            near: mapper.granule().map(|_| first.addr().into_raw()),
        };
        if mapper.granule().is_some() && this.mapped() != 3 {
            return Err("the page table shows no mapping, or others");
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
    fn empty(&self) -> Result<(), &'static str> {
        match COUNTED.load(Relaxed) {
            0 => {}
            nr => {
                pr_err!("{nr} pieces of memory are left\n");
                return Err("memory is left");
            }
        }
        match self.mapped() {
            0 => Ok(()),
            nr => {
                pr_err!("{nr} pages are mapped\n");
                Err("something is left mapped")
            }
        }
    }
}

/// Has each fallible call of `path` fail.
fn sweep(
    what: &str,
    place: &Place<'_>,
    exceptions: Exceptions<'_>,
    mut path: impl FnMut() -> Tried,
) -> Result<(), &'static str> {
    path()?.map_err(|_| "fails by itself")?;
    place.empty()?;
    for nth in 1..MANY {
        fail::arm(None, nth);
        let result = path();
        let failed = fail::disarm();
        let Some(point) = failed else {
            result?.map_err(|_| "fails without a failure")?;
            if nth == 1 {
                return Err("nothing on the path can fail");
            }
            pr_info!("{what}: {} calls have failed\n", nth - 1);
            return sweep_allocations(what, place, path);
        };
        let exception = exceptions.iter().find(|exception| exception.0 == point);
        let then = exception.map_or(Then::Fails(point.error()), |exception| exception.1);
        let result = match result {
            // The memory that is to be mapped is had in the same way.
            Err(NO_MEMORY) if point == Point::alloc_pages => Err(ENOMEM),
            result => result?,
        };
        let right = match (then, result) {
            (Then::Fails(e) | Then::Either(e), Err(got)) => e == got,
            (Then::Succeeds | Then::Either(_), Ok(())) => true,
            _ => false,
        };
        if !right {
            pr_err!("{what}: {} failed: {result:?}\n", point.name());
            return Err("not the right error");
        }
        again(what, point.name(), place, &mut path)?;
    }
    Err("no end of failures")
}

/// After a failure: nothing is mapped, and the next try succeeds.
fn again(
    what: &str,
    failed: &str,
    place: &Place<'_>,
    path: &mut impl FnMut() -> Tried,
) -> Result<(), &'static str> {
    place
        .empty()
        .inspect_err(|_| pr_err!("{what}: {failed}\n"))?;
    path()?.map_err(|e| {
        pr_err!("{what}: after {failed}: {e:?}\n");
        "the next try does not succeed"
    })?;
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
fn sweep_allocations(
    what: &str,
    place: &Place<'_>,
    mut path: impl FnMut() -> Tried,
) -> Result<(), &'static str> {
    let mut refused = 0;
    for nth in 1..MANY {
        SPARED.store(0, Relaxed);
        fail_allocation(nth);
        let result = path();
        let left = fail_allocation(0).max(SPARED.load(Relaxed));
        settle();
        if left != 0 {
            result?.map_err(|_| "fails without a failure")?;
            pr_info!(
                "{what}: {} allocations have failed, {refused} times it did\n",
                nth - 1
            );
            return Ok(());
        }
        match result {
            // What the path needs besides, memory mostly, may be what failed.
            Ok(Ok(())) => {}
            Ok(Err(ENOMEM)) | Err(NO_MEMORY) => refused += 1,
            Err(e) => {
                pr_err!("{what}: allocation {nth}\n");
                return Err(e);
            }
            Ok(Err(e)) => {
                pr_err!("{what}: allocation {nth}: {e:?}\n");
                return Err("not ENOMEM");
            }
        }
        again(what, "an allocation", place, &mut path)?;
    }
    Err("no end of allocations")
}

#[cfg(not(CONFIG_FAILSLAB))]
fn sweep_allocations(_: &str, _: &Place<'_>, _: impl FnMut() -> Tried) -> Result<(), &'static str> {
    Ok(())
}

/// Pieces of pages, such as can be packed.
fn parts() -> Result<KVVec<Counted<Pages>>, &'static str> {
    let mut all = KVVec::new();
    for (offset, len) in [
        (0, PAGE_SIZE),
        (512, 100),
        (0, PAGE_SIZE),
        (0, PAGE_SIZE),
        (100, 50),
        (0, PAGE_SIZE),
    ] {
        let piece = piece(offset, len).map_err(no_memory)?;
        all.push(Counted::new(piece), GFP_KERNEL)
            .map_err(no_memory)?;
    }
    Ok(all)
}

/// Scattered pages.
fn pages(nr: usize) -> Result<Counted<Pages>, &'static str> {
    buffer(nr).map(Counted::new).map_err(no_memory)
}

/// Four pages in one piece.
fn chunk() -> Result<Counted<Chunks>, &'static str> {
    contiguous(2).map(Counted::new).map_err(no_memory)
}

fn scatter(mapper: &Mapper<'_>, memory: impl Memory) -> Result {
    drop(mapper.map(memory, BOTH, GFP_KERNEL)?.unmap());
    Ok(())
}

/// Maps memory and has the kernel see it in one range.
fn looked_at(mapper: &Mapper<'_>, memory: impl PageMemory) -> Result {
    let mut mapping = mapper.map(memory, BOTH, GFP_KERNEL)?;
    drop(mapping.cpu().vmap()?);
    drop(mapping.unmap());
    Ok(())
}

/// Opens a batch, adds to it, ends it; `end` as it must be, or by dropping it.
fn batch(mapper: &Mapper<'_>, end: bool) -> Tried {
    let pieces = parts()?;
    let room = Capacity {
        pieces: pieces.len(),
        segments: pieces.len(),
        bytes: 8 * PAGE_SIZE,
    };
    let run = || {
        let mut batch = mapper.batch(room, BOTH, GFP_KERNEL)?;
        for piece in pieces {
            batch.add(piece)?;
        }
        if end {
            drop(batch.finalise()?.unmap());
        }
        Ok(())
    };
    Ok(run())
}

/// All that is asked of a mapper.
fn paths(mapper: &Mapper<'_>) -> Result<(), &'static str> {
    // A range that is not to be had is got around, but where each phyr has one by itself.
    let around: Exceptions<'_> = &[
        (Point::dma_iova_try_alloc, Then::Succeeds),
        (Point::alloc_iova_fast, Then::Either(ENOMEM)),
    ];
    let place = Place::new(mapper)?;

    sweep("scatter, one page", &place, around, || {
        Ok(scatter(mapper, pages(1)?))
    })?;
    sweep("scatter, joined", &place, around, || {
        Ok(scatter(mapper, pages(6)?))
    })?;
    sweep("scatter, packed", &place, around, || {
        Ok(scatter(mapper, parts()?))
    })?;
    let unpacked = mapper.clone().unpacked();
    sweep("scatter, runs", &place, around, || {
        Ok(scatter(&unpacked, parts()?))
    })?;
    sweep("batch", &place, around, || batch(mapper, true))?;
    sweep("batch, dropped", &place, around, || batch(mapper, false))?;

    // One address, or none: there is no other way.
    let linear: Exceptions<'_> = &[(
        Point::dma_map_phys,
        Then::Fails(phyr::linear::NotLinear::Bounced.into()),
    )];
    sweep("linear, contiguous", &place, linear, || {
        Ok(mapper.linear(chunk()?, BOTH).map(drop).map_err(Error::from))
    })?;
    if mapper.granule().is_some() {
        sweep("linear, scattered", &place, linear, || {
            Ok(mapper
                .linear(pages(5)?, BOTH)
                .map(drop)
                .map_err(Error::from))
        })?;
    }
    Ok(())
}

/// A domain from its beginning to its end, with all that there is in it.
fn domain_life(dev: &Device<Bound>) -> Tried {
    let (one, many, window) = (pages(1)?, pages(6)?, parts()?);
    let run = || {
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
        scatter(&mapper, window)
    };
    Ok(run())
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
    fn dma_api() {
        assert!(with_dma_api(|_, mapper| paths(mapper)).is_ok());
    }

    #[test]
    fn linear_copy() {
        let result = with_dma_api(|_, mapper| {
            let place = Place::new(mapper)?;
            sweep("linear copy", &place, &[], || {
                Ok(mapper
                    .linear_copy(pages(3)?, BOTH)
                    .map(drop)
                    .map_err(Error::from))
            })
        });
        assert!(result.is_ok());
    }

    #[test]
    fn in_domain() {
        let result = with_dma_api(|pdev, _| {
            let dev = pdev.as_ref();
            if translation(dev) == Translation::None {
                return Ok(());
            }
            let domain = Domain::attach(dev, None).map_err(|_| "no domain")?;
            let mapper = domain
                .mapper(Limits::NONE, 1 << 30)
                .map_err(|_| "no mapper")?;
            paths(&mapper)
        });
        assert!(result.is_ok());
    }

    #[test]
    fn domain() {
        let result = with_dma_api(|pdev, mapper| {
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
                let result = domain_life(dev)?;
                if translation(dev) != before {
                    return Err("the device is not back");
                }
                Ok(result)
            })
        });
        assert!(result.is_ok());
    }

    #[test]
    fn cpu() {
        let result = with_dma_api(|_, mapper| {
            let place = Place::new(mapper)?;
            let around: Exceptions<'_> = &[(Point::dma_iova_try_alloc, Then::Succeeds)];
            sweep("vmap", &place, around, || Ok(looked_at(mapper, chunk()?)))?;
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
                if fail::disarm() != Some(point) || result != Err(point.error()) {
                    pr_err!("{}: {result:?}\n", point.name());
                    return Err("not the right error");
                }
                let again = fixture.buf.dma_buf().cpu(BOTH);
                drop(again.map_err(|_| "the next try does not succeed")?);
            }
            fixture.end()
        });
        assert!(result.is_ok());
    }

    #[test]
    fn dma_buf() {
        let result = with_dma_api(|pdev, mapper| {
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
                None if crate::wants_peer() => Err("no second device"),
                None => Ok(()),
            }
        });
        assert!(result.is_ok());
    }

    #[test]
    fn descriptor() {
        let result = with_dma_api(|_, _| {
            let fixture = Fixture::new(1)?;
            let calls = fixture.calls.clone();
            fail::arm(Some(Point::dma_buf_fd), 1);
            let result = fixture.buf.into_fd(0);
            if fail::disarm().is_none() || result != Err(EMFILE) {
                return Err("not the right error");
            }
            settle();
            match calls.released.load(Relaxed) {
                1 => Ok(()),
                _ => Err("not released"),
            }
        });
        assert!(result.is_ok());
    }
}
