// SPDX-License-Identifier: GPL-2.0

//! Message-signalled interrupts of a device in a domain of its own.
//!
//! A message is a write, which an IOMMU may translate like any other. The kernel gives each message
//! an address as its interrupt is allocated, and maps the page of the interrupt controller there in
//! the domain that the device is in at that time. In a domain of the driver's own the same page is
//! mapped at the same address. On x86 no IOMMU translates messages, and the platform says so by a
//! reserved region.

use super::{
    error::DomainError,
    iova_tree::{
        IovaTree,
        Owner, //
    },
    platform::PlatformMappings, //
};
use crate::bindings as helpers;
use core::ptr::NonNull;
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    iommu::pgtable::prot,
    prelude::*, //
};
use phyr::{
    raw,
    Granule, //
};

/// The default domain of a device: the one in which it is when its driver gives it no other.
///
/// # Invariants
///
/// The domain is valid, and nothing in it is unmapped.
pub(super) struct DefaultDomain(NonNull<bindings::iommu_domain>);

impl DefaultDomain {
    /// # Safety
    ///
    /// `domain` is the default domain of a device that is bound for as long as the value exists:
    /// the kernel neither frees nor changes it meanwhile.
    pub(super) unsafe fn new(domain: NonNull<bindings::iommu_domain>) -> Self {
        // INVARIANT: the caller promises that the kernel leaves it as it is.
        Self(domain)
    }

    /// Returns the address of the controller's page that the device reaches at `iova`.
    fn iova_to_phys(&self, iova: u64) -> Option<u64> {
        // SAFETY: by the type invariant the domain is valid, and nothing in it is unmapped.
        let paddr = unsafe { bindings::iommu_iova_to_phys(self.0.as_ptr(), iova) };
        (paddr != 0).then_some(paddr)
    }

    /// Returns whether the IOVAs in it are physical addresses.
    fn is_identity(&self) -> bool {
        // SAFETY: by the type invariant the domain is valid.
        unsafe { self.0.as_ref().type_ == bindings::IOMMU_DOMAIN_IDENTITY }
    }
}

/// Maps the pages to which the present interrupts of `dev` go in the domain of `mappings`, and
/// reserves them in `iovas`.
///
/// # Errors
///
/// - `EIO`: a message goes nowhere.
/// - Those of [`DomainError`], and of [`PlatformMappings::map`].
///
/// # Safety
///
/// - `before` is the default domain of `dev`.
/// - `iovas` is of the domain of `mappings`: nothing is mapped there but what is allocated in it.
pub(super) unsafe fn map(
    dev: &Device<Bound>,
    before: &DefaultDomain,
    mappings: &mut PlatformMappings,
    granule: Granule,
    iovas: &IovaTree,
) -> Result {
    let is_identity = before.is_identity();
    let (mut addr, mut len) = (0, 0);
    for nr in 0.. {
        // SAFETY: the device is bound, and both numbers may be written.
        if !unsafe {
            helpers::phyr_iommu_helper_msi_message(raw::device(dev), nr, &mut addr, &mut len)
        } {
            break;
        }
        // The IOMMU translated other accesses, but not this one.
        if len == 0 && (addr == 0 || !is_identity) {
            continue;
        }
        let iova = granule.align_down(addr);
        let len = granule.align_up(addr - iova + len.max(1)).ok_or(EIO)?;
        match iovas.alloc_at(iova, len, Owner::Platform) {
            Ok(()) => {}
            // Not translated, or the page of another message, too.
            Err(DomainError::Reserved) => continue,
            Err(error) => return Err(error.into()),
        }
        let paddr = if is_identity {
            iova
        } else {
            let paddr = before.iova_to_phys(addr).ok_or(EIO)?;
            paddr.checked_sub(addr - iova).ok_or(EIO)?
        };
        let prot = prot::WRITE | prot::NOEXEC | prot::MMIO;
        // SAFETY: the range was free in `iovas`, and is never freed. The page is one that the
        // device could write to in its default domain, at the same address, in whole granules.
        // CAST: a few low bits.
        unsafe { mappings.map(iova, paddr, len, prot as i32) }?;
    }
    Ok(())
}
