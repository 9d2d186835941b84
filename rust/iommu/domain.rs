// SPDX-License-Identifier: GPL-2.0

//! The domain itself; see the [crate](super).

use super::{
    attach::{
        self,
        Attached,
        NotAttached, //
    },
    direct,
    fault::FaultHandler,
    life::{
        Fixed,
        Raw, //
    },
    mapping::{
        Mapping,
        Reason, //
    },
    msi,
    pages,
    space::{
        Kind,
        Space, //
    },
    window::Window, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    devres::Devres,
    fmt,
    prelude::*,
    ptr::Alignment,
    sync::Arc,
    warn_on, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    memory::Memory,
    space::IovaSpace,
    DmaAddr,
    Granule,
    Limits,
    MapError,
    Mapper, //
    PhysAddr,
};

/// How a device may access a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    read: bool,
    write: bool,
    execute: bool,
    cached: bool,
}

impl Access {
    /// The device may read.
    pub const READ: Self = Self {
        read: true,
        write: false,
        execute: false,
        cached: true,
    };

    /// The device may write.
    pub const WRITE: Self = Self {
        read: false,
        write: true,
        ..Self::READ
    };

    /// The device may do both.
    pub const READ_WRITE: Self = Self {
        write: true,
        ..Self::READ
    };

    /// It may also fetch instructions, where the IOMMU tells that apart.
    #[must_use]
    pub const fn executable(self) -> Self {
        Self {
            execute: true,
            ..self
        }
    }

    /// Its accesses do not look into the caches of the processors.
    #[must_use]
    pub const fn uncached(self) -> Self {
        Self {
            cached: false,
            ..self
        }
    }

    /// As `iommu_map()` takes it.
    pub(super) fn prot(self, mmio: bool) -> i32 {
        let mut prot = 0;
        let mut set = |on, bit| {
            if on {
                prot |= bit;
            }
        };
        set(self.read, bindings::IOMMU_READ);
        set(self.write, bindings::IOMMU_WRITE);
        set(!self.execute, bindings::IOMMU_NOEXEC);
        set(self.cached && !mmio, bindings::IOMMU_CACHE);
        set(mmio, bindings::IOMMU_MMIO);
        // CAST: a few low bits.
        prot as i32
    }
}

/// An address space of a device, which a driver fills.
///
/// A handle: its clones, and the mappings, are of the same domain. The device leaves it when the
/// last of them is dropped. If one is leaked, the device leaves the domain when the driver is
/// unbound; memory of mappings that are leaked is never freed.
#[derive(Clone)]
pub struct Domain<'bound>(pub(super) Arc<Inner<'bound>>);

/// The domain itself.
///
/// Declared first, what keeps the device in it goes first, and then what it had to reach all the
/// time.
pub(super) struct Inner<'bound> {
    _attached: Devres<Attached>,
    _fixed: Fixed,
    pub(super) raw: Arc<Raw>,
    pub(super) dev: &'bound Device<Bound>,
    pub(super) granule: Granule,
    pub(super) space: Pin<KBox<Space>>,
}

impl<'bound> Domain<'bound> {
    /// Makes an empty domain and lets `dev` see it, and nothing else.
    ///
    /// Its DMA mask must have been set: it ends the addresses that there are. The device must not
    /// be doing DMA; what the DMA API has mapped for it is out of its reach until the domain is
    /// dropped, and nothing is mapped by it meanwhile. Message-signalled interrupts that are
    /// allocated already get through, also where the IOMMU translates them; there (not on x86) the
    /// kernel refuses to allocate others meanwhile, with `EOPNOTSUPP`.
    ///
    /// Several threads may call this, also for one device, of which one gets a domain.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// [`NotAttached`] has the reasons.
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
    ) -> Result<Self, NotAttached> {
        // SAFETY: there are no more regions.
        unsafe { Self::attach_to(dev, on_fault, &[]) }
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
        regions: &[direct::Region],
    ) -> Result<Self, NotAttached> {
        // SAFETY: the device may access `regions` until the domain is gone: the caller's promise.
        unsafe { Self::attach_to(dev, None, regions) }
    }

    /// [`Domain::attach`], with `more` regions than the platform has.
    ///
    /// # Safety
    ///
    /// The device may access all of these regions until the domain is gone.
    unsafe fn attach_to(
        dev: &'bound Device<Bound>,
        on_fault: Option<Arc<dyn FaultHandler>>,
        more: &[direct::Region],
    ) -> Result<Self, NotAttached> {
        attach::check(dev)?;
        let raw = Raw::new(dev, on_fault)?;
        let raw = Arc::new(raw, GFP_KERNEL).map_err(|e| NotAttached::Failed(e.into()))?;
        // Before the device is attached, as it may be at it. Dropped after the device has left.
        // SAFETY: the device may access the regions of `more` until the domain is gone: the
        // caller's promise. Nothing is attached to the domain yet.
        let mut fixed = unsafe { direct::map(dev, &raw, more) }?;
        let (attached, before) = Attached::new(dev, raw.clone())?;
        let granule = raw.granule().ok_or(NotAttached::Unsupported)?;
        let space = Space::new(dev, &raw, granule, fixed.ranges()).map_err(NotAttached::Failed)?;
        // SAFETY: only from its default domain a device is attached to another, and that was in one
        // critical section; the room is new.
        unsafe { msi::map(dev, &before, &mut fixed, granule, &space) }
            .map_err(NotAttached::Failed)?;
        fail::at(Point::devres_add).map_err(NotAttached::Failed)?;
        // If there is no memory for it, the device leaves the domain.
        let attached = Devres::new(dev, Ok::<_, Error>(attached)).map_err(NotAttached::Failed)?;

        let inner = Inner {
            _attached: attached,
            _fixed: fixed,
            raw,
            dev,
            granule,
            space,
        };
        match Arc::new(inner, GFP_KERNEL) {
            Ok(inner) => Ok(Self(inner)),
            Err(e) => Err(NotAttached::Failed(e.into())),
        }
    }

    /// The device.
    pub fn device(&self) -> &'bound Device<Bound> {
        self.0.dev
    }

    /// The smallest page that the IOMMU maps: addresses and lengths are multiples of it.
    pub fn granule(&self) -> Granule {
        self.0.granule
    }

    /// Maps `memory`, which the mapping owns from now on, at an IOVA that the domain chooses.
    ///
    /// It is aligned so that the largest pages can be used that fit in the memory, if there is room
    /// for that, or else those that are next.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// The memory comes back, and nothing is mapped; [`Reason`] has the reasons.
    pub fn map<M: Memory>(
        &self,
        memory: M,
        access: Access,
    ) -> Result<Mapping<'bound, M>, MapError<M, Reason>> {
        let bits = self.0.page_bits();
        let largest = pages::largest(bits, memory.len());
        Mapping::new(self, memory, access, |len| {
            let smaller = |align: &u64| pages::next_smaller(bits, *align);
            for align in core::iter::successors(Some(largest), smaller) {
                match self.0.space.take(len, align, Kind::Mapped) {
                    Err(Reason::NoSpace) => {}
                    taken => return taken,
                }
            }
            Err(Reason::NoSpace)
        })
    }

    /// As [`Domain::map`], at a multiple of `align`.
    ///
    /// # Errors
    ///
    /// Those of [`Domain::map`].
    pub fn map_aligned<M: Memory>(
        &self,
        memory: M,
        align: Alignment,
        access: Access,
    ) -> Result<Mapping<'bound, M>, MapError<M, Reason>> {
        // CAST: a `usize` is at most 64 bits wide.
        let align = align.as_usize() as u64;
        Mapping::new(self, memory, access, |len| {
            self.0.space.take(len, align, Kind::Mapped)
        })
    }

    /// As [`Domain::map`], at `iova`.
    ///
    /// # Errors
    ///
    /// Those of [`Domain::map`].
    pub fn map_at<M: Memory>(
        &self,
        memory: M,
        iova: DmaAddr,
        access: Access,
    ) -> Result<Mapping<'bound, M>, MapError<M, Reason>> {
        Mapping::new(self, memory, access, |len| {
            self.0.space.take_at(iova.into_raw(), len, Kind::Mapped)
        })
    }

    /// Makes a mapper whose mappings are in this domain, in `room` bytes of it, rounded up to a power
    /// of two, that are its own from now on.
    ///
    /// What is written for a mapper does as well with this one. Its mappings, like those of the DMA
    /// API, neither sleep nor take a lock that others hold for long; they are at addresses that the
    /// mapper chooses, which [`Domain::map`] gives to nobody else.
    ///
    /// Where memory begins or ends within a granule, the device gets to see all of that granule, as
    /// with the DMA API.
    ///
    /// Context: process context, may sleep. So may dropping the last of the mapper, its clones and
    /// the mappings that it has made.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `limits` do not even allow a granule in a segment, or ask for an alignment
    ///   beyond it; or `room` is zero.
    /// - `EOPNOTSUPP`: the granule is larger than a page.
    /// - `EOVERFLOW`: `room` cannot be rounded up.
    /// - `EACCES`: the device is not trusted with more than the memory: use [`Domain::map`].
    /// - `ENOSPC`: the domain has no such room.
    /// - `ENOMEM`: no memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{device::{Bound, Device}, prelude::*};
    /// use phyr::{Limits, Mapper};
    /// use phyr_iommu::Domain;
    ///
    /// /// The same mapper for what comes after, in a domain of the device's own if possible.
    /// fn mapper<'bound>(dev: &'bound Device<Bound>) -> Result<Mapper<'bound>> {
    ///     let limits = Limits::of_device(dev);
    ///     match Domain::attach(dev, None) {
    ///         Ok(domain) => domain.mapper(limits, 1 << 30),
    ///         Err(why) => {
    ///             dev_info!(dev, "by the DMA API: {}\n", why);
    ///             Mapper::new(dev, limits)
    ///         }
    ///     }
    /// }
    /// ```
    pub fn mapper(&self, limits: Limits, room: usize) -> Result<Mapper<'bound>> {
        let dev = self.device();
        let space = || -> Result<Arc<dyn IovaSpace + 'bound>> {
            let window = Window::new(self, room).map_err(|reason| {
                dev_err!(dev, "phyr: no {} bytes in the domain: {}\n", room, reason);
                Error::from(reason)
            })?;
            Ok(Arc::new(window, GFP_KERNEL)?)
        };
        // SAFETY: the window holds the domain, and with it the device in it; a device that is not
        // coherent is given no domain.
        unsafe { Mapper::in_space(dev, self.granule(), limits, space) }
    }

    /// Where the device gets to through `iova`, by the IOMMU's page table: `iommu_iova_to_phys()`.
    ///
    /// `None` where nothing is mapped, and in the room of a
    /// [mapper](Domain::mapper), which maps there by itself.
    ///
    /// Context: process context, may sleep.
    pub fn lookup(&self, iova: DmaAddr) -> Option<PhysAddr> {
        let iova = iova.into_raw();
        let paddr = self.0.space.while_mapped(iova, || {
            // SAFETY: the domain is valid, and no page table on the way is freed: what is mapped
            // there is not unmapped meanwhile.
            unsafe { bindings::iommu_iova_to_phys(self.0.raw.as_ptr(), iova) }
        })?;
        (paddr != 0).then(|| PhysAddr::from_raw(paddr))
    }

    /// Calls `f` with the IOVA and the length of everything that is mapped, in ascending order.
    ///
    /// What is mapped or unmapped meanwhile may be among it or not.
    ///
    /// Context: process context; as `f`, which no lock is held for.
    pub fn for_each(&self, f: impl FnMut(DmaAddr, u64)) {
        self.0.space.for_each(f);
    }

    /// Whether `other` is a handle of the same domain.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Inner<'_> {
    /// The sizes of page that the IOMMU has, a bit each.
    pub(super) fn page_bits(&self) -> u64 {
        // SAFETY: the domain is valid; the field does not change once the device is in it.
        // CAST: an `unsigned long` is at most 64 bits wide.
        unsafe { (*self.raw.as_ptr()).pgsize_bitmap as u64 }
    }

    /// Maps one piece. May sleep if `flags` allow it.
    ///
    /// # Safety
    ///
    /// The memory stays allocated until it is unmapped, and is such as the device may access with
    /// `prot`; the range is taken in `space`, and aligned.
    pub(super) unsafe fn map_piece(
        &self,
        iova: u64,
        paddr: u64,
        len: usize,
        prot: i32,
        flags: bindings::gfp_t,
    ) -> Result {
        fail::at(Point::iommu_map)?;
        let domain = self.raw.as_ptr();
        // SAFETY: the domain is valid; the rest is what the caller guarantees.
        // CAST: an `unsigned long` has 64 bits, as `phyr` asks of the kernel.
        let result = unsafe { bindings::iommu_map(domain, iova as usize, paddr, len, prot, flags) };
        kernel::error::to_result(result)
    }

    /// Unmaps `len` bytes at `iova`, and flushes; whether all of it was mapped.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// That much is mapped there, and the device is done with it.
    #[must_use]
    pub(super) unsafe fn unmap_range(&self, iova: u64, len: usize) -> bool {
        // SAFETY: as above.
        // CAST: as above.
        let unmapped = unsafe { bindings::iommu_unmap(self.raw.as_ptr(), iova as usize, len) };
        self.was_all(iova, len, unmapped)
    }

    /// Whether of `len` bytes at `iova`, which were mapped, all were `unmapped`.
    ///
    /// If it is otherwise the IOMMU's driver is broken, as what was mapped is unmapped with all of
    /// its pages; that is warned of, as the DMA API does. The address is not given out again.
    pub(super) fn was_all(&self, iova: u64, len: usize, unmapped: usize) -> bool {
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

impl fmt::Debug for Domain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        self.for_each(|iova, len| {
            list.entry(&(iova.into_raw()..iova.into_raw() + len));
        });
        list.finish()
    }
}

/// Checks, when it is compiled, that domains and their mappings can be shared between threads.
const _: () = {
    const fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Domain<'_>>();
};
