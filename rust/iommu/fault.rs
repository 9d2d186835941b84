// SPDX-License-Identifier: GPL-2.0

//! Reports of accesses that the IOMMU stopped, to the driver of the device.
//!
//! A report can be late. AMD's driver looks for the device's domain in the thread of its interrupt,
//! without a lock that would keep the domain in place, and reports to that:
//!
//! ```text
//!   the IOMMU's interrupt                     the domain's end
//!   domain = dev_data->domain
//!                                             the device leaves the domain
//!   report_iommu_fault(domain)                nobody else uses it
//!     domain->handler(.., handler_token)
//! ```
//!
//! So the domain and its token are kept until each report is over that may have begun before (see
//! [`paging`](super::paging)), and the token leads to the handler only as long as the device is in
//! the domain: detaching it waits for the handlers that run, after which none is called.

use core::{
    ptr::{
        self,
        NonNull, //
    },
    sync::atomic::{
        AtomicPtr,
        Ordering, //
    }, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        rcu,
        Arc, //
    }, //
};
use phyr::DmaAddr;

/// An access of a device that the IOMMU has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Address that the device used.
    pub iova: DmaAddr,
    /// True if the device tried to write.
    pub write: bool,
}

/// Handles the faults in a domain.
///
/// It is called by drivers of IOMMUs that call `report_iommu_fault()`. Those of Intel's and
/// virtio's only write to the kernel log.
pub trait FaultHandler: Send + Sync + 'static {
    /// Handles an access that has faulted.
    ///
    /// Not called any more when the device has left the domain: when the last of
    /// [`Domain`](super::Domain) and what is in it was dropped, or the driver is unbound.
    ///
    /// Context: atomic, in that of the IOMMU's interrupt or its thread. It may be called at any
    /// time while the domain is attached, by several CPUs at once.
    fn fault(&self, dev: &Device, fault: Fault);
}

/// Handler of a domain's faults, with the device that it is given.
struct Target {
    dev: ARef<Device>,
    handler: Arc<dyn FaultHandler>,
}

/// Token of a domain's fault handler in C, which leads to the driver's handler.
///
/// # Invariants
///
/// `target` is null or was leaked from a box, which is freed a grace period of RCU after `target`
/// was set to null.
pub(super) struct Token {
    target: AtomicPtr<Target>,
}

impl Token {
    /// Makes a token for `handler`.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    pub(super) fn new(dev: &Device<Bound>, handler: Option<Arc<dyn FaultHandler>>) -> Result<Self> {
        let target = match handler {
            None => ptr::null_mut(),
            Some(handler) => {
                let dev = (&**dev).into();
                KBox::into_raw(KBox::new(Target { dev, handler }, GFP_KERNEL)?)
            }
        };
        // INVARIANT: null, or leaked from a box here.
        Ok(Self {
            target: AtomicPtr::new(target),
        })
    }

    /// Sets this token as the fault handler of `domain`, if there is a handler.
    ///
    /// # Safety
    ///
    /// `domain` is valid, new, and has no handler. The token stays where it is until no report of
    /// the domain is under way any more.
    pub(super) unsafe fn install(&self, domain: NonNull<bindings::iommu_domain>) {
        if self.target.load(Ordering::Relaxed).is_null() {
            return;
        }
        let token = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the caller's domain is valid and has no handler.
        unsafe { bindings::iommu_set_fault_handler(domain.as_ptr(), Some(report), token) };
    }

    /// Drops the handler; it is not running any more then, nor called again.
    ///
    /// Context: process context, may sleep.
    pub(super) fn silence(&self) {
        let target = NonNull::new(self.target.swap(ptr::null_mut(), Ordering::AcqRel));
        if let Some(target) = target {
            rcu::synchronize_rcu();
            // SAFETY: by the type invariant it was leaked from a box, and `target` is null now.
            // Reports that have found it were in critical sections of RCU, which are over.
            drop(unsafe { KBox::from_raw(target.as_ptr()) });
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.silence();
    }
}

/// Calls the handler that `token` leads to; `iommu_fault_handler_t`.
///
/// # Safety
///
/// `token` is that of [`Token::install`], and valid until this returns.
unsafe extern "C" fn report(
    _domain: *mut bindings::iommu_domain,
    // The device, the IOMMU, or null: it depends on the IOMMU's driver.
    _dev: *mut bindings::device,
    iova: usize,
    flags: c_int,
    token: *mut c_void,
) -> c_int {
    // SAFETY: `Token::install` gave the domain this pointer, and the token is valid until no report
    // is under way.
    let token = unsafe { &*token.cast::<Token>() };
    let fault = Fault {
        // CAST: an `unsigned long` is at most 64 bits wide.
        iova: DmaAddr::from_raw(iova as u64),
        // CAST: a bit.
        write: flags as u32 & bindings::IOMMU_FAULT_WRITE != 0,
    };
    let _guard = rcu::read_lock();
    // SAFETY: by the invariant of `Token` a target that is found in this critical section is freed
    // after it has ended.
    if let Some(target) = unsafe { token.target.load(Ordering::Acquire).as_ref() } {
        target.handler.fault(&target.dev, fault);
    }
    // Not handled, so that the IOMMU's driver logs it.
    ENOSYS.to_errno()
}
