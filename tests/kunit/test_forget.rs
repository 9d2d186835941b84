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
        Outcome,
        BOTH, //
    },
    edu::Engine,
    fixture::{
        self,
        buffer,
        bytes,
        no_memory,
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
fn forget<T>(value: T, phyrs: KVec<Phyr>) -> Outcome {
    let words = size_of::<T>().div_ceil(size_of::<usize>());
    let mut copy = KVec::with_capacity(words, GFP_KERNEL).map_err(no_memory)?;
    copy.extend_with(words, MaybeUninit::zeroed(), GFP_KERNEL)
        .map_err(no_memory)?;
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
    let forgotten = KBox::new(forgotten, GFP_KERNEL).map_err(no_memory)?;
    FORGOTTEN.store(KBox::into_raw(forgotten), Relaxed);

    core::mem::forget(value);
    Ok(())
}

/// Where `memory` is.
fn phyrs<M: Memory>(memory: &M) -> Result<KVec<Phyr>, &'static str> {
    let mut phyrs = KVec::new();
    for phyr in memory.phyrs() {
        let phyr = phyr.map_err(|_| "no phyr")?;
        phyrs.push(phyr, GFP_KERNEL).map_err(no_memory)?;
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
        let other = piece(0, PAGE_SIZE).map_err(no_memory)?;
        if phyrs(&other)?.into_iter().any(is_forgotten) {
            return Err("a page was given out again");
        }
        others.push(other, GFP_KERNEL).map_err(no_memory)?;
    }
    Ok(())
}

/// The device goes on with the range `vec`: it writes there and reads it back.
fn goes_on(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>, vec: DmaVec) -> Outcome {
    let engine = Engine::new(pdev).map_err(|_| "no engine")?;
    let (all, other) = (bytes(LEN, 41)?, bytes(LEN, 42)?);
    let mut seen = bytes(LEN, 43)?;
    let own = piece(0, PAGE_SIZE).map_err(no_memory)?;
    let mut own = mapper
        .map(own, BOTH, GFP_KERNEL)
        .map_err(|_| "not mapped")?;
    let at = own.dma_vecs().next().ok_or("no range")?;
    let mut cpu = own.cpu();
    cpu.write(0, &all).map_err(|_| "not written")?;
    cpu.write(LEN, &other).map_err(|_| "not written")?;
    drop(cpu);

    engine
        .read(at, 0, LEN)
        .and_then(|()| engine.write(vec, 0, LEN))
        // Something else in the device's own buffer.
        .and_then(|()| engine.read(at, LEN, LEN))
        .and_then(|()| engine.read(vec, 0, LEN))
        .and_then(|()| engine.write(at, 2 * LEN, LEN))
        .map_err(|_| "no transfer")?;
    own.cpu().read(2 * LEN, &mut seen).map_err(|_| "not read")?;
    if seen[..] != all[..] {
        return Err("other bytes came back");
    }
    Ok(())
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
fn attached() -> Result<usize, &'static str> {
    let mut attached = 0;
    if crate::forgets_domains() {
        return Ok(0);
    }
    settle();
    for calls in &ATTACHED {
        // SAFETY: it was leaked, by `attachments`.
        let calls = unsafe { calls.load(Acquire).as_ref() }.ok_or("never attached")?;
        if calls.released.load(Relaxed) != 0 {
            return Err("a buffer was released to which somebody refers");
        }
        attached += usize::from(!calls.balance());
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
        let (binding, owner) = Binding::new(scope).map_err(|_| "no binding")?;
        BINDING.store(Arc::into_raw(binding).cast_mut(), Release);
        return forget(owner, KVec::new());
    }
    let pdev = scope.device().try_into();
    after(pdev.map_err(|_| "no PCI device")?)
}

/// The binding of the first probe.
fn first_binding() -> Result<&'static Binding, &'static str> {
    // SAFETY: it was leaked, by `probe`.
    unsafe { BINDING.load(Acquire).as_ref() }.ok_or("no binding")
}

fn after(pdev: &pci::Device<Bound>) -> Outcome {
    let first = first_binding()?;
    if !first.is_over() || first.with(|_| Ok(())) != Err(ENODEV) {
        return Err("a binding outlived itself");
    }
    if HANDLERS_DROPPED.load(Relaxed) != 1 {
        return Err("a handler outlived the binding");
    }
    if GUARDED_DROPPED.load(Relaxed) != 1 {
        return Err("a guarded value outlived the binding");
    }
    if BEFORE_DEVRES.load(Relaxed) != 1 {
        return Err("a guarded value outlived a managed resource");
    }
    if attached()? != 0 {
        return Err("a buffer is still attached");
    }
    if translation(pdev.as_ref()) == Translation::Owned {
        return Err("the device is still in the domain that it had");
    }
    all_stay()?;
    let mapper = Mapper::new(pdev.as_ref(), Limits::NONE).map_err(|_| "no mapper")?;
    let mapping = mapper
        .map(buffer(4).map_err(no_memory)?, BOTH, GFP_KERNEL)
        .map_err(|_| "not mapped")?;
    let vec = mapping.dma_vecs().next().ok_or("no range")?;
    goes_on(pdev, &mapper, vec)?;
    drop(mapping.unmap());
    pr_info!("what was forgotten has stayed, and the device is bound again\n");
    Ok(())
}

/// A mapping of `memory` is forgotten.
fn mapping<M: Memory>(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>, memory: M) -> Outcome {
    let phyrs = phyrs(&memory)?;
    let mapping = mapper
        .map(memory, BOTH, GFP_KERNEL)
        .map_err(|_| "not mapped")?;
    let vec = mapping.dma_vecs().next().ok_or("no range")?;
    let place = table::lookup(mapper.device(), vec.addr().into_raw());
    forget(mapping, phyrs)?;
    all_stay()?;
    if table::lookup(mapper.device(), vec.addr().into_raw()) != place {
        return Err("the mapping ended");
    }
    goes_on(pdev, mapper, vec)
}

/// Pieces that do not join, of which an IOMMU's mapping has several ranges.
fn parts() -> Result<KVVec<Pages>, &'static str> {
    let mut parts = KVVec::new();
    for offset in [0, 512, 1024] {
        let part = piece(offset, 512).map_err(no_memory)?;
        parts.push(part, GFP_KERNEL).map_err(no_memory)?;
    }
    Ok(parts)
}

/// The CPU's turn is forgotten: the mapping ends as always.
fn turns(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let memory = pages(3).map_err(no_memory)?;
    let mut mapping = mapper
        .map(memory, BOTH, GFP_KERNEL)
        .map_err(|_| "not mapped")?;
    let vec = mapping.dma_vecs().next().ok_or("no range")?;
    forget(mapping.cpu(), KVec::new())?;
    goes_on(pdev, mapper, vec)?;
    let mut cpu = mapping.cpu();
    // Its range of addresses stays, with nobody who knows it.
    forget(
        cpu.vmap().map_err(|_| "no range of addresses")?,
        KVec::new(),
    )?;
    cpu.write(0, b"again").map_err(|_| "not written")?;
    drop(cpu);
    let memory = mapping.unmap();
    let mut seen = [0; 5];
    memory.read(0, &mut seen).map_err(|_| "not read")?;
    if &seen != b"again" {
        return Err("other bytes");
    }
    Ok(())
}

/// A linear mapping, and the CPU's turn with one.
fn linear(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let memory = Chunks::zeroed(2 * PAGE_SIZE, 1, GFP_KERNEL).map_err(no_memory)?;
    let phyrs = phyrs(&memory)?;
    let mut linear = mapper.linear(memory, BOTH).map_err(|_| "not linear")?;
    let vec = linear.dma_vec();
    forget(linear.cpu().map_err(|_| "no turn")?, KVec::new())?;
    goes_on(pdev, mapper, vec)?;
    forget(linear, phyrs)?;
    all_stay()?;
    goes_on(pdev, mapper, vec)
}

/// A copy, and the device's turn with it.
fn copy(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let memory = buffer(3).map_err(no_memory)?;
    let phyrs = phyrs(&memory)?;
    let mut copy = mapper.linear_copy(memory, BOTH).map_err(|_| "no copy")?;
    let turn = copy.hand_over().map_err(|_| "not handed over")?;
    let vec = turn.dma_vec();
    forget(turn, KVec::new())?;
    goes_on(pdev, mapper, vec)?;
    copy.write(0, b"mine").map_err(|_| "not written")?;
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
        let mut batch = mapper
            .batch(room, BOTH, GFP_KERNEL)
            .map_err(|_| "not opened")?;
        let mut places = KVec::new();
        for nr in [1, 3] {
            let piece = buffer(nr).map_err(no_memory)?;
            for phyr in phyrs(&piece)? {
                places.push(phyr, GFP_KERNEL).map_err(no_memory)?;
            }
            batch.add(piece).map_err(|_| "not added")?;
        }
        if !finalised {
            forget(batch, places)?;
            all_stay()?;
            continue;
        }
        let mapping = batch.finalise().map_err(|_| "not finalised")?;
        let vec = mapping.dma_vecs().next().ok_or("no range")?;
        forget(mapping, places)?;
        all_stay()?;
        goes_on(pdev, mapper, vec)?;
    }
    Ok(())
}

/// Attachments that are mapped: the device reaches the buffer, which nobody else refers to.
fn attachments(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let one = Fixture::new(4)?;
    let attachment = fixed(pdev.as_ref(), &one).map_err(|_| "not attached")?;
    attachment.map(BOTH).map_err(|_| "not mapped")?;
    let (first, _) = find(&ranges(&attachment)?, 0)?;
    forget(attachment, KVec::new())?;

    let other = Fixture::new(4)?;
    let (attachment, _) = dynamic(pdev.as_ref(), &other)?;
    attachment.map(BOTH).map_err(|_| "not mapped")?;
    let (second, _) = find(&ranges(&attachment)?, 0)?;
    forget(attachment, KVec::new())?;

    for (place, fixture) in ATTACHED.iter().zip([one, other]) {
        let calls = Arc::into_raw(fixture.calls.clone()).cast_mut();
        place.store(calls, Release);
        drop(fixture);
    }
    sleep();
    if attached()? != 2 {
        return Err("a buffer is not attached any more");
    }
    goes_on(pdev, mapper, first)?;
    goes_on(pdev, mapper, second)?;
    match Domain::attach(pdev.as_ref(), None) {
        Err(NotAttached::DmaBufs(2) | NotAttached::NoIommu) => Ok(()),
        _ => Err("a domain, or another reason"),
    }
}

/// The CPU's turn with a buffer, and the last reference to one.
fn buffers() -> Outcome {
    let fixture = Fixture::new(4)?;
    let calls = fixture.calls.clone();
    let mut phyrs = KVec::new();
    for &phyr in &fixture.phyrs {
        phyrs.push(phyr, GFP_KERNEL).map_err(no_memory)?;
    }
    let cpu = fixture.buf.dma_buf().cpu(DataDirection::ToDevice);
    forget(cpu.map_err(|_| "no turn")?, phyrs)?;
    drop(fixture);
    settle();
    sleep();
    if calls.released.load(Relaxed) != 0 {
        return Err("released in the CPU's turn");
    }
    let fixture = Fixture::new(4)?;
    let calls = fixture.calls.clone();
    forget(fixture.buf, KVec::new())?;
    settle();
    if calls.released.load(Relaxed) != 0 {
        return Err("released, though somebody refers to it");
    }
    all_stay()
}

/// A handler, and the vectors that it is of: it is called until the device is unbound.
fn interrupts(pdev: &pci::Device<Bound>) -> Outcome {
    let engine = Engine::new(pdev).map_err(|_| "no engine")?;
    let fixture::Binding { scope, pdev } = fixture::binding()?;
    for (min, max, error) in [
        (0, 1, EINVAL),
        (2, 1, EINVAL),
        (0, 0, EINVAL),
        (33, 64, ENOSPC),
    ] {
        if Vectors::alloc(scope, pdev, min, max, Types::one(IrqType::Msi)).err() != Some(error) {
            return Err("vectors that there cannot be, or another reason");
        }
    }
    let types = Types::one(IrqType::Msi);
    let vectors = Vectors::alloc(scope, pdev, 1, 1, types).map_err(|_| "no vectors")?;
    if Vectors::alloc(scope, pdev, 1, 1, Types::ANY).err() != Some(EBUSY) {
        return Err("vectors beside vectors");
    }
    let handler = Count {
        _dropped: Tally(&HANDLERS_DROPPED),
    };
    let irq = vectors.request(0, c"phyr_test", handler);
    forget(irq.map_err(|_| "no handler")?, KVec::new())?;
    let before = INTERRUPTS.load(Relaxed);
    engine.interrupt().map_err(|_| "no interrupt")?;
    for _ in 0..3000 {
        if INTERRUPTS.load(Relaxed) != before {
            return Ok(());
        }
        sleep();
    }
    Err("the handler was not called")
}

/// A value that is tied to the binding, and who ends one: it is dropped as the device is unbound,
/// and not before.
fn guarded() -> Outcome {
    let scope = fixture::binding()?.scope;
    let guarded = Guarded::new(scope, Tally(&GUARDED_DROPPED));
    forget(guarded.map_err(no_memory)?, KVec::new())?;
    // It gives out references that live as long as the scope.
    let managed = Devres::<Managed>::new(scope.device(), Ok::<_, Error>(Managed));
    forget(managed.map_err(no_memory)?, KVec::new())?;
    if GUARDED_DROPPED.load(Relaxed) != 0 {
        return Err("dropped");
    }
    let binding = first_binding()?;
    if binding.is_over() || binding.with(|_| Ok(())).is_err() {
        return Err("the binding is over");
    }
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
    let slot = Arc::pin_init(new_mutex!(None), GFP_KERNEL).map_err(no_memory)?;
    let older = Guarded::new(scope, slot.clone());
    forget(older.map_err(no_memory)?, KVec::new())?;
    let domain = Domain::attach(dev, None).map_err(|_| "not attached")?;
    let held = domain.map_at(pages(2).map_err(no_memory)?, at(2), access);
    *slot.lock() = Some(held.map_err(|_| "not mapped")?);

    let memory = pages(4).map_err(no_memory)?;
    let places = phyrs(&memory)?;
    let forgotten = domain.map_at(memory, at(0), access);
    forget(forgotten.map_err(|_| "not mapped")?, places)?;
    all_stay()?;
    let place = domain.lookup(at(0)).ok_or("the mapping ended")?;

    let memory = pages(4).map_err(no_memory)?;
    let places = phyrs(&memory)?;
    let ended = domain.map_at(memory, at(1), access);
    let mut gather = domain.gather(1).map_err(no_memory)?;
    gather
        .unmap(ended.map_err(|_| "not mapped")?)
        .map_err(|_| "not unmapped")?;
    forget(gather, places)?;
    all_stay()?;

    let mapper = domain
        .mapper(Limits::NONE, 1 << 24)
        .map_err(|_| "no room")?;
    mapping(pdev, &mapper, buffer(5).map_err(no_memory)?)?;
    mapping(pdev, &mapper, parts()?)?;
    forget(mapper, KVec::new())?;
    all_stay()?;

    forget(domain, KVec::new())?;
    all_stay()?;
    if table::lookup(dev, at(0).into_raw()) != Some(place.into_raw()) {
        return Err("the domain ended");
    }
    match Domain::attach(dev, None) {
        Err(NotAttached::InUse) => Ok(()),
        _ => Err("attached to two domains, or another reason"),
    }
}

#[kunit_tests(phyr_device_forget)]
mod tests {
    use super::*;

    fn run(
        test: impl FnOnce(&pci::Device<Bound>, &Mapper<'_>) -> Outcome,
    ) -> Result<(), &'static str> {
        if !crate::forgets() {
            return Ok(());
        }
        with_device(test)
    }

    #[test]
    fn mappings() {
        let result = run(|pdev, mapper| {
            mapping(pdev, mapper, piece(0, PAGE_SIZE).map_err(no_memory)?)?;
            mapping(pdev, mapper, buffer(5).map_err(no_memory)?)?;
            mapping(pdev, mapper, parts()?)
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn turns_of_the_cpu() {
        assert_eq!(run(turns), Ok(()));
    }

    #[test]
    fn linear_mappings() {
        assert_eq!(run(linear), Ok(()));
    }

    #[test]
    fn copies() {
        assert_eq!(run(copy), Ok(()));
    }

    #[test]
    fn batches() {
        assert_eq!(run(batch), Ok(()));
    }

    #[test]
    fn attachments_of_dma_bufs() {
        let result = run(|pdev, mapper| {
            if crate::forgets_domains() {
                return Ok(());
            }
            attachments(pdev, mapper)
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn dma_bufs() {
        assert_eq!(run(|_, _| buffers()), Ok(()));
    }

    #[test]
    fn handlers_of_interrupts() {
        assert_eq!(run(|pdev, _| interrupts(pdev)), Ok(()));
    }

    #[test]
    fn values_of_the_binding() {
        assert_eq!(run(|_, _| guarded()), Ok(()));
    }

    /// The last one: the DMA API's mappings are out of the device's reach afterwards.
    #[test]
    fn domains() {
        let result = run(|pdev, _| {
            if !crate::forgets_domains() {
                return Ok(());
            }
            domain(pdev)
        });
        assert_eq!(result, Ok(()));
    }
}
