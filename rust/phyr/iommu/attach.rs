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
    fail::{
        self,
        Point, //
    },
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

kernel::sync::global_lock! {
    /// Held by who looks at the domain of a device, and by who takes a device out of one: a domain
    /// is freed after that only.
    // SAFETY: `init` is called as this module is loaded, before anybody uses it.
    unsafe(uninit) static ATTACHED: Mutex<()> = ();
}

/// Gets the module ready.
///
/// # Safety
///
/// To be called once, before anything else of [`iommu`](super) is.
pub(crate) unsafe fn init() {
    // SAFETY: by the requirements of this function.
    unsafe { ATTACHED.init() };
}

/// What happens to the addresses that `dev` uses just now.
///
/// Context: process context, may sleep.
pub fn translation(dev: &Device<Bound>) -> Translation {
    let _lock = ATTACHED.lock();
    // SAFETY: the device is bound, and so keeps its group. Of the domains that it can be in those
    // of the kernel stay, and one of this module is not freed before we give up the lock.
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
    /// Its accesses do not look into the caches of the processors, which only the DMA API can make
    /// up for.
    NotCoherent,
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
            NotAttached::NotCoherent => EPERM,
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
            Self::NotCoherent => {
                f.write_str("the device does not look into the processors' caches")
            }
            Self::InUse => f.write_str("the device is in another domain"),
            Self::Failed(e) => write!(f, "error {}", e.to_errno()),
        }
    }
}

/// A domain; freed when the last who has a share of it is gone.
///
/// That may be after the device has left it, and the driver is unbound: a value that was leaked can
/// hold what is mapped, and be dropped with the device's resources, the older ones last.
///
/// # Invariants
///
/// `domain` is a paging domain that nobody else frees.
pub(super) struct Raw {
    domain: NonNull<bindings::iommu_domain>,
    /// What the domain's token points to.
    _on_fault: Option<Pin<KBox<fault::Token>>>,
}

// SAFETY: a domain belongs to no thread, and the rest may be sent.
unsafe impl Send for Raw {}

// SAFETY: the functions of the IOMMU may be called by any thread.
unsafe impl Sync for Raw {}

impl Raw {
    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::iommu_domain {
        self.domain.as_ptr()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: by the type invariant. Who attached the device has a share until it has left.
        unsafe { bindings::iommu_domain_free(self.as_ptr()) };
    }
}

/// A device in a domain that was made for it; dropping it takes it out.
///
/// # Invariants
///
/// `dev` is attached to `domain`.
pub(super) struct Attached {
    domain: Arc<Raw>,
    dev: ARef<Device>,
}

impl Attached {
    pub(super) fn new(
        dev: &Device<Bound>,
        on_fault: Option<Arc<dyn FaultHandler>>,
    ) -> Result<Self, NotAttached> {
        let devices = count(dev).ok_or(NotAttached::NoIommu)?;
        if devices != 1 {
            return Err(NotAttached::SharedGroup(devices));
        }
        // SAFETY: the device is valid.
        if !unsafe { helpers::phyr_helper_dev_is_dma_coherent(raw::device(dev)) } {
            return Err(NotAttached::NotCoherent);
        }
        let token = match on_fault {
            None => None,
            Some(handler) => Some(fault::Token::new(dev, handler).map_err(NotAttached::Failed)?),
        };
        fail::at(Point::iommu_paging_domain_alloc_flags).map_err(NotAttached::Failed)?;
        // SAFETY: the device is bound, and has an IOMMU: it is in a group.
        let domain = unsafe { bindings::iommu_paging_domain_alloc_flags(raw::device(dev), 0) };
        let domain = from_err_ptr(domain).map_err(|e| match e {
            EOPNOTSUPP => NotAttached::Unsupported,
            e => NotAttached::Failed(e),
        })?;
        let domain = NonNull::new(domain).ok_or(NotAttached::Failed(ENOMEM))?;
        if let Some(token) = &token {
            // SAFETY: the domain is new, and the token is freed after it.
            unsafe { token.install(domain) };
        }
        // INVARIANT: it is new. If there is no memory for the share, it is freed.
        let domain = Raw {
            domain,
            _on_fault: token,
        };
        let domain = Arc::new(domain, GFP_KERNEL).map_err(|e| NotAttached::Failed(e.into()))?;

        fail::at(Point::iommu_attach_device).map_err(|_| NotAttached::InUse)?;
        // SAFETY: the device is bound, the domain valid and of its IOMMU.
        let result = unsafe { bindings::iommu_attach_device(domain.as_ptr(), raw::device(dev)) };
        to_result(result).map_err(|e| match e {
            EBUSY => NotAttached::InUse,
            e => NotAttached::Failed(e),
        })?;
        // INVARIANT: just attached.
        Ok(Self {
            domain,
            dev: dev.into(),
        })
    }

    pub(super) fn domain(&self) -> &Arc<Raw> {
        &self.domain
    }

    /// The smallest page of the IOMMU.
    pub(super) fn granule(&self) -> Result<Granule, NotAttached> {
        // SAFETY: by the invariant of `Raw`.
        let bits = unsafe { (*self.domain.as_ptr()).pgsize_bitmap };
        // CAST: an `unsigned long` is at most 64 bits wide.
        Granule::new((bits & bits.wrapping_neg()) as u64).ok_or(NotAttached::Unsupported)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _lock = ATTACHED.lock();
        // By group: a device that has joined it meanwhile is in the domain as well.
        if let Some(group) = group(&self.dev) {
            // SAFETY: by the type invariant; the group goes back to the domain of the DMA API.
            unsafe {
                bindings::iommu_detach_group(self.domain.as_ptr(), group.as_ptr());
                bindings::iommu_group_put(group.as_ptr());
            }
        }
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
    fail::at(Point::iommu_group_get).ok()?;
    let group = group(dev)?;
    let mut count = 0u32;
    // SAFETY: the group is valid, and the number may be written.
    unsafe {
        bindings::iommu_group_for_each_dev(group.as_ptr(), (&raw mut count).cast(), Some(one_more));
        bindings::iommu_group_put(group.as_ptr());
    }
    Some(count)
}
