// SPDX-License-Identifier: GPL-2.0

//! Ownership of a device's address space: the DMA API's, or a domain of the driver's own.
//!
//! A mapping that the DMA API makes meanwhile is not in that domain: at its address the device gets
//! nowhere, or at what the driver has mapped there. So a device is either in a domain of its own or
//! mapped for:
//!
//! - A [`Mapper`](crate::Mapper) is refused with `EBUSY`, as it is made and at each mapping. On the
//!   I/O path that costs a load and a branch: a mapper has its device's [`Ownership`], which is
//!   null as long as no device that shares it is in such a domain.
//! - An attachment to a dma-buf is refused with `EBUSY` as it is mapped, and keeps its device from
//!   being given a domain as long as it is ([`MappedFor`]).
//!
//! Mappings that a mapper has made before stay as they are. They are not counted: each would have
//! to write to a counter that all share. A mapping that is being made while the device is given its
//! domain counts as made before.

use super::raw;
use core::{
    ptr,
    sync::atomic::{
        AtomicPtr,
        Ordering, //
    }, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device,
        DeviceContext, //
    },
    prelude::*,
    sync::rcu, //
};

kernel::sync::global_lock! {
    /// Held while the domain of a device is looked at, and while a device is attached to one or
    /// detached, so that no domain is freed while it is looked at. Guards the counts of
    /// [`MappedFor`].
    // SAFETY: `init` is called as this module is loaded, before anybody uses it.
    pub unsafe(uninit) static ATTACHED: Mutex<Counts> = Counts(KVec::new());
}

/// Initialises the lock of this file.
///
/// # Safety
///
/// To be called once, before anything else of the crate is.
pub unsafe fn init() {
    // SAFETY: the caller calls this once, and nobody has used the lock.
    unsafe { ATTACHED.init() };
}

/// The devices with the same hash that are in a domain of their own: mostly none, or one.
///
/// # Invariants
///
/// The entries that can be reached from it are valid until a grace period of RCU after they were
/// [removed](Ownership::remove).
pub struct Ownership(AtomicPtr<Entry>);

/// A device in a domain of its own.
pub struct Entry {
    /// For comparison only.
    dev: *mut bindings::device,
    next: AtomicPtr<Entry>,
}

// SAFETY: the device is never looked at.
unsafe impl Send for Entry {}

// SAFETY: the device is never looked at, and the rest is atomic.
unsafe impl Sync for Entry {}

/// Count of slots: two devices in domains of their own hardly ever share one of them.
const SLOTS: usize = 64;

static ALL: [Ownership; SLOTS] = [const { Ownership::new() }; SLOTS];

/// The slot of a mapper in such a domain, which is in nobody's way.
static NONE: Ownership = Ownership::new();

impl Entry {
    pub fn new(dev: &Device<Bound>) -> Self {
        Self {
            dev: raw::device(dev),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

impl Ownership {
    const fn new() -> Self {
        // INVARIANT: there are no entries.
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Returns the slot of `dev`.
    pub fn of<Ctx: DeviceContext>(dev: &Device<Ctx>) -> &'static Self {
        // Devices are aligned to a cache line at the least.
        &ALL[(raw::device(dev).addr() >> 6) % SLOTS]
    }

    /// Returns a slot in which there is never a device.
    pub fn none() -> &'static Self {
        &NONE
    }

    /// Returns whether no device is in it.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// Returns whether `dev` is in it: in a domain of its own.
    ///
    /// Context: any.
    #[cold]
    #[inline(never)]
    pub fn has(&self, dev: *mut bindings::device) -> bool {
        let _guard = rcu::read_lock();
        let mut at = self.0.load(Ordering::Acquire);
        // SAFETY: by the type invariant an entry that was reached in this critical section is valid
        // until it ends.
        while let Some(entry) = unsafe { at.as_ref() } {
            if entry.dev == dev {
                return true;
            }
            at = entry.next.load(Ordering::Acquire);
        }
        false
    }

    /// Adds `entry`.
    ///
    /// # Safety
    ///
    /// The entry is in no other, and is valid until a grace period of RCU after it was removed from
    /// this one.
    pub unsafe fn insert(&self, _attached: &mut Counts, entry: &Entry) {
        entry
            .next
            .store(self.0.load(Ordering::Relaxed), Ordering::Relaxed);
        // INVARIANT: the caller keeps the entry for so long.
        self.0
            .store(ptr::from_ref(entry).cast_mut(), Ordering::Release);
    }

    /// Removes `entry`. Other threads may see it until a grace period of RCU is over.
    ///
    /// Does nothing if it is not in it.
    pub fn remove(&self, _attached: &mut Counts, entry: &Entry) {
        let mut link = &self.0;
        loop {
            let at = link.load(Ordering::Relaxed);
            if ptr::eq(at, entry) {
                // Its own link stays, for those who are at it.
                return link.store(entry.next.load(Ordering::Relaxed), Ordering::Release);
            }
            // SAFETY: the lock that guards the counts is held: no entry goes away.
            match unsafe { at.as_ref() } {
                Some(other) => link = &other.next,
                None => return,
            }
        }
    }
}

/// Calls `f` with the lock held, under which `dev` is given no domain of its own.
///
/// Context: process context, may sleep.
///
/// # Errors
///
/// - `EBUSY`: it is in one already.
pub(crate) fn while_not_owned<Ctx: DeviceContext, R>(
    dev: &Device<Ctx>,
    f: impl FnOnce() -> R,
) -> Result<R> {
    let _lock = ATTACHED.lock();
    if Ownership::of(dev).has(raw::device(dev)) {
        return Err(EBUSY);
    }
    Ok(f())
}

/// The count of [`MappedFor`] for each device that has one.
pub struct Counts(KVec<(usize, usize)>);

impl Counts {
    /// Returns the count of `dev`.
    pub fn of(&self, dev: &Device<Bound>) -> usize {
        let mut all = self.0.iter();
        let dev = raw::device(dev).addr();
        all.find(|(of, _)| *of == dev)
            .map_or(0, |(_, count)| *count)
    }
}

/// A mapping for a device by the DMA API: the device is given no domain of its own meanwhile.
///
/// # Invariants
///
/// It is counted in `ATTACHED`, for the device at this address.
pub struct MappedFor(usize);

impl MappedFor {
    /// Counts a mapping that is about to be made for `dev`.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `EBUSY`: the device is in a domain of its own.
    /// - `ENOMEM`: no memory.
    pub fn new<Ctx: DeviceContext>(dev: &Device<Ctx>) -> Result<Self> {
        let mut lock = ATTACHED.lock();
        if Ownership::of(dev).has(raw::device(dev)) {
            return Err(EBUSY);
        }
        let dev = raw::device(dev).addr();
        match lock.0.iter_mut().find(|(of, _)| *of == dev) {
            Some((_, count)) => *count += 1,
            None => lock.0.push((dev, 1), GFP_KERNEL)?,
        }
        // INVARIANT: just counted.
        Ok(Self(dev))
    }
}

impl Drop for MappedFor {
    fn drop(&mut self) {
        let mut lock = ATTACHED.lock();
        let Some(at) = lock.0.iter().position(|(of, _)| *of == self.0) else {
            return;
        };
        if let Some((_, count)) = lock.0.get_mut(at) {
            *count -= 1;
            if *count != 0 {
                return;
            }
        }
        let _ = lock.0.remove(at);
        if lock.0.is_empty() {
            // The module may be unloaded, and nothing of it may be left then.
            lock.0 = KVec::new();
        }
    }
}
