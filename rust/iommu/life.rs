// SPDX-License-Identifier: GPL-2.0

//! The life of an `iommu_domain`: made, filled, shared, and freed when nobody can be at it.
//!
//! A driver of an IOMMU may be about to report a fault of a domain that the device has left (see
//! [`fault`](super::fault)). It does so in an interrupt, or in the thread of one, and does not
//! sleep from when it looks for the domain to when it is done. So a domain that nobody has a share
//! of any more is put aside, and freed by a work item after such a time that each CPU and each
//! thread has been elsewhere: a grace period of RCU, for interrupts, and one of RCU's for tasks,
//! for threads, which are preempted but do not sleep. Many domains share one; where they come
//! faster, dropping one waits.

use super::{
    fault::{
        self,
        FaultHandler, //
    },
    NotAttached, //
};
use crate::bindings as helpers;
use core::ptr::NonNull;
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    error::{
        from_err_ptr,
        to_result, //
    },
    impl_has_work,
    new_work,
    prelude::*,
    sync::Arc,
    workqueue::{
        self,
        Work,
        WorkItem, //
    }, //
};
use phyr::ownership::Entry;
use phyr::{
    fail::{
        self,
        Point, //
    },
    raw,
    Granule, //
};

/// A domain that its owner fills; freed some time after the last who has a share of it is gone.
///
/// That may be after the device has left it, and the driver is unbound: a value that was leaked can
/// hold what is mapped, and be dropped with the device's resources, the older ones last.
///
/// # Invariants
///
/// It was leaked from a box, and is freed by [`reap`], to which it is given as this is dropped.
pub(super) struct Raw(NonNull<Body>);

/// The part of a domain that has to stay until no report is under way.
///
/// # Invariants
///
/// `domain` is a paging domain that nobody else frees.
struct Body {
    domain: NonNull<bindings::iommu_domain>,
    /// The object that the domain's token points to.
    token: fault::Token,
    /// The entry by which the device is found while it is in the domain.
    entry: Entry,
    /// The next of those that are to be freed.
    next: Option<NonNull<Body>>,
}

// SAFETY: a domain belongs to no thread, and the rest may be sent.
unsafe impl Send for Raw {}

// SAFETY: the functions of the IOMMU may be called by any thread.
unsafe impl Sync for Raw {}

impl Raw {
    /// Makes a domain for `dev`, which is empty and to which nothing is attached.
    pub(super) fn new(
        dev: &Device<Bound>,
        on_fault: Option<Arc<dyn FaultHandler>>,
    ) -> Result<Self, NotAttached> {
        let token = fault::Token::new(dev, on_fault).map_err(NotAttached::Failed)?;
        let body =
            KBox::<Body>::new_uninit(GFP_KERNEL).map_err(|e| NotAttached::Failed(e.into()))?;

        fail::at(Point::iommu_paging_domain_alloc_flags).map_err(NotAttached::Failed)?;
        // SAFETY: the device is bound, and has an IOMMU: it is in a group.
        let domain = unsafe { bindings::iommu_paging_domain_alloc_flags(raw::device(dev), 0) };
        let domain = from_err_ptr(domain).map_err(|e| match e {
            EOPNOTSUPP => NotAttached::Unsupported,
            e => NotAttached::Failed(e),
        })?;
        let domain = NonNull::new(domain).ok_or(NotAttached::Failed(ENOMEM))?;
        // INVARIANT: it is new.
        let body = KBox::write(
            body,
            Body {
                domain,
                token,
                entry: Entry::new(dev),
                next: None,
            },
        );
        // SAFETY: the domain is new; the token is in a box that is freed with the domain.
        unsafe { body.token.install(domain) };
        // INVARIANT: just leaked.
        Ok(Self(NonNull::from(KBox::leak(body))))
    }

    fn body(&self) -> &Body {
        // SAFETY: by the type invariant it is valid, and nobody writes to it before this is
        // dropped.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::iommu_domain {
        self.body().domain.as_ptr()
    }

    /// Returns the entry by which the device is found while it is in the domain. It is there for a
    /// grace period of RCU after this was dropped.
    pub(super) fn entry(&self) -> &Entry {
        &self.body().entry
    }

    /// Tells nobody of faults any more: when this returns the handler is not running.
    pub(super) fn silence(&self) {
        self.body().token.silence();
    }

    /// The smallest page of the IOMMU. There are drivers that know it when a device is attached.
    pub(super) fn granule(&self) -> Option<Granule> {
        // SAFETY: by the invariant of `Body`.
        let bits = unsafe { (*self.as_ptr()).pgsize_bitmap };
        // CAST: an `unsigned long` is at most 64 bits wide.
        Granule::new((bits & bits.wrapping_neg()) as u64)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // What the driver gave is not kept for longer than the driver may be.
        self.silence();
        bury(self.0);
    }
}

/// Ranges that are mapped in a domain from its beginning to its end, as the platform asks for them;
/// not the owner's. Dropping this unmaps them; the device has left the domain by then.
///
/// # Invariants
///
/// Just `ranges`, each a first and a last address in whole granules, are mapped by this, one to one
/// or not. They do not overlap.
pub(super) struct Fixed {
    raw: Arc<Raw>,
    ranges: KVec<(u64, u64)>,
}

impl Fixed {
    pub(super) fn new(raw: &Arc<Raw>) -> Self {
        // INVARIANT: nothing is mapped.
        Self {
            raw: raw.clone(),
            ranges: KVec::new(),
        }
    }

    /// Returns the first and the last address of each range that is mapped.
    pub(super) fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Maps `len` bytes at `paddr`, at `iova`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `len` is zero, or the end overflows.
    /// - `ENOMEM`: no memory.
    /// - What `iommu_map()` fails with.
    ///
    /// # Safety
    ///
    /// It is the platform's, such as the device may access with `prot` all the time. In whole
    /// granules; nothing is mapped at the IOVA, nor will anything be.
    pub(super) unsafe fn map(&mut self, iova: u64, paddr: u64, len: u64, prot: i32) -> Result {
        let last = len.checked_sub(1).and_then(|len| iova.checked_add(len));
        let last = last.ok_or(EINVAL)?;
        self.ranges.reserve(1, GFP_KERNEL)?;
        fail::at(Point::iommu_map)?;
        // SAFETY: `raw` keeps the domain valid. The caller's IOVA is free, in whole granules as
        // the memory is, and the device may access `len` bytes at `paddr` with `prot`.
        // CAST: addresses and lengths have 64 bits, as `phyr` asks of the kernel.
        to_result(unsafe {
            bindings::iommu_map(
                self.raw.as_ptr(),
                iova as usize,
                paddr,
                len as usize,
                prot,
                bindings::GFP_KERNEL,
            )
        })?;
        // INVARIANT: just mapped; there is room.
        let _ = self.ranges.push_within_capacity((iova, last));
        Ok(())
    }
}

impl Drop for Fixed {
    fn drop(&mut self) {
        for &(first, last) in &self.ranges {
            // CAST: as in `map`.
            let (iova, len) = (first as usize, (last - first) as usize + 1);
            // SAFETY: by the type invariant. The device has left, and nobody else is at the page
            // table: what is in the domain has a share of its owner's part, which is going away.
            unsafe { bindings::iommu_unmap(self.raw.as_ptr(), iova, len) };
        }
    }
}

/// Domains that are to be freed.
struct Dead {
    first: Option<NonNull<Body>>,
    count: usize,
    reaper: Option<Arc<Reaper>>,
}

// SAFETY: a domain belongs to no thread.
unsafe impl Send for Dead {}

kernel::sync::global_lock! {
    // SAFETY: `init` is called as this module is loaded, before anybody uses it.
    unsafe(uninit) static DEAD: Mutex<Dead> = Dead { first: None, count: 0, reaper: None };
}

/// So many may wait to be freed before who drops another does, too.
const MANY: usize = 256;

/// The work item that frees them.
#[pin_data]
struct Reaper {
    #[pin]
    work: Work<Reaper>,
}

impl_has_work! {
    impl HasWork<Self> for Reaper { self.work }
}

impl WorkItem for Reaper {
    type Pointer = Arc<Reaper>;

    fn run(_: Arc<Reaper>) {
        reap();
    }
}

/// Has `body`, which nobody uses any more but for reports that are under way, freed.
fn bury(body: NonNull<Body>) {
    let mut dead = DEAD.lock();
    // SAFETY: a leaked box, of which reports see the domain and the token only, and who looks for a
    // device the entry.
    unsafe { (&raw mut (*body.as_ptr()).next).write(dead.first) };
    dead.first = Some(body);
    dead.count += 1;
    if dead.count < MANY {
        if let Some(reaper) = &dead.reaper {
            // Where it is queued already it will find this one, too.
            let _ = workqueue::system_unbound().enqueue(reaper.clone());
            return;
        }
    }
    drop(dead);
    reap();
}

/// Frees what is dead, when no report can be under way any more.
///
/// Context: process context, sleeps for as long as that takes.
fn reap() {
    let mut dead = DEAD.lock();
    let mut next = dead.first.take();
    dead.count = 0;
    drop(dead);
    if next.is_none() {
        return;
    }
    // SAFETY: process context.
    unsafe { helpers::phyr_iommu_helper_wait_for_fault_reports() };
    while let Some(body) = next {
        // SAFETY: it was leaked from a box, by the invariant of `Raw`, and is on no list any more.
        let body = unsafe { KBox::from_raw(body.as_ptr()) };
        next = body.next;
        // SAFETY: by the invariant of `Body`. Whoever attached a device had a share until it had
        // left, and reports are over.
        unsafe { bindings::iommu_domain_free(body.domain.as_ptr()) };
        // The token after the domain that points to it.
        drop(body);
    }
}

/// Frees the rest as the module is unloaded.
pub(crate) struct Exit(());

/// Gets the module ready.
///
/// # Errors
///
/// - `ENOMEM`: no memory.
///
/// # Safety
///
/// To be called once, before anything else of [`iommu`](super) is.
pub(super) unsafe fn init() -> Result<Exit> {
    // SAFETY: the caller calls this once, and nobody has used the lock.
    unsafe { DEAD.init() };
    let reaper = pin_init!(Reaper {
        work <- new_work!("phyr_iommu::Reaper"),
    });
    let reaper = Arc::pin_init(reaper, GFP_KERNEL)?;
    DEAD.lock().reaper = Some(reaper);
    Ok(Exit(()))
}

impl Drop for Exit {
    fn drop(&mut self) {
        // Who uses this module is gone: there are no domains, and will be none.
        let reaper = DEAD.lock().reaper.take();
        if let Some(reaper) = reaper {
            // SAFETY: the work is initialised, and this is process context.
            unsafe { bindings::flush_work(Work::raw_get(&raw const reaper.work)) };
        }
        reap();
    }
}
