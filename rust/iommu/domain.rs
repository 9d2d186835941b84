// SPDX-License-Identifier: GPL-2.0

//! The handle of a domain, with which a driver uses it.

use super::{
    attach::AttachedDomain,
    error::{
        AttachError,
        DomainError, //
    },
    fault::FaultHandler,
    gather::Gather,
    mapping::Mapping,
    region::IovaRegion, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    fmt,
    prelude::*,
    sync::Arc, //
};
use phyr::{
    memory::Memory,
    space::IovaSpace,
    Access,
    DmaAddr,
    Granule,
    Limits,
    MapError,
    Mapper, //
};

/// An address space of a device, which a driver fills.
///
/// A handle: its clones, and the mappings, are of the same domain. The device leaves it when the
/// last of them is dropped. If one is leaked, the device leaves the domain when the driver is
/// unbound; memory of mappings that are leaked is never freed.
///
/// [`Debug`](fmt::Debug) prints the IOVAs of the mappings in ascending order.
#[derive(Clone)]
pub struct Domain<'bound>(Arc<AttachedDomain<'bound>>);

impl<'bound> Domain<'bound> {
    /// Attaches `dev` to a new domain, in which it reaches nothing until something is mapped.
    ///
    /// The DMA mask must have been set: it ends the IOVAs that there are. The device must not be
    /// doing DMA; what the DMA API has mapped for it is out of its reach until the domain is
    /// dropped, and nothing is mapped by the DMA API meanwhile. Message-signalled interrupts that
    /// are allocated already get through, also where the IOMMU translates them; there (not on x86)
    /// the kernel refuses to allocate others meanwhile, with `EOPNOTSUPP`.
    ///
    /// Several threads may call this, also for one device, of which one gets a domain.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// Those of [`AttachError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{device::{Bound, Device}, prelude::*};
    /// use phyr::{memory::Chunks, DmaAddr};
    /// use phyr_iommu::{Access, Domain};
    ///
    /// fn run(dev: &Device<Bound>) -> Result {
    ///     let domain = Domain::attach(dev, None)?;
    ///     let code = Chunks::zeroed(1 << 20, 0, GFP_KERNEL)?;
    ///     let code = domain.map_at(code, DmaAddr::from_raw(0x1000_0000), Access::READ)?;
    ///     // ... the device runs ...
    ///     drop(code.unmap());
    ///     Ok(())
    /// }
    /// ```
    pub fn attach(
        dev: &'bound Device<Bound>,
        on_fault: Option<Arc<dyn FaultHandler>>,
    ) -> Result<Self, AttachError> {
        // SAFETY: there are no more regions than those of the platform.
        unsafe { AttachedDomain::new(dev, on_fault, &[]) }.map(Self)
    }

    /// Attaches as [`Domain::attach`] does, with `regions` besides those of the platform; for
    /// tests.
    ///
    /// # Errors
    ///
    /// Those of [`Domain::attach`].
    ///
    /// # Safety
    ///
    /// The device may access all of the regions until the domain is gone.
    #[cfg(CONFIG_KUNIT = "y")]
    #[doc(hidden)]
    pub unsafe fn attach_with(
        dev: &'bound Device<Bound>,
        regions: &[crate::reserved::ReservedRegion],
    ) -> Result<Self, AttachError> {
        // SAFETY: the caller promises that the device may access `regions` until the domain is
        // gone.
        unsafe { AttachedDomain::new(dev, None, regions) }.map(Self)
    }

    /// Returns the device.
    pub fn device(&self) -> &'bound Device<Bound> {
        self.0.dev
    }

    /// Returns the smallest page that the IOMMU maps: addresses and lengths are multiples of it.
    pub fn granule(&self) -> Granule {
        self.0.granule
    }

    /// Maps `memory`, which the mapping owns from now on, at an IOVA that the domain chooses.
    ///
    /// The IOVA is aligned so that the largest pages can be used that fit in the memory, or where
    /// no range is left for that the next smaller ones.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// Those of [`DomainError`]. The memory comes back, and nothing is mapped.
    pub fn map<M: Memory>(
        &self,
        memory: M,
        access: Access,
    ) -> Result<Mapping<'bound, M>, MapError<M, DomainError>> {
        Mapping::new(&self.0, memory, access, None)
    }

    /// Maps as [`Domain::map`] does, at `iova`.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// Those of [`Domain::map`].
    pub fn map_at<M: Memory>(
        &self,
        memory: M,
        iova: DmaAddr,
        access: Access,
    ) -> Result<Mapping<'bound, M>, MapError<M, DomainError>> {
        Mapping::new(&self.0, memory, access, Some(iova))
    }

    /// Makes room to end `capacity` mappings with one flush.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    pub fn gather<M: Memory>(&self, capacity: usize) -> Result<Gather<'bound, M>> {
        Gather::new(&self.0, capacity)
    }

    /// Makes a mapper whose mappings are in this domain, in a region of `size` bytes, rounded up to
    /// a power of two, that is its own from now on.
    ///
    /// Code that is written for a mapper works with this one. Its mappings, like those of the DMA
    /// API, neither sleep nor take a lock that others hold for long; they are at addresses that the
    /// mapper chooses, which [`Domain::map`] gives to nobody else.
    ///
    /// Where memory begins or ends within a granule, the device can access all of that granule, as
    /// with the DMA API.
    ///
    /// Context: process context, may sleep. So may dropping the last of the mapper, its clones and
    /// the mappings that it has made.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `limits` do not even allow a granule in a segment, or ask for an alignment
    ///   beyond it; or `size` is zero.
    /// - `EOPNOTSUPP`: the granule is larger than a page.
    /// - `EOVERFLOW`: `size` cannot be rounded up.
    /// - `EACCES`: the device is not trusted with more than the memory: use [`Domain::map`].
    /// - `ENOSPC`: the domain has no such region left.
    /// - `ENOMEM`: no memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{device::{Bound, Device}, prelude::*};
    /// use phyr::{Limits, Mapper};
    /// use phyr_iommu::Domain;
    ///
    /// /// Returns a mapper for the code that follows, in a domain of the device's own if possible.
    /// fn mapper<'bound>(dev: &'bound Device<Bound>) -> Result<Mapper<'bound>> {
    ///     let limits = Limits::of_device(dev);
    ///     match Domain::attach(dev, None) {
    ///         Ok(domain) => domain.mapper(limits, 1 << 30),
    ///         Err(error) => {
    ///             dev_info!(dev, "by the DMA API: {}\n", error);
    ///             Mapper::new(dev, limits)
    ///         }
    ///     }
    /// }
    /// ```
    pub fn mapper(&self, limits: Limits, size: usize) -> Result<Mapper<'bound>> {
        let dev = self.device();
        let space = || -> Result<Arc<dyn IovaSpace + 'bound>> {
            let region = IovaRegion::new(&self.0, size).map_err(|error| {
                dev_err!(dev, "phyr: no {} bytes in the domain: {}\n", size, error);
                Error::from(error)
            })?;
            Ok(Arc::new(region, GFP_KERNEL)?)
        };
        // SAFETY: the region holds the domain, and with it the device in it; a device that is not
        // coherent is given no domain.
        unsafe { Mapper::in_space(dev, self.granule(), limits, space) }
    }
}

impl fmt::Debug for Domain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        self.0.iovas.for_each_mapping(|iova, len| {
            list.entry(&format_args!("{:#x}..{:#x}", iova, iova + len));
        });
        list.finish()
    }
}

/// Checks, when it is compiled, that domains and their mappings can be shared between threads.
const _: () = {
    const fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Domain<'_>>();
};
