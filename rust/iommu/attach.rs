// SPDX-License-Identifier: GPL-2.0

//! A device in a domain of its own, and back.

use super::{
    life::Raw,
    msi, //
};
use crate::bindings as helpers;
use core::ptr::NonNull;
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    fmt,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};
use phyr::{
    device::is_coherent,
    fail::{
        self,
        Point, //
    },
    ownership::{
        Ownership,
        ATTACHED, //
    },
    raw, //
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
/// Context: process context, may sleep.
pub fn translation(dev: &Device<Bound>) -> Translation {
    let _lock = ATTACHED.lock();
    // SAFETY: the device is bound, and so keeps its group. Of the domains that it can be in those
    // of the kernel stay, and one of this module is not freed before we give up the lock.
    let domain = unsafe { bindings::iommu_get_domain_for_dev(raw::device(dev)) };
    if domain.is_null() {
        return Translation::None;
    }
    // SAFETY: as the lock is held, the domain is valid.
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
    /// So many dma-bufs are mapped for it, which it would not get at any more.
    DmaBufs(usize),
    /// The platform asks for this region to be in reach of the device all the time, one to one,
    /// and it cannot be.
    Direct {
        /// The first address.
        first: u64,
        /// The last.
        last: u64,
        /// `EDOM`: it is not in whole granules. `EOPNOTSUPP`: the IOMMU's driver maps nothing
        /// before the device is attached. Else what mapping it failed with.
        error: Error,
    },
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
            NotAttached::InUse | NotAttached::DmaBufs(_) => EBUSY,
            NotAttached::Direct { error, .. } | NotAttached::Failed(error) => error,
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
            Self::DmaBufs(count) => write!(f, "{count} dma-bufs are mapped for the device"),
            Self::Direct { first, last, error } => write!(
                f,
                "the platform wants {first:#x} to {last:#x} mapped all the time: {error:?}"
            ),
            Self::Failed(e) => write!(f, "{e:?}"),
        }
    }
}

/// A device in a domain that was made for it; dropping it takes it out.
///
/// # Invariants
///
/// `dev` is attached to `domain`, whose entry is in the device's slot.
pub(super) struct Attached {
    domain: Arc<Raw>,
    dev: ARef<Device>,
}

impl Attached {
    /// Attaches `dev` to `domain`, and tells in which it was before.
    pub(super) fn new(
        dev: &Device<Bound>,
        domain: Arc<Raw>,
    ) -> Result<(Self, msi::Default), NotAttached> {
        let mut lock = ATTACHED.lock();
        let slot = Ownership::of(dev);
        if slot.has(raw::device(dev)) {
            return Err(NotAttached::InUse);
        }
        match lock.of(dev) {
            0 => {}
            count => return Err(NotAttached::DmaBufs(count)),
        }
        // With the lock: another thread may take the device out of a domain, and free that.
        let before = msi::Default::of(dev);
        fail::at(Point::iommu_attach_device).map_err(|_| NotAttached::InUse)?;
        // Before it is so, that nobody maps for it with the DMA API who does not see it.
        // SAFETY: the lock is held, and the domain is new. The entry is there for a grace period
        // after the domain was dropped; it is removed before.
        unsafe { slot.insert(&mut lock, domain.entry()) };
        // SAFETY: the device is bound, the domain valid and of its IOMMU.
        let result = unsafe { bindings::iommu_attach_device(domain.as_ptr(), raw::device(dev)) };
        if let Err(e) = to_result(result) {
            slot.remove(&mut lock, domain.entry());
            return Err(match e {
                EBUSY => NotAttached::InUse,
                e => NotAttached::Failed(e),
            });
        }
        // INVARIANT: just attached.
        let this = Self {
            domain,
            dev: dev.into(),
        };
        Ok((this, before))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut lock = ATTACHED.lock();
        // By group: a device that has joined it meanwhile is in the domain as well.
        if let Some(group) = group(&self.dev) {
            // SAFETY: by the type invariant; the group goes back to the domain of the DMA API.
            unsafe {
                bindings::iommu_detach_group(self.domain.as_ptr(), group.as_ptr());
                bindings::iommu_group_put(group.as_ptr());
            }
        }
        Ownership::of(&self.dev).remove(&mut lock, self.domain.entry());
        drop(lock);
        // Not when the last share goes, which may be after the driver has.
        self.domain.silence();
    }
}

/// Checks that `dev` is one that can be attached to a domain.
///
/// # Errors
///
/// [`NotAttached`] has the reasons.
pub(super) fn check(dev: &Device<Bound>) -> Result<(), NotAttached> {
    let devices = count(dev).ok_or(NotAttached::NoIommu)?;
    if devices != 1 {
        return Err(NotAttached::SharedGroup(devices));
    }
    if !is_coherent(dev) {
        return Err(NotAttached::NotCoherent);
    }
    Ok(())
}

/// The IOMMU's group of a device.
fn group(dev: &Device) -> Option<NonNull<bindings::iommu_group>> {
    // SAFETY: the device is valid; a reference is taken, if there is a group.
    NonNull::new(unsafe { bindings::iommu_group_get(raw::device(dev)) })
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
