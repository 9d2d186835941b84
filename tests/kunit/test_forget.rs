// SPDX-License-Identifier: GPL-2.0

//! `mem::forget` of each kind of mapping and guard, which safe code may do at any time.
//!
//! What is forgotten is never dropped: its memory must stay, mapped as it was, for as long as there
//! is a device that reaches it. So the device goes on with it, and no page of it may be given out
//! again. When the driver is unbound, what calls into the forgotten (an interrupt, an exporter)
//! must be gone, and when it is bound again, all else must work: `probe` looks, the second time.
//!
//! This leaks, and takes IOVA that is never given back: only where it is asked for (`forget=1`). An
//! attachment that is mapped keeps its device from being given a domain, as long as the driver is
//! bound when it is forgotten: domains are forgotten where attachments are not (`forget=2`).
//!
//! kmemleak takes memory for leaked to which it finds no pointer. Here it must find those, and only
//! those, that were forgotten on purpose: the bytes of such a value are kept where it looks. What
//! is leaked besides is still reported.

use crate::{
    buffers::{
        dynamic,
        find,
        fixed,
        pages,
        ranges,
        settle,
        sleep,
        Calls,
        Fixture,
        BOTH, //
    },
    check::{
        check_bytes,
        Failure,
        Outcome, //
    },
    edu::Engine,
    fixture::{
        self,
        buffer,
        bytes,
        piece,
        with_device, //
    },
    table, //
};
use core::{
    mem::MaybeUninit,
    ptr,
    sync::atomic::{
        AtomicI32,
        AtomicPtr,
        Ordering::{
            Acquire,
            Relaxed,
            Release, //
        }, //
    }, //
};
use kernel::{
    device::Bound,
    devres::Devres,
    irq::{
        Handler,
        IrqReturn, //
    },
    new_mutex,
    page::PAGE_SIZE,
    pci::{
        self,
        IrqType, //
    },
    prelude::*,
    sync::Arc, //
};
use phyr::{
    batch::Capacity,
    memory::{
        Chunks,
        Memory,
        Pages, //
    },
    DataDirection,
    DmaAddr,
    DmaVec,
    Limits,
    Mapper,
    Phyr, //
};
use phyr_driver::{
    binding::Binding,
    bound::Guarded,
    irq::{
        Types,
        Vectors, //
    },
    scope::Scope, //
};
use phyr_iommu::{
    translation,
    Domain,
    NotAttached,
    Translation, //
};

/// How many bytes the device moves.
const LEN: usize = 64;

/// Something that was forgotten.
struct Forgotten {
    next: *mut Forgotten,
    /// What the value was. Only kmemleak reads it.
    _value: KVec<MaybeUninit<usize>>,
    /// The memory that was in it.
    phyrs: KVec<Phyr>,
}

/// All that was forgotten, the latest first.
static FORGOTTEN: AtomicPtr<Forgotten> = AtomicPtr::new(ptr::null_mut());

/// Forgets `value`, of which `phyrs` must not be given out again.
fn forget<T>(value: T, phyrs: KVec<Phyr>) -> Result {
    let words = size_of::<T>().div_ceil(size_of::<usize>());
    let mut copy = KVec::with_capacity(words, GFP_KERNEL)?;
    copy.extend_with(words, MaybeUninit::zeroed(), GFP_KERNEL)?;
    // SAFETY: the source is a value, which is read as bytes that may be uninitialised, and as
    // nothing else later; the destination has room for them and is another allocation.
    unsafe {
        ptr::from_ref(&value)
            .cast::<MaybeUninit<u8>>()
            .copy_to_nonoverlapping(copy.as_mut_ptr().cast(), size_of::<T>())
    };
    let forgotten = Forgotten {
        next: FORGOTTEN.load(Relaxed),
        _value: copy,
        phyrs,
    };
    let forgotten = KBox::new(forgotten, GFP_KERNEL)?;
    FORGOTTEN.store(KBox::into_raw(forgotten), Relaxed);

    core::mem::forget(value);
    Ok(())
}

/// Where `memory` is.
fn phyrs<M: Memory>(memory: &M) -> Result<KVec<Phyr>> {
    let mut phyrs = KVec::new();
    for phyr in memory.phyrs() {
        phyrs.push(phyr?, GFP_KERNEL)?;
    }
    Ok(phyrs)
}

/// Whether `page` lies in memory that was forgotten.
fn is_forgotten(page: Phyr) -> bool {
    // SAFETY: what is in the list is never freed, nor written.
    let mut next = unsafe { FORGOTTEN.load(Relaxed).as_ref() };
    while let Some(forgotten) = next {
        let overlaps = |phyr: &Phyr| {
            phyr.paddr().into_raw() < page.end() && page.paddr().into_raw() < phyr.end()
        };
        if forgotten.phyrs.iter().any(overlaps) {
            return true;
        }
        // SAFETY: as above.
        next = unsafe { forgotten.next.as_ref() };
    }
    false
}

/// No page that was forgotten is given out again. One that was freed would come soon.
fn all_stay() -> Outcome {
    let mut others = KVVec::new();
    for _ in 0..256 {
        let other = piece(0, PAGE_SIZE)?;
        let again = phyrs(&other)?.into_iter().find(|&phyr| is_forgotten(phyr));
        check_eq!(again, None, "given out again");
        others.push(other, GFP_KERNEL)?;
    }
    Ok(())
}

/// The device goes on with the range `vec`: it writes there and reads it back.
fn goes_on(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>, vec: DmaVec) -> Outcome {
    let engine = Engine::new(pdev)?;
    let (all, other) = (bytes(LEN, 41)?, bytes(LEN, 42)?);
    let mut seen = bytes(LEN, 43)?;
    let own = piece(0, PAGE_SIZE)?;
    let mut own = mapper.map(own, BOTH, GFP_KERNEL)?;
    let at = check_some!(own.dma_vecs().next());
    let mut cpu = own.cpu();
    cpu.write(0, &all)?;
    cpu.write(LEN, &other)?;
    drop(cpu);

    engine
        .read(at, 0, LEN)
        .and_then(|()| engine.write(vec, 0, LEN))
        // Something else in the device's own buffer.
        .and_then(|()| engine.read(at, LEN, LEN))
        .and_then(|()| engine.read(vec, 0, LEN))
        .and_then(|()| engine.write(at, 2 * LEN, LEN))?;
    own.cpu().read(2 * LEN, &mut seen)?;
    check_bytes(&seen, &all)
}

/// Counts how often it was dropped.
struct Tally(&'static AtomicI32);

impl Drop for Tally {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A handler of interrupts that counts them.
struct Count {
    _dropped: Tally,
}

impl Handler for Count {
    fn handle(&self) -> IrqReturn {
        INTERRUPTS.fetch_add(1, Relaxed);
        IrqReturn::Handled
    }
}

static INTERRUPTS: AtomicI32 = AtomicI32::new(0);
static HANDLERS_DROPPED: AtomicI32 = AtomicI32::new(0);
static GUARDED_DROPPED: AtomicI32 = AtomicI32::new(0);
/// How often guarded values had been dropped when a managed resource was that is newer than they.
static BEFORE_DEVRES: AtomicI32 = AtomicI32::new(-1);

/// A managed resource of the device, which notes when it is released.
struct Managed;

impl Drop for Managed {
    fn drop(&mut self) {
        BEFORE_DEVRES.store(GUARDED_DROPPED.load(Relaxed), Relaxed);
    }
}
static BINDING: AtomicPtr<Binding> = AtomicPtr::new(ptr::null_mut());
/// Of the buffers that are attached: one each by a static and by a dynamic importer.
static ATTACHED: [AtomicPtr<Calls>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

/// How many of the buffers of [`ATTACHED`] are attached.
fn attached() -> Result<usize, Failure> {
    let mut attached = 0;
    if crate::forgets_domains() {
        return Ok(0);
    }
    settle();
    for calls in &ATTACHED {
        // SAFETY: it was leaked, by `attachments`.
        let calls = check_some!(unsafe { calls.load(Acquire).as_ref() });
        check_eq!(calls.released.load(Relaxed), 0);
        attached += usize::from(calls.open() != [0; 3]);
    }
    Ok(attached)
}

/// Forgets who ends the binding, when the device is probed for the first time; when it is probed
/// again, looks whether all is as it must be.
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

/// The binding of the first probe.
fn first_binding() -> Result<&'static Binding, Failure> {
    // SAFETY: it was leaked, by `probe`.
    Ok(check_some!(unsafe { BINDING.load(Acquire).as_ref() }))
}

fn after(pdev: &pci::Device<Bound>) -> Outcome {
    let first = first_binding()?;
    check!(first.is_over());
    check_err!(first.with(|_| Ok(())), ENODEV);
    check_eq!(HANDLERS_DROPPED.load(Relaxed), 1);
    check_eq!(GUARDED_DROPPED.load(Relaxed), 1);
    check_eq!(BEFORE_DEVRES.load(Relaxed), 1);
    check_eq!(attached()?, 0);
    check_cmp!(translation(pdev.as_ref()), !=, Translation::Owned);
    all_stay()?;
    let mapper = Mapper::new(pdev.as_ref(), Limits::NONE)?;
    let mapping = mapper.map(buffer(4)?, BOTH, GFP_KERNEL)?;
    let vec = check_some!(mapping.dma_vecs().next());
    goes_on(pdev, &mapper, vec)?;
    drop(mapping.unmap());
    pr_info!("what was forgotten has stayed, and the device is bound again\n");
    Ok(())
}

/// A mapping of `memory` is forgotten.
fn mapping<M: Memory>(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>, memory: M) -> Outcome {
    let phyrs = phyrs(&memory)?;
    let mapping = mapper.map(memory, BOTH, GFP_KERNEL)?;
    let vec = check_some!(mapping.dma_vecs().next());
    let place = table::lookup(mapper.device(), vec.addr().into_raw());
    forget(mapping, phyrs)?;
    all_stay()?;
    check_eq!(table::lookup(mapper.device(), vec.addr().into_raw()), place);
    goes_on(pdev, mapper, vec)
}

/// Pieces that do not join, of which an IOMMU's mapping has several ranges.
fn parts() -> Result<KVVec<Pages>> {
    let mut parts = KVVec::new();
    for offset in [0, 512, 1024] {
        let part = piece(offset, 512)?;
        parts.push(part, GFP_KERNEL)?;
    }
    Ok(parts)
}

/// The CPU's turn is forgotten: the mapping ends as always.
fn turns(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let memory = pages(3)?;
    let mut mapping = mapper.map(memory, BOTH, GFP_KERNEL)?;
    let vec = check_some!(mapping.dma_vecs().next());
    forget(mapping.cpu(), KVec::new())?;
    goes_on(pdev, mapper, vec)?;
    let mut cpu = mapping.cpu();
    // Its range of addresses stays, with nobody who knows it.
    forget(cpu.vmap()?, KVec::new())?;
    cpu.write(0, b"again")?;
    drop(cpu);
    let memory = mapping.unmap();
    let mut seen = [0; 5];
    memory.read(0, &mut seen)?;
    check_eq!(&seen, b"again");
    Ok(())
}

/// A linear mapping, and the CPU's turn with one.
fn linear(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let memory = Chunks::zeroed(2 * PAGE_SIZE, 1, GFP_KERNEL)?;
    let phyrs = phyrs(&memory)?;
    let mut linear = mapper.linear(memory, BOTH)?;
    let vec = linear.dma_vec();
    forget(linear.cpu()?, KVec::new())?;
    goes_on(pdev, mapper, vec)?;
    forget(linear, phyrs)?;
    all_stay()?;
    goes_on(pdev, mapper, vec)
}

/// A copy, and the device's turn with it.
fn copy(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let memory = buffer(3)?;
    let phyrs = phyrs(&memory)?;
    let mut copy = mapper.linear_copy(memory, BOTH)?;
    let turn = copy.hand_over()?;
    let vec = turn.dma_vec();
    forget(turn, KVec::new())?;
    goes_on(pdev, mapper, vec)?;
    copy.write(0, b"mine")?;
    forget(copy, phyrs)?;
    all_stay()?;
    goes_on(pdev, mapper, vec)
}

/// A batch that is open, and one that has become a mapping.
fn batch(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    for finalised in [false, true] {
        let room = Capacity {
            pieces: 2,
            segments: 8,
            bytes: 8 * PAGE_SIZE,
        };
        let mut batch = mapper.batch(room, BOTH, GFP_KERNEL)?;
        let mut places = KVec::new();
        for nr in [1, 3] {
            let piece = buffer(nr)?;
            for phyr in phyrs(&piece)? {
                places.push(phyr, GFP_KERNEL)?;
            }
            batch.add(piece)?;
        }
        if !finalised {
            forget(batch, places)?;
            all_stay()?;
            continue;
        }
        let mapping = batch.finalise()?;
        let vec = check_some!(mapping.dma_vecs().next());
        forget(mapping, places)?;
        all_stay()?;
        goes_on(pdev, mapper, vec)?;
    }
    Ok(())
}

/// Attachments that are mapped: the device reaches the buffer, which nobody else refers to.
fn attachments(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let one = Fixture::new(4)?;
    let attachment = fixed(pdev.as_ref(), &one)?;
    attachment.map(BOTH)?;
    let (first, _) = find(&ranges(&attachment)?, 0)?;
    forget(attachment, KVec::new())?;

    let other = Fixture::new(4)?;
    let (attachment, _) = dynamic(pdev.as_ref(), &other)?;
    attachment.map(BOTH)?;
    let (second, _) = find(&ranges(&attachment)?, 0)?;
    forget(attachment, KVec::new())?;

    for (place, fixture) in ATTACHED.iter().zip([one, other]) {
        let calls = Arc::into_raw(fixture.calls.clone()).cast_mut();
        place.store(calls, Release);
        drop(fixture);
    }
    sleep();
    check_eq!(attached()?, 2);
    goes_on(pdev, mapper, first)?;
    goes_on(pdev, mapper, second)?;
    let domain = Domain::attach(pdev.as_ref(), None);
    check_matches!(domain, Err(NotAttached::DmaBufs(2) | NotAttached::NoIommu));
    Ok(())
}

/// The CPU's turn with a buffer, and the last reference to one.
fn buffers() -> Outcome {
    let fixture = Fixture::new(4)?;
    let calls = fixture.calls.clone();
    let mut phyrs = KVec::new();
    for &phyr in &fixture.phyrs {
        phyrs.push(phyr, GFP_KERNEL)?;
    }
    let cpu = fixture.buf.dma_buf().cpu(DataDirection::ToDevice);
    forget(cpu?, phyrs)?;
    drop(fixture);
    settle();
    sleep();
    check_eq!(calls.released.load(Relaxed), 0);
    let fixture = Fixture::new(4)?;
    let calls = fixture.calls.clone();
    forget(fixture.buf, KVec::new())?;
    settle();
    check_eq!(calls.released.load(Relaxed), 0);
    all_stay()
}

/// A handler, and the vectors that it is of: it is called until the device is unbound.
fn interrupts(pdev: &pci::Device<Bound>) -> Outcome {
    let engine = Engine::new(pdev)?;
    let fixture::Binding { scope, pdev } = fixture::binding()?;
    for (min, max, error) in [
        (0, 1, EINVAL),
        (2, 1, EINVAL),
        (0, 0, EINVAL),
        (33, 64, ENOSPC),
    ] {
        let vectors = Vectors::alloc(scope, pdev, min, max, Types::one(IrqType::Msi));
        check_eq!(vectors.err(), Some(error), "{min} to {max}");
    }
    let types = Types::one(IrqType::Msi);
    let vectors = Vectors::alloc(scope, pdev, 1, 1, types)?;
    check_err!(Vectors::alloc(scope, pdev, 1, 1, Types::ANY), EBUSY);
    let handler = Count {
        _dropped: Tally(&HANDLERS_DROPPED),
    };
    let irq = vectors.request(0, c"phyr_test", handler);
    forget(irq?, KVec::new())?;
    let before = INTERRUPTS.load(Relaxed);
    engine.interrupt()?;
    for _ in 0..3000 {
        if INTERRUPTS.load(Relaxed) != before {
            return Ok(());
        }
        sleep();
    }
    Err(Failure::new(fmt!("the handler was not called")))
}

/// A value that is tied to the binding, and who ends one: it is dropped as the device is unbound,
/// and not before.
fn guarded() -> Outcome {
    let scope = fixture::binding()?.scope;
    let guarded = Guarded::new(scope, Tally(&GUARDED_DROPPED));
    forget(guarded?, KVec::new())?;
    // It gives out references that live as long as the scope.
    let managed = Devres::<Managed>::new(scope.device(), Ok::<_, Error>(Managed));
    forget(managed?, KVec::new())?;
    check_eq!(GUARDED_DROPPED.load(Relaxed), 0);
    let binding = first_binding()?;
    check!(!binding.is_over());
    binding.with(|_| Ok(()))?;
    Ok(())
}

/// In a domain of the device's own: mappings, what is on its way to the flush, a mapper in it, and
/// in the end the domain, which then stays until the device is unbound.
fn domain(pdev: &pci::Device<Bound>) -> Outcome {
    let scope = fixture::binding()?.scope;
    let dev = scope.device();
    if translation(dev) == Translation::None {
        return Ok(());
    }
    let at = |nr: u64| DmaAddr::from_raw(0x40_0000_0000 + (nr << 20));
    let access = phyr_iommu::Access::READ_WRITE;
    // What the device's scope holds is dropped while the device is in the domain.
    let slot = Arc::pin_init(new_mutex!(None), GFP_KERNEL)?;
    let older = Guarded::new(scope, slot.clone());
    forget(older?, KVec::new())?;
    let domain = Domain::attach(dev, None)?;
    let held = domain.map_at(pages(2)?, at(2), access);
    *slot.lock() = Some(held?);

    let memory = pages(4)?;
    let places = phyrs(&memory)?;
    let forgotten = domain.map_at(memory, at(0), access);
    forget(forgotten?, places)?;
    all_stay()?;
    let place = check_some!(domain.lookup(at(0)));

    let memory = pages(4)?;
    let places = phyrs(&memory)?;
    let ended = domain.map_at(memory, at(1), access);
    let mut gather = domain.gather(1)?;
    gather.unmap(ended?)?;
    forget(gather, places)?;
    all_stay()?;

    let mapper = domain.mapper(Limits::NONE, 1 << 24)?;
    mapping(pdev, &mapper, buffer(5)?)?;
    mapping(pdev, &mapper, parts()?)?;
    forget(mapper, KVec::new())?;
    all_stay()?;

    forget(domain, KVec::new())?;
    all_stay()?;
    check_eq!(table::lookup(dev, at(0).into_raw()), Some(place.into_raw()));
    check_eq!(Domain::attach(dev, None).err(), Some(NotAttached::InUse));
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
            mapping(pdev, mapper, parts()?)
        })
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
