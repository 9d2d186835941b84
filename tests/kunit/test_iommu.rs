// SPDX-License-Identifier: GPL-2.0

//! A domain that a driver owns: what the device gets at, and what it does not.

use crate::{
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
        bytes,
        piece,
        with_dma_api,
        LEN_2M,
        ORDER_2M, //
    },
    table, //
};
use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    page::PAGE_SIZE,
    pci,
    prelude::*,
    ptr::Alignment,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use phyr::{
    linear::{
        Limit,
        LinearError, //
    },
    memory::{
        Chunks,
        Memory,
        Pages, //
    },
    raw,
    DataDirection,
    DmaAddr,
    DmaVec,
    Limits,
    MapError,
    Mapper,
    Phyr,
    PhysAddr, //
};
use phyr_iommu::{
    translation,
    Access,
    Domain,
    Fault,
    FaultHandler,
    Mapping,
    NotAttached,
    Reason,
    Translation, //
};

// CAST: a page.
const PAGE: u64 = PAGE_SIZE as u64;

/// Where tests map what they choose a place for: no memory of a PCI bus is there.
const BASE: u64 = 0x40_0000_0000;

fn at(pages: u64) -> DmaAddr {
    DmaAddr::from_raw(BASE + pages * PAGE)
}

/// Where the device gets to, by the page table alone.
fn leads(domain: &Domain<'_>, iova: DmaAddr) -> Option<PhysAddr> {
    table::lookup(domain.device(), iova.into_raw()).map(PhysAddr::from_raw)
}

/// `nr` pages that are not in the order in which they are in memory.
fn scattered(nr: usize) -> Result<Chunks> {
    let mut memory = Chunks::zeroed(nr * PAGE_SIZE, 0, GFP_KERNEL)?;
    for at in 0..nr / 2 {
        memory.swap(at, nr - 1 - at);
    }
    Ok(memory)
}

/// Where page `nr` of `memory` is.
fn place<M: Memory>(memory: &M, nr: usize) -> Option<PhysAddr> {
    let mut left = nr * PAGE_SIZE;
    for phyr in memory.phyrs().flatten() {
        if left < phyr.len() {
            // CAST: a `usize` is at most 64 bits wide.
            return Some(PhysAddr::from_raw(phyr.paddr().into_raw() + left as u64));
        }
        left -= phyr.len();
    }
    None
}

/// Checks that nothing was mapped, for just this reason.
#[track_caller]
fn refused<M: Memory>(result: Result<Mapping<'_, M>, MapError<M, Reason>>, why: Reason) -> Outcome {
    check_eq!(reason(result), Some(why));
    Ok(())
}

fn reason<M: Memory>(result: Result<Mapping<'_, M>, MapError<M, Reason>>) -> Option<Reason> {
    result.err().map(|refused| refused.error)
}

/// Whether the device has an IOMMU: there it can have a domain, also if that lets all through.
fn has_iommu(dev: &Device<Bound>) -> bool {
    translation(dev) != Translation::None
}

/// Runs `test` in a domain of the device's own, if there is an IOMMU, and checks what is left.
fn with_domain(test: impl FnOnce(&pci::Device<Bound>, &Domain<'_>) -> Outcome) -> Outcome {
    with_dma_api(|pdev, mapper| {
        let dev = mapper.device();
        let before = translation(dev);
        if !has_iommu(dev) {
            check_eq!(Domain::attach(dev, None).err(), Some(NotAttached::NoIommu));
            return Ok(());
        }
        let domain = Domain::attach(dev, None)?;
        check_eq!(translation(dev), Translation::Owned);
        test(pdev, &domain)?;
        let mut left = 0;
        domain.for_each(|_, _| left += 1);
        check_eq!(left, 0);
        drop(domain);
        check_eq!(translation(dev), before);
        Ok(())
    })
}

/// A part of a mapping, for the engine.
fn vec(iova: DmaAddr) -> DmaVec {
    DmaVec::new(iova, PAGE_SIZE)
}

/// The device carries bytes from one place to another.
fn carry(engine: &Engine<'_>, domain: &Domain<'_>) -> Outcome {
    let all = bytes(BUFFER, 21)?;
    let mut from = scattered(8)?;
    from.write(PAGE_SIZE + 5, &all)?;
    let places = [0, 1, 6, 7].map(|nr| (nr, place(&from, nr)));
    let from = domain.map_at(from, at(0), Access::READ)?;
    let to = domain.map(scattered(8)?, Access::WRITE)?;

    for (nr, place) in places {
        // CAST: a few pages.
        check_eq!(leads(domain, at(nr as u64)), place);
    }
    engine
        .read(from.dma_vec(), PAGE_SIZE + 5, BUFFER)
        .and_then(|()| engine.write(to.dma_vec(), 3 * PAGE_SIZE - 7, BUFFER))?;
    let mut seen = bytes(BUFFER, 22)?;
    let to = to.unmap();
    to.read(3 * PAGE_SIZE - 7, &mut seen)?;
    check_bytes(&seen, &all)
}

/// A page at two addresses: what the device writes at one it reads at the other.
fn aliased(engine: &Engine<'_>, domain: &Domain<'_>) -> Outcome {
    let memory = Arc::new(scattered(2)?, GFP_KERNEL)?;
    let all = bytes(64, 33)?;
    let mut source = scattered(1)?;
    source.write(0, &all)?;
    let source = domain.map(source, Access::READ)?;
    let map = |pages| domain.map_at(memory.clone(), at(pages), Access::READ_WRITE);
    let (one, two) = (map(0)?, map(512)?);
    check_eq!(leads(domain, at(1)), leads(domain, at(513)));
    engine
        .read(source.dma_vec(), 0, 64)
        .and_then(|()| engine.write(one.dma_vec(), 100, 64))
        .and_then(|()| engine.read(two.dma_vec(), 100, 64))
        .and_then(|()| engine.write(two.dma_vec(), PAGE_SIZE, 64))?;
    drop(one.unmap());
    check_eq!(leads(domain, at(0)), None);
    check!(leads(domain, at(512)).is_some());
    drop(two);
    let mut seen = bytes(64, 34)?;
    memory.read(PAGE_SIZE, &mut seen)?;
    check_bytes(&seen, &all)
}

/// Memory of which only the first phyr is there; the second is beyond what any IOMMU can tell.
struct HalfThere(Chunks);

// SAFETY: the first phyr is the chunk's; the other is never mapped, as no IOMMU takes it.
unsafe impl Memory for HalfThere {
    type Phyrs<'a> =
        core::iter::Chain<phyr::memory::ChunkPieces<'a>, core::iter::Once<Result<Phyr>>>;

    fn phyrs(&self) -> Self::Phyrs<'_> {
        let beyond = Phyr::new(PhysAddr::from_raw(1 << 62), PAGE_SIZE);
        Iterator::chain(self.0.phyrs(), core::iter::once(beyond.map_err(|_| EINVAL)))
    }

    fn len(&self) -> usize {
        self.0.len() + PAGE_SIZE
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.0.read(offset, to)
    }

    fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.0.write(offset, from)
    }
}

/// Each bad input has its reason, and leaves nothing behind.
fn bad_input(domain: &Domain<'_>) -> Outcome {
    let access = Access::READ_WRITE;
    let two = || scattered(2);
    let granule = domain.granule().size();
    let map_at = |iova| -> Result<_> { Ok(domain.map_at(two()?, DmaAddr::from_raw(iova), access)) };
    refused(domain.map(KVVec::<Pages>::new(), access), Reason::Empty)?;
    let unaligned = Reason::Unaligned {
        iova: BASE + 1,
        granule,
    };
    refused(map_at(BASE + 1)?, unaligned)?;
    let mut pieces = KVVec::new();
    for (offset, len) in [(0, PAGE_SIZE), (16, 64)] {
        let piece = piece(offset, len)?;
        pieces.push(piece, GFP_KERNEL)?;
    }
    let misaligned = Reason::Misaligned {
        phyr: 1,
        offset: PAGE,
        granule,
    };
    refused(domain.map(pieces, access), misaligned)?;
    // The last page there is: two do not fit.
    let beyond = reason(map_at(u64::MAX - PAGE + 1)?);
    check_matches!(
        beyond,
        Some(Reason::OutOfAperture { .. } | Reason::Overflow)
    );
    // Overlap: all of it, the first page, the last page, in the middle of a longer one.
    let there = domain.map_at(scattered(4)?, at(8), access)?;
    for pages in [8, 7, 11, 9] {
        let overlap = domain.map_at(two()?, at(pages), access);
        refused(overlap, Reason::Overlap(BASE + 8 * PAGE))?;
    }
    for pages in [6, 12] {
        domain.map_at(two()?, at(pages), access)?;
    }
    drop(there);

    // The page tables of SMMUs refuse such an address with a warning.
    if cfg!(CONFIG_ARM64) {
        return Ok(());
    }
    // Half of it was mapped, and is not any more.
    let half = HalfThere(scattered(3)?);
    match domain.map_at(half, at(0), access) {
        // An IOMMU with physical addresses of 63 bits (virtio) takes it.
        Ok(mapping) if leads(domain, at(3)).is_some() => drop(mapping),
        other => check_matches!(reason(other), Some(Reason::Failed(_))),
    }
    for page in 0..4 {
        check_eq!(leads(domain, at(page)), None, "page {page}");
    }
    domain.map_at(two()?, at(0), access)?;
    Ok(())
}

/// The room of a mapper in these tests, in bytes.
const ROOM: usize = 64 * PAGE_SIZE;

/// A mapper takes its addresses from its own room, and nobody else does.
fn own_room(pdev: &pci::Device<Bound>, domain: &Domain<'_>) -> Outcome {
    let dir = DataDirection::Bidirectional;
    let mapper = domain.mapper(Limits::NONE, ROOM)?;
    check_eq!(mapper.max_mapping_size(), ROOM);
    check!(mapper.granule().is_some());
    let map = |nr: usize| -> Result<_> { Ok(mapper.map(fixture::buffer(nr)?, dir, GFP_KERNEL)) };
    let half = map(32)??;
    // The rest is too short for this, in one range or page by page.
    let refused = check_err!(map(33)?, ENOSPC);
    check_eq!(refused.value.len(), 33 * PAGE_SIZE);
    let rest = map(32)??;
    check_err!(map(1)?, ENOSPC);
    let long = mapper.linear(scattered(65)?, dir).err().map(|e| e.error);
    // CAST: a few pages.
    check_matches!(
        long,
        Some(LinearError::Limit { limit: Limit::MappingSize, max, .. }) if max == ROOM as u64
    );
    // The addresses of the mapper are nobody else's.
    for vec in Iterator::chain(half.dma_vecs(), rest.dma_vecs()) {
        let at = domain.map_at(scattered(1)?, vec.addr(), Access::READ);
        check_matches!(reason(at), Some(Reason::Overlap(_)));
    }
    let engine = Engine::new(pdev)?;
    let from = check_some!(half.dma_vecs().next());
    let to = check_some!(rest.dma_vecs().next());
    engine
        .read(from, 2 * PAGE_SIZE - 9, 512)
        .and_then(|()| engine.write(to, 3 * PAGE_SIZE - 9, 512))?;
    drop(half);
    let lookup = |vec: DmaVec| table::lookup(pdev.as_ref(), vec.addr().into_raw());
    check_eq!(lookup(from), None);
    check!(lookup(to).is_some());
    check_eq!(domain.lookup(to.addr()), None);
    drop(rest);
    // All of it is back, and goes to others with the mapper.
    map(64)??;
    drop(mapper);
    domain.map_at(scattered(1)?, to.addr(), Access::READ)?;
    Ok(())
}

/// What the platform has reserved is not given out: the window of interrupts, on x86.
fn reserved(domain: &Domain<'_>) -> Outcome {
    #[cfg(CONFIG_X86)]
    {
        const MSI: u64 = 0xfee0_0000;
        for iova in [MSI, MSI + 0xf_f000, MSI - PAGE] {
            let memory = scattered(2)?;
            let iova = DmaAddr::from_raw(iova);
            refused(domain.map_at(memory, iova, Access::READ), Reason::Reserved)?;
        }
    }
    let _ = domain;
    Ok(())
}

/// Large pages where memory and address allow, and the count says so.
fn large_pages(domain: &Domain<'_>) -> Outcome {
    // CAST: a constant.
    const LARGE: u64 = LEN_2M as u64;
    let memory = || Chunks::zeroed(2 * LEN_2M, ORDER_2M, GFP_KERNEL);
    let large = domain.map(memory()?, Access::READ_WRITE)?;
    // With granules of 64 KiB there is nothing between them and 512 MiB.
    let has_large = domain.granule().size() == 4096;
    if has_large {
        check_eq!(large.iova().into_raw() % LARGE, 0);
    }
    let sizes = large.page_sizes();
    // Two that are neighbours are one where the IOMMU has pages of every size.
    let are_large = sizes.count(LARGE) == 2 || sizes.count(2 * LARGE) == 1;
    check_eq!(are_large, has_large);
    check_eq!(sizes.count(PAGE) == 0, has_large);
    // A page off: nothing but small ones.
    let small = domain.map_at(memory()?, at(1), Access::READ_WRITE)?;
    let sizes = small.page_sizes();
    check_eq!(
        (sizes.count(LARGE), sizes.count(PAGE)),
        (0, 2 * LARGE / PAGE)
    );
    // Alignment that is asked for.
    let align = Alignment::new::<{ 16 << 20 }>();
    let aligned = domain.map_aligned(scattered(3)?, align, Access::READ);
    check_eq!(aligned?.iova().into_raw() % (16 << 20), 0);
    Ok(())
}

/// Many mappings ended with one flush, and their memory in the order in which it went in.
fn gathered(domain: &Domain<'_>) -> Outcome {
    let mut mappings = KVVec::new();
    for nr in 0..16 {
        let mut memory = scattered(3)?;
        // CAST: a few.
        memory.write(0, &[nr as u8 + 1])?;
        let mapping = domain.map_at(memory, at(8 * nr), Access::READ_WRITE);
        mappings.push(mapping?, GFP_KERNEL)?;
    }
    let mut gather = domain.gather(15)?;
    let mut left = None;
    for mapping in mappings {
        if let Err(refused) = gather.unmap(mapping) {
            check_eq!(refused.reason, E2BIG);
            check!(left.is_none());
            left = Some(refused.mapping);
        }
    }
    check_eq!(left.as_ref().map(|left| left.iova()), Some(at(8 * 15)));
    // The room is not given out before the flush.
    let early = domain.map_at(scattered(1)?, at(0), Access::READ);
    refused(early, Reason::Overlap(BASE))?;
    let memory = gather.flush();
    for (nr, memory) in memory.iter().enumerate() {
        let mut first = [0];
        memory.read(0, &mut first)?;
        // CAST: a few.
        check_eq!(usize::from(first[0]), nr + 1);
        check_eq!(leads(domain, at(8 * nr as u64)), None);
    }
    check_eq!(memory.len(), 15);
    check!(leads(domain, at(8 * 15)).is_some());
    domain.map_at(scattered(1)?, at(0), Access::READ)?;
    // Dropped, it flushes as well.
    let mut gather = domain.gather(1)?;
    gather.unmap(check_some!(left))?;
    drop(gather);
    check_eq!(leads(domain, at(8 * 15)), None);
    Ok(())
}

/// A domain that was used a lot, and what is left in it.
pub(crate) struct Kept<'bound> {
    _left: Option<Mapping<'bound, Chunks>>,
    _domain: Domain<'bound>,
}

/// For [`keep`]: one large page instead of so many.
const LARGE: usize = 254;

/// Uses a domain a lot, and leaves `pages` pages in it.
pub(crate) fn keep<'bound>(dev: &'bound Device<Bound>, pages: usize) -> Result<Kept<'bound>> {
    let domain = Domain::attach(dev, None)?;
    // The reason is in the log.
    random(&domain).map_err(|_| EIO)?;
    let left = match pages {
        0 => None,
        // A chunk that is one page of the IOMMU's next size.
        LARGE => Some(Chunks::zeroed(LEN_2M, ORDER_2M, GFP_KERNEL)?),
        _ => Some(Chunks::zeroed(pages * PAGE_SIZE, 0, GFP_KERNEL)?),
    };
    let left = match left {
        Some(memory) => Some(domain.map_at(memory, at(0), Access::READ_WRITE)?),
        None => None,
    };
    Ok(Kept {
        _left: left,
        _domain: domain,
    })
}

/// Takes what is to be unmapped out of a model.
fn forget(model: &mut [Option<PhysAddr>], mapping: &Mapping<'_, Chunks>) -> Outcome {
    // CAST: a few pages.
    let first = ((mapping.iova().into_raw() - BASE) / PAGE) as usize;
    let pages = mapping.dma_vec().len() / PAGE_SIZE;
    let range = model.get_mut(first..first + pages);
    check_some!(range).fill(None);
    Ok(())
}

/// A thousand random steps, each checked against a model: an array of what is where.
fn random(domain: &Domain<'_>) -> Outcome {
    const PAGES: usize = 64;
    const STEPS: usize = 1000;
    let mut below = fixture::random(0x696f_6d6d);
    let mut model = [None; PAGES];
    let mut mappings: KVVec<Mapping<'_, Chunks>> = KVVec::new();

    for _ in 0..STEPS {
        let first = below(PAGES);
        let nr = 1 + below(6);
        match below(3) {
            // Maps, or finds out that it cannot.
            0 => {
                let memory = scattered(nr)?;
                let mut places = [None; 6];
                for (nr, place_of) in places.iter_mut().take(nr).enumerate() {
                    *place_of = place(&memory, nr);
                }
                let free = (first..first + nr)
                    .all(|page| model.get(page).is_none_or(|place| place.is_none()));
                // CAST: a few pages.
                match (
                    free,
                    domain.map_at(memory, at(first as u64), Access::READ_WRITE),
                ) {
                    (true, Ok(mapping)) if first + nr <= PAGES => {
                        mappings.push(mapping, GFP_KERNEL)?;
                        for (page, place) in places.iter().take(nr).enumerate() {
                            *check_some!(model.get_mut(first + page)) = *place;
                        }
                    }
                    // Beyond what the model looks at: taken down again.
                    (true, Ok(mapping)) => drop(mapping),
                    (free, result) => {
                        check_matches!((free, reason(result)), (false, Some(Reason::Overlap(_))))
                    }
                }
            }
            // Unmaps one.
            1 if !mappings.is_empty() => {
                let which = below(mappings.len());
                let mapping = check_some!(mappings.remove(which).ok());
                forget(&mut model, &mapping)?;
                drop(mapping.unmap());
            }
            // Unmaps some at once.
            2 if mappings.len() > 6 => {
                let mut gather = domain.gather(3)?;
                for _ in 0..3 {
                    let which = below(mappings.len());
                    let mapping = check_some!(mappings.remove(which).ok());
                    forget(&mut model, &mapping)?;
                    gather.unmap(mapping)?;
                }
                check_eq!(gather.flush().len(), 3);
            }
            _ => {}
        }
        let place = model.get(first).copied().flatten();
        // CAST: as above.
        let iova = at(first as u64);
        check_eq!(leads(domain, iova), place, "page {first}");
        check_eq!(domain.lookup(iova), place, "page {first}");
    }
    let mut mapped = [false; PAGES];
    domain.for_each(|iova, len| {
        // CAST: a few pages.
        let first = ((iova.into_raw() - BASE) / PAGE) as usize;
        for page in first..first + (len / PAGE) as usize {
            mapped[page % PAGES] = true;
        }
    });
    for (page, (place, mapped)) in Iterator::zip(model.iter(), mapped).enumerate() {
        // CAST: as above.
        check_eq!(leads(domain, at(page as u64)), *place, "page {page}");
        check_eq!(mapped, place.is_some(), "page {page}");
    }
    Ok(())
}

/// The end of the room: as far as the device's mask.
fn full(domain: &Domain<'_>) -> Outcome {
    const LEN: usize = 1 << 20;
    let map = || Chunks::zeroed(LEN, 8, GFP_KERNEL);
    let mut mappings = KVVec::new();
    loop {
        match domain.map(map()?, Access::READ) {
            Ok(mapping) => {
                // CAST: a `usize` is at most 64 bits wide.
                check_cmp!(mapping.iova().into_raw() + LEN as u64, <=, 1 << 24);
                mappings.push(mapping, GFP_KERNEL)?;
            }
            Err(refused) if refused.error == Reason::NoSpace => break,
            Err(refused) => return Err(Failure::from(refused)),
        }
    }
    check!(
        (12..=16).contains(&mappings.len()),
        "{} MiB",
        mappings.len()
    );
    mappings.pop();
    domain.map(map()?, Access::READ)?;
    Ok(())
}

/// Accesses that the domain does not allow change nothing.
fn faults(engine: &Engine<'_>, domain: &Domain<'_>) -> Outcome {
    let all = bytes(BUFFER, 41)?;
    let mut memory = scattered(2)?;
    memory.write(0, &all)?;
    let source = domain.map_at(scattered(1)?, at(100), Access::READ)?;
    // Two pages that the device writes, and so has in its IOTLB, before they are unmapped.
    let warm = |memory| -> Result<_> {
        let mapping = domain.map_at(memory, at(1), Access::READ_WRITE)?;
        engine
            .read(mapping.dma_vec(), 0, BUFFER)
            .and_then(|()| engine.write(mapping.dma_vec(), 0, BUFFER))
            .and_then(|()| engine.read(source.dma_vec(), 0, BUFFER))?;
        Ok(mapping)
    };
    engine.read(source.dma_vec(), 0, BUFFER)?;

    let mapping = domain.map_at(memory, at(1), Access::READ)?;
    // Only for reading, the page below, the page above.
    for iova in [at(1), at(0), at(3)] {
        engine.write(vec(iova), 0, BUFFER)?;
    }
    let memory = warm(mapping.unmap())?.unmap();
    // For Intel's driver to write the next two to the log, it must have forgotten these: it counts
    // for five seconds.
    fsleep(Delta::from_secs(6));
    engine.write(vec(at(1)), 0, BUFFER)?;
    let mut seen = bytes(BUFFER, 42)?;
    memory.read(0, &mut seen)?;
    check_bytes(&seen, &all)?;
    // After a gathered end nothing is in reach either.
    let mapping = warm(memory)?;
    let mut gather = domain.gather(1)?;
    gather.unmap(mapping)?;
    let memory = gather.flush();
    engine.write(vec(at(1)), 0, BUFFER)?;
    memory
        .iter()
        .try_for_each(|memory| memory.read(0, &mut seen))?;
    check_bytes(&seen, &all)?;
    pr_info!("phyr_test: what an owned domain does not allow changed nothing\n");
    Ok(())
}

/// Counts faults, and keeps the last one.
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
    fn large_pages_are_used_and_counted() -> Outcome {
        with_domain(|_, domain| large_pages(domain))
    }

    #[test]
    fn many_mappings_end_with_one_flush() -> Outcome {
        with_domain(|_, domain| gathered(domain))
    }

    #[test]
    fn a_thousand_random_steps_match_the_model() -> Outcome {
        with_domain(|_, domain| random(domain))
    }

    #[test]
    fn the_devices_mask_ends_the_room() -> Outcome {
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
            check_eq!(another.err(), Some(NotAttached::InUse));
            Ok(())
        })
    }

    /// More than the few MiB of other suites: the scatter, batch and linear suites map in a domain
    /// where `domain=1` is given.
    #[test]
    fn a_mapper_has_room_of_its_own() -> Outcome {
        with_domain(own_room)
    }

    #[test]
    fn a_mapper_in_a_domain_refuses_bad_input() -> Outcome {
        with_domain(|_, domain| {
            let new = |limits, room| domain.mapper(limits, room).err();
            // The upper half of all addresses, which some IOMMU has; the lower half is never free.
            const HALF: usize = 1 << 63;
            let _upper = domain.mapper(Limits::NONE, HALF);
            let granule = domain.granule().size();
            let small = Limits::NONE.with_max_segment(granule - 1);
            // CAST: a page at most.
            let aligned = Limits::NONE.with_min_align_mask(2 * granule as u32 - 1);
            let all = [
                (new(Limits::NONE, 0), EINVAL),
                (new(check_some!(small), ROOM), EINVAL),
                (new(check_some!(aligned), ROOM), EINVAL),
                (new(Limits::NONE, usize::MAX), EOVERFLOW),
                (new(Limits::NONE, HALF), ENOSPC),
            ];
            for (nr, (seen, expected)) in all.into_iter().enumerate() {
                check_eq!(seen, Some(expected), "{nr}");
            }
            Ok(())
        })
    }

    /// What is mapped keeps the domain, whoever drops the handles first.
    #[test]
    fn a_mapping_keeps_its_domain() -> Outcome {
        with_dma_api(|pdev, mapper| {
            let dev = mapper.device();
            if !has_iommu(dev) {
                return Ok(());
            }
            let before = translation(dev);
            let domain = Domain::attach(dev, None)?;
            let mapper = domain.mapper(Limits::NONE, ROOM)?;
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
            check_eq!(translation(dev), Translation::Owned);
            drop(mapping);
            check_eq!(translation(dev), before);
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

    /// The handler gets what the IOMMU's driver reports; here the test does in its place.
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
