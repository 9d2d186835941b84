// SPDX-License-Identifier: GPL-2.0

//! A device in a domain of its own, and back.

use super::{
    fault::{
        self,
        FaultHandler, //
    },
    group, //
};
use crate::{
    bindings as helpers,
    raw,
    types::Granule, //
};
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
    fmt,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// What happens to the addresses that a device uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    /// There is no IOMMU for it.
    None,
    /// Its addresses are physical ones (pass-through).
    Identity,
    /// It gets nowhere.
    Blocked,
    /// They are translated for the DMA API.
    DmaApi,
    /// They are translated by a domain that somebody owns.
    Owned,
    /// Another kind of domain, by its type.
    Other(u32),
}

/// What happens to the addresses that `dev` uses just now.
///
/// Context: any.
pub fn translation(dev: &Device<Bound>) -> Translation {
    // SAFETY: the device is bound, and so keeps its group; what changes the domain meanwhile is
    // its driver.
    let domain = unsafe { bindings::iommu_get_domain_for_dev(raw::device(dev)) };
    if domain.is_null() {
        return Translation::None;
    }
    // SAFETY: as above, the domain is valid.
    match unsafe { (*domain).type_ } {
        bindings::IOMMU_DOMAIN_IDENTITY => Translation::Identity,
        bindings::IOMMU_DOMAIN_BLOCKED => Translation::Blocked,
        bindings::IOMMU_DOMAIN_UNMANAGED => Translation::Owned,
        kind if kind & helpers::PHYR_IOMMU_DOMAIN_DMA_API != 0 => Translation::DmaApi,
        other => Translation::Other(other),
    }
}

/// Why a device cannot have a domain of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAttached {
    /// There is no IOMMU for it.
    NoIommu,
    /// The IOMMU has no domains that can be filled.
    Unsupported,
    /// It cannot be told apart from others: so many devices are in its group.
    SharedGroup(u32),
    /// Somebody has given it another domain.
    InUse,
    /// Something else failed.
    Failed(Error),
}

impl From<NotAttached> for Error {
    fn from(reason: NotAttached) -> Self {
        match reason {
            NotAttached::NoIommu => ENODEV,
            NotAttached::Unsupported => EOPNOTSUPP,
            NotAttached::SharedGroup(_) => EMLINK,
            NotAttached::InUse => EBUSY,
            NotAttached::Failed(e) => e,
        }
    }
}

impl fmt::Display for NotAttached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoIommu => f.write_str("no IOMMU translates for the device"),
            Self::Unsupported => f.write_str("the IOMMU has no domains that can be filled"),
            Self::SharedGroup(devices) => {
                write!(f, "the IOMMU cannot tell {devices} devices apart")
            }
            Self::InUse => f.write_str("the device is in another domain"),
            Self::Failed(e) => write!(f, "error {}", e.to_errno()),
        }
    }
}

/// A device in a domain that was made for it; dropping it takes it out and frees the domain.
///
/// # Invariants
///
/// `domain` is a paging domain that nobody else frees, and `dev` is attached to it.
pub(super) struct Attached {
    domain: NonNull<bindings::iommu_domain>,
    dev: ARef<Device>,
    /// What the domain's token points to.
    _on_fault: Option<Pin<KBox<fault::Token>>>,
}

// SAFETY: a domain has no thread, and the rest may be sent.
unsafe impl Send for Attached {}

impl Attached {
    pub(super) fn new(
        dev: &Device<Bound>,
        on_fault: Option<Arc<dyn FaultHandler>>,
    ) -> Result<Self, NotAttached> {
        let devices = count(dev).ok_or(NotAttached::NoIommu)?;
        if devices != 1 {
            return Err(NotAttached::SharedGroup(devices));
        }
        let token = match on_fault {
            None => None,
            Some(handler) => Some(fault::Token::new(dev, handler).map_err(NotAttached::Failed)?),
        };
        // SAFETY: the device is bound, and has an IOMMU: it is in a group.
        let domain = unsafe { bindings::iommu_paging_domain_alloc_flags(raw::device(dev), 0) };
        let domain = from_err_ptr(domain).map_err(|e| match e {
            EOPNOTSUPP => NotAttached::Unsupported,
            e => NotAttached::Failed(e),
        })?;
        let domain = NonNull::new(domain).ok_or(NotAttached::Failed(ENOMEM))?;
        let domain = Unattached(domain);

        if let Some(token) = &token {
            // SAFETY: the domain is new, and the token is freed after it.
            unsafe { token.install(domain.0) };
        }
        // SAFETY: the device is bound, the domain valid and of its IOMMU.
        let result = unsafe { bindings::iommu_attach_device(domain.0.as_ptr(), raw::device(dev)) };
        to_result(result).map_err(|e| match e {
            EBUSY => NotAttached::InUse,
            e => NotAttached::Failed(e),
        })?;
        // INVARIANT: just attached; the domain is not freed by `Unattached`.
        Ok(Self {
            domain: domain.keep(),
            dev: dev.into(),
            _on_fault: token,
        })
    }

    pub(super) fn domain(&self) -> NonNull<bindings::iommu_domain> {
        self.domain
    }

    /// The smallest page of the IOMMU.
    pub(super) fn granule(&self) -> Result<Granule, NotAttached> {
        // SAFETY: by the type invariant.
        let bits = unsafe { (*self.domain.as_ptr()).pgsize_bitmap };
        // CAST: an `unsigned long` is at most 64 bits wide.
        Granule::new((bits & bits.wrapping_neg()) as u64).ok_or(NotAttached::Unsupported)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: by the type invariant; the device goes back to the domain of the DMA API. Its
        // driver is still bound, or being unbound.
        unsafe {
            bindings::iommu_detach_device(self.domain.as_ptr(), raw::device(&*self.dev));
            bindings::iommu_domain_free(self.domain.as_ptr());
        }
    }
}

/// A domain without a device; dropping it frees it.
struct Unattached(NonNull<bindings::iommu_domain>);

impl Unattached {
    fn keep(self) -> NonNull<bindings::iommu_domain> {
        core::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for Unattached {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { bindings::iommu_domain_free(self.0.as_ptr()) };
    }
}

/// How many devices the IOMMU takes for one with `dev`; `None` where there is no IOMMU.
fn count(dev: &Device<Bound>) -> Option<u32> {
    /// # Safety
    ///
    /// `count` points to the number below.
    unsafe extern "C" fn one_more(_dev: *mut bindings::device, count: *mut c_void) -> c_int {
        // SAFETY: by the requirements of this function.
        unsafe { *count.cast::<u32>() += 1 };
        0
    }
    let group = group(dev)?;
    let mut count = 0u32;
    // SAFETY: the group is valid, and the number may be written.
    unsafe {
        bindings::iommu_group_for_each_dev(group.as_ptr(), (&raw mut count).cast(), Some(one_more));
        bindings::iommu_group_put(group.as_ptr());
    }
    Some(count)
}
