// SPDX-License-Identifier: GPL-2.0

//! The list of forgotten values, and checks that their memory stays.

use crate::{
    buffers::BOTH,
    check::{
        check_bytes,
        Outcome, //
    },
    edu::Engine,
    fixture::{
        bytes,
        piece, //
    }, //
};
use core::{
    mem::MaybeUninit,
    ptr,
    sync::atomic::{
        AtomicPtr,
        Ordering::Relaxed, //
    }, //
};
use kernel::{
    device::Bound,
    page::PAGE_SIZE,
    pci,
    prelude::*, //
};
use phyr::{
    memory::Memory,
    DmaVec,
    Mapper,
    Phyr, //
};

/// Bytes that the device moves.
const LEN: usize = 64;

/// Something that was forgotten.
pub(crate) struct Forgotten {
    next: *mut Forgotten,
    /// The bytes of the value, for kmemleak.
    _value: KVec<MaybeUninit<usize>>,
    /// The memory that was in it.
    phyrs: KVec<Phyr>,
}

/// List of forgotten values, the latest first.
pub(crate) static FORGOTTEN: AtomicPtr<Forgotten> = AtomicPtr::new(ptr::null_mut());

/// Forgets `value`, which owns the memory at `phyrs`.
pub(crate) fn forget<T>(value: T, phyrs: KVec<Phyr>) -> Result {
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

/// Returns the physical ranges of `memory`.
pub(crate) fn phyrs<M: Memory>(memory: &M) -> Result<KVec<Phyr>> {
    let mut phyrs = KVec::new();
    for phyr in memory.phyrs() {
        phyrs.push(phyr?, GFP_KERNEL)?;
    }
    Ok(phyrs)
}

/// Returns whether `page` belongs to a forgotten value.
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
        // SAFETY: an entry of the list is never freed, nor written.
        next = unsafe { forgotten.next.as_ref() };
    }
    false
}

/// Checks that no page of a forgotten value is allocated again: one that was freed would come soon.
pub(crate) fn all_stay() -> Outcome {
    let mut others = KVVec::new();
    for _ in 0..256 {
        let other = piece(0, PAGE_SIZE)?;
        let again = phyrs(&other)?.into_iter().find(|&phyr| is_forgotten(phyr));
        check_eq!(again, None, "given out again");
        others.push(other, GFP_KERNEL)?;
    }
    Ok(())
}

/// Checks that the device still writes to and reads from the range `vec`.
pub(crate) fn goes_on(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>, vec: DmaVec) -> Outcome {
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
