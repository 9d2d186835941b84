// SPDX-License-Identifier: GPL-2.0

//! Where a device's interrupts go: messages are writes, which an IOMMU may translate as others.
//!
//! The kernel gives each message an address as its interrupt is allocated, and maps the page of the
//! interrupt controller there in the domain that the device is in at that time. In a domain of the
//! driver's own the same page is mapped at the same address. On x86 no IOMMU translates messages,
//! and the platform says so by a reserved region.

use super::{
    life::Fixed,
    space::{
        Kind,
        Space, //
    },
    Reason, //
};
use crate::bindings as helpers;
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};
use phyr::{
    raw,
    Granule, //
};

/// The domain in which the kernel has a device that is bound.
pub(super) struct Default(*mut bindings::iommu_domain);

impl Default {
    /// Returns that of `dev`, if it is in no other now: with [`ATTACHED`](phyr::ownership::ATTACHED)
    /// held from this to where `dev` is attached to another.
    pub(super) fn of(dev: &Device<Bound>) -> Self {
        // SAFETY: the device is bound, and so keeps its group.
        Self(unsafe { bindings::iommu_get_domain_for_dev(raw::device(dev)) })
    }

    /// Returns the address of the controller's page that the device reaches at `iova`.
    ///
    /// # Safety
    ///
    /// It is the default domain of a device that is bound.
    unsafe fn lookup(&self, iova: u64) -> Option<u64> {
        // SAFETY: `self` is the default domain of a device that is bound: the kernel neither frees
        // nor changes it before the driver is unbound.
        let paddr = unsafe { bindings::iommu_iova_to_phys(self.0, iova) };
        (paddr != 0).then_some(paddr)
    }

    /// Returns whether the device's addresses are physical ones in it.
    ///
    /// # Safety
    ///
    /// As for [`Default::lookup`].
    unsafe fn is_identity(&self) -> bool {
        // SAFETY: `self` is the default domain of a device that is bound: it is valid until the
        // driver is unbound.
        unsafe { (*self.0).type_ == bindings::IOMMU_DOMAIN_IDENTITY }
    }
}

/// Maps in the domain of `fixed` where the interrupts go that `dev` has now, and takes the room in
/// `space`.
///
/// # Errors
///
/// - `EIO`: a message goes nowhere.
/// - Those of [`Reason`], and of [`Fixed::map`].
///
/// # Safety
///
/// `dev` was in `before`, its default domain, when it was attached to the domain of `fixed`, of
/// which `space` is; nothing is mapped in it but by `fixed`, and that is reserved in `space`.
pub(super) unsafe fn map(
    dev: &Device<Bound>,
    before: &Default,
    fixed: &mut Fixed,
    granule: Granule,
    space: &Space,
) -> Result {
    // SAFETY: `before` is the default domain of `dev`, which is bound.
    let is_identity = unsafe { before.is_identity() };
    let (mut addr, mut len) = (0, 0);
    for nr in 0.. {
        // SAFETY: the device is bound, the numbers may be written.
        if !unsafe {
            helpers::phyr_iommu_helper_msi_message(raw::device(dev), nr, &mut addr, &mut len)
        } {
            break;
        }
        // The IOMMU translated other accesses, and did not this.
        if len == 0 && (addr == 0 || !is_identity) {
            continue;
        }
        let iova = granule.align_down(addr);
        let len = granule.align_up(addr - iova + len.max(1)).ok_or(EIO)?;
        match space.take_at(iova, len, Kind::Reserved) {
            Ok(_) => {}
            // Not translated, or one that another message has, too.
            Err(Reason::Reserved) => continue,
            Err(reason) => return Err(reason.into()),
        }
        let paddr = if is_identity {
            iova
        } else {
            // SAFETY: `before` is the default domain of `dev`, which is bound.
            let paddr = unsafe { before.lookup(addr) }.ok_or(EIO)?;
            paddr.checked_sub(addr - iova).ok_or(EIO)?
        };
        let prot = bindings::IOMMU_WRITE | bindings::IOMMU_NOEXEC | bindings::IOMMU_MMIO;
        // SAFETY: the room was just taken, which nobody gives back; the page is one that the device
        // was allowed to write to before.
        // CAST: a few low bits.
        unsafe { fixed.map(iova, paddr, len, prot as i32) }?;
    }
    Ok(())
}
