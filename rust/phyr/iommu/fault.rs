// SPDX-License-Identifier: GPL-2.0

//! What a driver wants to know of accesses that the IOMMU stopped.

use crate::types::DmaAddr;
use core::ptr::NonNull;
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// An access of a device that its domain does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The address that it used.
    pub iova: DmaAddr,
    /// Whether it wanted to write.
    pub write: bool,
}

/// Is told of faults in a domain.
///
/// Not every IOMMU tells: those whose drivers call `report_iommu_fault()` do. Intel's and virtio's
/// write to the kernel log only.
pub trait FaultHandler: Send + Sync + 'static {
    /// An access has faulted.
    ///
    /// Context: that of the IOMMU's interrupt, atomic. It may be called at any time while the
    /// domain is attached, by several CPUs at once.
    fn fault(&self, dev: &Device, fault: Fault);
}

/// What the domain's token points to.
pub(super) struct Token {
    dev: ARef<Device>,
    handler: Arc<dyn FaultHandler>,
}

impl Token {
    pub(super) fn new(
        dev: &Device<Bound>,
        handler: Arc<dyn FaultHandler>,
    ) -> Result<Pin<KBox<Self>>> {
        let token = Self {
            dev: (&**dev).into(),
            handler,
        };
        Ok(KBox::pin(token, GFP_KERNEL)?)
    }

    /// # Safety
    ///
    /// `domain` is valid and has no handler. The token outlives it.
    pub(super) unsafe fn install(&self, domain: NonNull<bindings::iommu_domain>) {
        let token = core::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: by the requirements of this function.
        unsafe { bindings::iommu_set_fault_handler(domain.as_ptr(), Some(report), token) };
    }
}

/// # Safety
///
/// C calls this with the token of a domain, while that is attached.
unsafe extern "C" fn report(
    _domain: *mut bindings::iommu_domain,
    // The device, or the IOMMU, or nothing: a matter of the IOMMU's driver.
    _dev: *mut bindings::device,
    iova: usize,
    flags: c_int,
    token: *mut c_void,
) -> c_int {
    // SAFETY: `Token::install` gave the domain this pointer, and the token outlives it.
    let token = unsafe { &*token.cast::<Token>() };
    let fault = Fault {
        // CAST: an `unsigned long` is at most 64 bits wide.
        iova: DmaAddr::from_raw(iova as u64),
        // CAST: a bit.
        write: flags as u32 & bindings::IOMMU_FAULT_WRITE != 0,
    };
    token.handler.fault(&token.dev, fault);
    // Not handled: the IOMMU's driver may go on to say so.
    ENOSYS.to_errno()
}
