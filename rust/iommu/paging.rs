// SPDX-License-Identifier: GPL-2.0

//! A paging domain, `struct iommu_domain`: its page table, and its end.
//!
//! A driver of an IOMMU may be about to report a fault of a domain that the device has left (see
//! [`fault`](super::fault)). It does so in an interrupt, or in the thread of one, and does not
//! sleep between looking for the domain and the end of the report. So a domain without users goes
//! to a list, and a work item frees what is on it when each CPU and each thread has been elsewhere:
//! after a grace period of RCU, for interrupts, and one of RCU for tasks, for threads, which are
//! preempted but do not sleep. Many domains share one grace period; if they end faster than that,
//! dropping one waits.
//!
//! C header: [`include/linux/iommu.h`](srctree/include/linux/iommu.h)

use super::{
    error::AttachError,
    fault::{
        self,
        FaultHandler, //
    }, //
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
    types::Opaque,
    workqueue::{
        self,
        Work,
        WorkItem, //
    }, //
};
use phyr::{
    bindings::{
        phyr_helper_iommu_flush_iotlb_all,
        phyr_helper_iotlb_gather_init,
        phyr_helper_iotlb_sync, //
    },
    fail::{
        self,
        Point, //
    },
    iotlb,
    ownership::Entry,
    raw,
    Granule, //
};

/// A paging domain, freed some time after this is dropped.
///
/// That may be after the device has left it, and the driver is unbound: a value that was leaked can
/// hold what is mapped, and be dropped with the device's resources, the older ones last.
///
/// # Invariants
///
/// The body was leaked from a box. It is valid, and nobody writes to it, until this is dropped and
/// gives it to [`free_later`].
pub(super) struct PagingDomain(NonNull<Body>);

/// Parts of a domain that stay until no report of a fault is under way.
///
/// # Invariants
///
/// `domain` is a paging domain that nobody else frees.
struct Body {
    domain: NonNull<bindings::iommu_domain>,
    /// Token that the domain's reports of faults come with.
    token: fault::Token,
    /// Entry by which the device is found while it is in the domain.
    entry: Entry,
    /// Next on the list of those to be freed.
    next: Option<NonNull<Body>>,
}

// SAFETY: a domain belongs to no thread, and the rest may be sent.
unsafe impl Send for PagingDomain {}

// SAFETY: any thread may call the functions of the IOMMU.
unsafe impl Sync for PagingDomain {}

impl PagingDomain {
    /// Allocates an empty domain for `dev`, to which nothing is attached.
    ///
    /// # Errors
    ///
    /// - [`AttachError::Unsupported`]: the IOMMU's driver has no paging domains.
    /// - [`AttachError::Failed`] with `ENOMEM`, or the error of the IOMMU's driver.
    pub(super) fn new(
        dev: &Device<Bound>,
        on_fault: Option<Arc<dyn FaultHandler>>,
    ) -> Result<Self, AttachError> {
        let token = fault::Token::new(dev, on_fault)?;
        let body = KBox::<Body>::new_uninit(GFP_KERNEL).map_err(Error::from)?;

        fail::at(Point::iommu_paging_domain_alloc_flags)?;
        // SAFETY: the device is bound, and has an IOMMU: it is in a group.
        let domain = unsafe { bindings::iommu_paging_domain_alloc_flags(raw::device(dev), 0) };
        let domain = from_err_ptr(domain).map_err(|e| match e {
            EOPNOTSUPP => AttachError::Unsupported,
            e => AttachError::Failed(e),
        })?;
        let domain = NonNull::new(domain).ok_or(ENOMEM)?;
        // INVARIANT: the domain is new.
        let body = KBox::write(
            body,
            Body {
                domain,
                token,
                entry: Entry::new(dev),
                next: None,
            },
        );
        // SAFETY: the domain is new; the token is in a box that is freed after the domain.
        unsafe { body.token.install(domain) };
        // INVARIANT: the box is leaked here.
        Ok(Self(NonNull::from(KBox::leak(body))))
    }

    fn body(&self) -> &Body {
        // SAFETY: by the type invariant the body is valid, and nobody writes to it.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::iommu_domain {
        self.body().domain.as_ptr()
    }

    /// Returns the entry by which the device is found while it is in the domain. It is valid for a
    /// grace period of RCU after this was dropped.
    pub(super) fn entry(&self) -> &Entry {
        &self.body().entry
    }

    /// Drops the fault handler, which is neither running nor called any more then.
    ///
    /// Context: process context, may sleep.
    pub(super) fn silence(&self) {
        self.body().token.silence();
    }

    /// Returns the sizes of page of the IOMMU, a bit each.
    ///
    /// Some drivers know them only once a device is attached; they do not change after that.
    pub(super) fn page_sizes(&self) -> u64 {
        // SAFETY: the domain is valid.
        // CAST: an `unsigned long` is at most 64 bits wide.
        unsafe { (*self.as_ptr()).pgsize_bitmap as u64 }
    }

    /// Returns the smallest size of page, if it is known.
    pub(super) fn granule(&self) -> Option<Granule> {
        let sizes = self.page_sizes();
        Granule::new(sizes & sizes.wrapping_neg())
    }

    /// Returns the first and the last IOVA that the IOMMU translates.
    pub(super) fn aperture(&self) -> (u64, u64) {
        // SAFETY: the domain is valid.
        let geometry = unsafe { (*self.as_ptr()).geometry };
        (geometry.aperture_start, geometry.aperture_end)
    }

    /// Maps `len` bytes at `paddr` at `iova`: `iommu_map()`.
    ///
    /// Context: any, if `flags` are for it.
    ///
    /// # Errors
    ///
    /// Those of the IOMMU's driver; nothing is mapped.
    ///
    /// # Safety
    ///
    /// - The device may access the memory as `prot` says until it is unmapped.
    /// - The IOVAs belong to the caller, and nothing is mapped there.
    /// - Addresses and length are multiples of the granule.
    pub(super) unsafe fn map(
        &self,
        iova: u64,
        paddr: u64,
        len: usize,
        prot: i32,
        flags: bindings::gfp_t,
    ) -> Result {
        fail::at(Point::iommu_map)?;
        // SAFETY: the domain is valid. The caller promises that the IOVAs are free and that the
        // device may access the memory, in whole granules.
        // CAST: an `unsigned long` has 64 bits, as `phyr` asks of the kernel.
        to_result(unsafe {
            bindings::iommu_map(self.as_ptr(), iova as usize, paddr, len, prot, flags)
        })
    }

    /// Unmaps `len` bytes at `iova` and flushes the IOTLB. Returns the number of bytes that were
    /// mapped.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// The IOVAs belong to the caller, and what is mapped there ends with them.
    #[must_use]
    pub(super) unsafe fn unmap(&self, iova: u64, len: usize) -> usize {
        let gather = Opaque::<bindings::iommu_iotlb_gather>::uninit();
        // SAFETY: `gather` may be written.
        unsafe { phyr_helper_iotlb_gather_init(gather.get()) };
        // SAFETY: the domain is valid, and the caller owns what is mapped at `iova`. `gather` is
        // initialised.
        // CAST: an `unsigned long` has 64 bits, as `phyr` asks of the kernel.
        let unmapped =
            unsafe { bindings::iommu_unmap_fast(self.as_ptr(), iova as usize, len, gather.get()) };
        // SAFETY: `gather` was used for this domain only.
        unsafe { self.sync(gather.get()) };
        unmapped
    }

    /// Flushes what is in `gather`, which is empty then.
    ///
    /// # Safety
    ///
    /// `gather` is initialised, and was used for this domain only.
    pub(super) unsafe fn sync(&self, gather: *mut bindings::iommu_iotlb_gather) {
        // SAFETY: the caller promises that `gather` is initialised.
        if iotlb::narrow(unsafe { &mut *gather }) {
            // SAFETY: the domain is valid.
            unsafe { phyr_helper_iommu_flush_iotlb_all(self.as_ptr()) };
        }
        // SAFETY: the caller promises that `gather` is of this domain, which is valid.
        unsafe { phyr_helper_iotlb_sync(self.as_ptr(), gather) };
    }
}

impl Drop for PagingDomain {
    fn drop(&mut self) {
        // The driver's handler goes now: the body may stay for longer than the driver.
        self.silence();
        free_later(self.0);
    }
}

/// Domains that are to be freed.
struct FreeQueue {
    first: Option<NonNull<Body>>,
    count: usize,
    work: Option<Arc<FreeWork>>,
}

// SAFETY: a domain belongs to no thread.
unsafe impl Send for FreeQueue {}

kernel::sync::global_lock! {
    // SAFETY: `init` is called as this module is loaded, before anybody uses it.
    unsafe(uninit) static FREE_QUEUE: Mutex<FreeQueue> = FreeQueue {
        first: None,
        count: 0,
        work: None,
    };
}

/// Length of the list from which on dropping a domain waits for a grace period.
const MAX_WAITING: usize = 256;

/// Work item that frees what is on the list.
#[pin_data]
struct FreeWork {
    #[pin]
    work: Work<FreeWork>,
}

impl_has_work! {
    impl HasWork<Self> for FreeWork { self.work }
}

impl WorkItem for FreeWork {
    type Pointer = Arc<FreeWork>;

    fn run(_: Arc<FreeWork>) {
        free_all();
    }
}

/// Puts `body`, which only reports that are under way still use, on the list.
fn free_later(body: NonNull<Body>) {
    let mut list = FREE_QUEUE.lock();
    // SAFETY: the body was leaked from a box. Reports use its domain and token only, and those who
    // look for a device its entry, so nobody else accesses `next`.
    unsafe { (&raw mut (*body.as_ptr()).next).write(list.first) };
    list.first = Some(body);
    list.count += 1;
    if list.count < MAX_WAITING {
        if let Some(work) = &list.work {
            // Work that is queued already will find this one, too.
            let _ = workqueue::system_unbound().enqueue(work.clone());
            return;
        }
    }
    drop(list);
    free_all();
}

/// Frees the domains on the list when no report can be under way any more.
///
/// Context: process context, sleeps for grace periods.
fn free_all() {
    let mut list = FREE_QUEUE.lock();
    let mut next = list.first.take();
    list.count = 0;
    drop(list);
    if next.is_none() {
        return;
    }
    // SAFETY: this is process context.
    unsafe { helpers::phyr_iommu_helper_wait_for_fault_reports() };
    while let Some(body) = next {
        // SAFETY: `free_later` got it from a `PagingDomain`, which had leaked it from a box; it is
        // on no list any more.
        let body = unsafe { KBox::from_raw(body.as_ptr()) };
        next = body.next;
        // SAFETY: by the invariant of `Body` nobody else frees the domain. Those who attach a
        // device hold the `PagingDomain` until it has left, and reports are over.
        unsafe { bindings::iommu_domain_free(body.domain.as_ptr()) };
        // The token goes after the domain that points to it.
        drop(body);
    }
}

/// Frees the domains that are left on the list as the module is unloaded.
pub(crate) struct FreeQueueGuard(());

/// Sets up the list of domains to be freed.
///
/// # Errors
///
/// - `ENOMEM`: no memory.
///
/// # Safety
///
/// Called once, before anything else of this crate.
pub(super) unsafe fn init() -> Result<FreeQueueGuard> {
    // SAFETY: the caller calls this once, and nobody has used the lock.
    unsafe { FREE_QUEUE.init() };
    let work = pin_init!(FreeWork {
        work <- new_work!("phyr_iommu::FreeWork"),
    });
    let work = Arc::pin_init(work, GFP_KERNEL)?;
    FREE_QUEUE.lock().work = Some(work);
    Ok(FreeQueueGuard(()))
}

impl Drop for FreeQueueGuard {
    fn drop(&mut self) {
        // No user of this module is left, and so no domain.
        let work = FREE_QUEUE.lock().work.take();
        if let Some(work) = work {
            // SAFETY: the work is initialised, and this is process context.
            unsafe { bindings::flush_work(Work::raw_get(&raw const work.work)) };
        }
        free_all();
        // A domain that was leaked is on no list, but a report of it may be under way.
        // SAFETY: this is process context.
        unsafe { helpers::phyr_iommu_helper_wait_for_fault_reports() };
    }
}
