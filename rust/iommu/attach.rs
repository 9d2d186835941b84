// SPDX-License-Identifier: GPL-2.0

//! A device in a domain of its own, and back in that of the DMA API.

use super::{
    error::AttachError,
    fault::FaultHandler,
    iova_tree::IovaTree,
    msi::{
        self,
        DefaultDomain, //
    },
    paging::PagingDomain,
    platform::PlatformMappings,
    reserved::ReservedRegion, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    devres::Devres,
    error::to_result,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    warn_on, //
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
    raw,
    Granule, //
};

/// A domain with the device in it, shared by its handles and by what is mapped.
///
/// Fields are dropped in this order: the device leaves, before what it had to reach all the time is
/// unmapped.
pub(super) struct AttachedDomain<'bound> {
    _guard: Devres<AttachGuard>,
    _platform: PlatformMappings,
    pub(super) paging: Arc<PagingDomain>,
    pub(super) iovas: Pin<KBox<IovaTree>>,
    pub(super) dev: &'bound Device<Bound>,
    pub(super) granule: Granule,
}

impl<'bound> AttachedDomain<'bound> {
    /// Attaches `dev` to a new domain, in which the regions that the platform needs are mapped, and
    /// those of `more`.
    ///
    /// # Errors
    ///
    /// Those of [`AttachError`].
    ///
    /// # Safety
    ///
    /// The device may access the regions of `more` until the domain is gone.
    pub(super) unsafe fn new(
        dev: &'bound Device<Bound>,
        on_fault: Option<Arc<dyn FaultHandler>>,
        more: &[ReservedRegion],
    ) -> Result<Arc<Self>, AttachError> {
        check(dev)?;
        let paging = PagingDomain::new(dev, on_fault)?;
        let paging = Arc::new(paging, GFP_KERNEL).map_err(Error::from)?;
        // The firmware may be doing DMA as the device is attached.
        // SAFETY: the caller promises that the device may access the regions of `more`. The domain
        // is new, and `iovas` reserves the ranges before anything else is mapped.
        let mut platform = unsafe { PlatformMappings::new(dev, &paging, more) }?;
        let (guard, before) = AttachGuard::new(dev, paging.clone())?;
        let granule = paging.granule().ok_or(AttachError::Unsupported)?;
        let iovas = IovaTree::new(dev, &paging, granule, platform.ranges())?;
        // SAFETY: `before` is of `dev`; `iovas` is of the new domain, and has the ranges that are
        // mapped in it.
        unsafe { msi::map(dev, &before, &mut platform, granule, &iovas) }?;
        fail::at(Point::devres_add)?;
        // If this fails, the guard is dropped, and the device leaves the domain.
        let guard = Devres::new(dev, Ok::<_, Error>(guard))?;
        let this = Self {
            _guard: guard,
            _platform: platform,
            paging,
            iovas,
            dev,
            granule,
        };
        Ok(Arc::new(this, GFP_KERNEL).map_err(Error::from)?)
    }

    /// Returns whether all of `len` mapped bytes at `iova` were unmapped.
    ///
    /// Otherwise the IOMMU's driver is broken, which is warned of, as the DMA API does. The IOVAs
    /// must not be allocated again then.
    pub(super) fn all_unmapped(&self, iova: u64, len: usize, unmapped: usize) -> bool {
        if warn_on!(unmapped != len) {
            dev_err!(
                self.dev,
                "phyr: {} of {} bytes were mapped at {:#x}\n",
                unmapped,
                len,
                iova
            );
        }
        unmapped == len
    }
}

/// Keeps a device attached to a domain; dropping it detaches the device.
///
/// # Invariants
///
/// `dev` is attached to `paging`.
struct AttachGuard {
    paging: Arc<PagingDomain>,
    dev: ARef<Device>,
}

impl AttachGuard {
    /// Attaches `dev` to `paging`, which is new. Returns the domain that the device was in, too.
    ///
    /// # Errors
    ///
    /// - [`AttachError::InUse`], [`AttachError::DmaBufs`]: the device is needed where it is.
    /// - [`AttachError::Failed`] with the error of the IOMMU's driver.
    fn new(
        dev: &Device<Bound>,
        paging: Arc<PagingDomain>,
    ) -> Result<(Self, DefaultDomain), AttachError> {
        let mut lock = ATTACHED.lock();
        let ownership = Ownership::of(dev);
        if ownership.has(raw::device(dev)) {
            return Err(AttachError::InUse);
        }
        match lock.of(dev) {
            0 => {}
            count => return Err(AttachError::DmaBufs(count)),
        }
        // SAFETY: the device is bound, and so keeps its group.
        let before = unsafe { bindings::iommu_get_domain_for_dev(raw::device(dev)) };
        let before = NonNull::new(before).ok_or(AttachError::Unsupported)?;
        fail::at(Point::iommu_attach_device).map_err(|_| AttachError::InUse)?;
        // Inserted first: those who do not see the entry map for the device before it is attached.
        // SAFETY: the domain is new. Its entry is valid for a grace period of RCU after the domain
        // was dropped, and is removed before.
        unsafe { ownership.insert(&mut lock, paging.entry()) };
        // SAFETY: the device is bound, the domain valid and of its IOMMU.
        let result = unsafe { bindings::iommu_attach_device(paging.as_ptr(), raw::device(dev)) };
        if let Err(e) = to_result(result) {
            ownership.remove(&mut lock, paging.entry());
            return Err(match e {
                EBUSY => AttachError::InUse,
                e => AttachError::Failed(e),
            });
        }
        // SAFETY: a device is attached only if it is in its default domain, and the lock was held
        // since it was found in this one. It is bound for as long as `dev` is borrowed.
        let before = unsafe { DefaultDomain::new(before) };
        // INVARIANT: the device is attached.
        let dev = dev.into();
        Ok((Self { paging, dev }, before))
    }
}

impl Drop for AttachGuard {
    fn drop(&mut self) {
        let mut lock = ATTACHED.lock();
        // By group: a device that has joined it meanwhile is in the domain as well.
        if let Some(group) = group(&self.dev) {
            // SAFETY: by the type invariant the group is attached to the domain, and goes back to
            // that of the DMA API. `group` has taken the reference that is put.
            unsafe {
                bindings::iommu_detach_group(self.paging.as_ptr(), group.as_ptr());
                bindings::iommu_group_put(group.as_ptr());
            }
        }
        Ownership::of(&self.dev).remove(&mut lock, self.paging.entry());
        drop(lock);
        // Not as the last share of the domain goes, which may be after the driver has.
        self.paging.silence();
    }
}

/// Checks that `dev` is one that can be attached to a domain.
///
/// # Errors
///
/// - [`AttachError::NoIommu`], [`AttachError::SharedGroup`], [`AttachError::NotCoherent`].
fn check(dev: &Device<Bound>) -> Result<(), AttachError> {
    let devices = group_size(dev).ok_or(AttachError::NoIommu)?;
    if devices != 1 {
        return Err(AttachError::SharedGroup(devices));
    }
    if !is_coherent(dev) {
        return Err(AttachError::NotCoherent);
    }
    Ok(())
}

/// Returns the IOMMU's group of a device, with a reference to it.
fn group(dev: &Device) -> Option<NonNull<bindings::iommu_group>> {
    // SAFETY: the device is valid.
    NonNull::new(unsafe { bindings::iommu_group_get(raw::device(dev)) })
}

/// Returns the number of devices in the group of `dev`, or `None` if there is no IOMMU.
fn group_size(dev: &Device<Bound>) -> Option<u32> {
    fail::at(Point::iommu_group_get).ok()?;
    let group = group(dev)?;
    let mut count = 0u32;
    // SAFETY: the group is valid until it is put, and `one_more` writes a `u32`.
    unsafe {
        bindings::iommu_group_for_each_dev(group.as_ptr(), (&raw mut count).cast(), Some(one_more));
        bindings::iommu_group_put(group.as_ptr());
    }
    Some(count)
}

/// Counts a device.
///
/// # Safety
///
/// `count` points to a `u32`.
unsafe extern "C" fn one_more(_dev: *mut bindings::device, count: *mut c_void) -> c_int {
    // SAFETY: the caller passes a pointer to a `u32`.
    unsafe { *count.cast::<u32>() += 1 };
    0
}
