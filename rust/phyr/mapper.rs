// SPDX-License-Identifier: GPL-2.0

//! The mapper of a device: made once at probe, asked on every I/O.
//!
//! A [`Mapper`] knows whether an IOMMU translates for its device, the granule, and the limits of a
//! segment. The driver need not know: its code is the same on every machine.

use super::{
    device,
    limits::Limits,
    map::choose::Reach,
    ownership::{
        while_not_owned,
        Ownership, //
    },
    raw,
    space::{
        Domain,
        IovaSpace, //
    },
    types::Granule, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};

/// Maps memory for one device, for as long as a driver is bound to it.
///
/// A handful of words, which each mapping that owns its memory has a copy of.
///
/// # Examples
///
/// ```
/// use kernel::{device::{Bound, Device}, prelude::*};
/// use phyr::{Limits, Mapper};
///
/// fn probe(dev: &Device<Bound>) -> Result {
///     let mapper = Mapper::new(dev, Limits::of_device(dev))?;
///     match mapper.granule() {
///         Some(granule) => dev_info!(dev, "IOMMU joins at {} bytes\n", granule.size()),
///         None => dev_info!(dev, "direct map\n"),
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Mapper<'bound> {
    dev: &'bound Device<Bound>,
    limits: Limits,
    /// `None`: no IOMMU translates for this device.
    granule: Option<Granule>,
    /// The device may see the whole granules around a buffer; of one that may not, the DMA API
    /// bounces what is not whole granules.
    trusted: bool,
    /// The device's accesses are coherent with the CPU's caches.
    coherent: bool,
    max_len: usize,
    /// Direct map, with a DMA mask below the top of memory and no bounce buffers: each mapping is
    /// checked first, as the DMA API would warn of what is out of reach.
    limited: bool,
    /// The short path by the DMA API is not taken: `limited`, or there is a `space`.
    special: bool,
    /// The address space of the driver's own in which it maps; `None`: that of the DMA API.
    space: Option<Arc<dyn IovaSpace + 'bound>>,
    /// The domain in which mappings can be unlinked, to be flushed together; `None`: each mapping
    /// is unmapped, and flushed, by itself.
    domain: Option<Domain>,
    /// A long range of the DMA API's is unlinked a part at a time.
    unlinks_in_parts: bool,
    /// The IOMMU has to be told of added pages in `domain`: a sync does more than test a flag.
    is_told_of_maps: bool,
    /// A single phyr is linked in an IOVA range, too, so that it can be unlinked in `domain`; not
    /// in lazy mode, in which the DMA API puts off its flush for longer.
    links_singles: bool,
    /// Bucket of the devices that are in a domain of a driver's own; empty in the common case.
    ownership: &'static Ownership,
}

impl<'bound> Mapper<'bound> {
    /// Makes the mapper of `dev`.
    ///
    /// The bits of an address that bounce buffers keep ([`Limits::with_min_align_mask`]) are state
    /// of the device, which the DMA API reads again when a mapping ends. The driver's `dma()` has
    /// set them before anything could be mapped.
    ///
    /// It maps with the DMA API. While the device is in a domain of its own, each mapping fails
    /// with `EBUSY`.
    ///
    /// Context: process context, may sleep, may be called at any time while the device is bound.
    ///
    /// # Errors
    ///
    /// - `EBUSY`: the device is in a domain of its own: use `Domain::mapper()`.
    /// - `EINVAL`: `limits` do not even allow a page, or a granule of the IOMMU, in a segment; they
    ///   ask for bits of an address that the device's bounce buffers do not keep; or those keep
    ///   more of an address than a granule, or a page, has; or the device does no DMA.
    pub fn new(dev: &'bound Device<Bound>, limits: Limits) -> Result<Self> {
        device::check_dma(dev)?;
        let domain = while_not_owned(dev, || Domain::of_device(dev))?;
        let granule = match device::merge_boundary(dev) {
            0 => None,
            // CAST: a `usize` is at most 64 bits wide.
            mask => Some(Granule::new(mask as u64 + 1).ok_or(EINVAL)?),
        };
        // CAST: a page size fits in 64 bits.
        let smallest = granule.map_or(0, Granule::size).max(PAGE_SIZE as u64);

        if !limits.allow(smallest) {
            dev_err!(
                dev,
                "phyr: limits of less than {} bytes a segment\n",
                smallest
            );
            return Err(EINVAL);
        }
        let kept = device::min_align_mask(dev);
        if limits.min_align_mask() & !kept != 0 {
            dev_err!(
                dev,
                "phyr: limits keep the bits {:#x} of an address, the device {:#x}\n",
                limits.min_align_mask(),
                kept
            );
            return Err(EINVAL);
        }
        // The DMA API warns of more behind an IOMMU, and has no bounce buffer for much more.
        // CAST: a page size fits in 64 bits.
        let most = granule.map_or(PAGE_SIZE as u64, Granule::size);
        if u64::from(kept) >= most {
            dev_err!(
                dev,
                "phyr: a device that keeps the bits {:#x} of an address, beyond {} bytes\n",
                kept,
                most
            );
            return Err(EINVAL);
        }
        let mut mapper = Self {
            dev,
            limits,
            granule,
            trusted: device::is_trusted(dev),
            coherent: device::is_coherent(dev),
            max_len: device::max_mapping_size(dev),
            limited: false,
            special: false,
            space: None,
            domain: None,
            unlinks_in_parts: domain.is_some_and(Domain::unlinks_in_parts),
            is_told_of_maps: false,
            links_singles: false,
            ownership: Ownership::of(dev),
        };
        // For others there is more to do than to unlink: the DMA API copies, or syncs.
        if mapper.packs() && granule.is_some() {
            mapper.domain = domain;
            mapper.links_singles = mapper.domain.is_some_and(Domain::is_strict);
            mapper.is_told_of_maps = mapper.domain.is_some_and(Domain::is_told_of_maps);
        }
        mapper.limited = granule.is_none() && !mapper.can_bounce() && device::needs_bouncing(dev);
        mapper.special = mapper.limited;
        Ok(mapper)
    }

    /// Makes a mapper whose mappings are in `space`, of granules of `granule`, rather than where
    /// the DMA API has them.
    ///
    /// Context: any.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `limits` do not even allow a granule in a segment, or ask for an alignment
    ///   beyond it.
    /// - `EACCES`: the device is not trusted with more than the memory.
    ///
    /// # Safety
    ///
    /// `dev` sees `space` until the last clone of it is dropped, by granules of `granule`, and is
    /// coherent.
    #[doc(hidden)]
    pub unsafe fn in_space(
        dev: &'bound Device<Bound>,
        granule: Granule,
        limits: Limits,
        space: impl FnOnce() -> Result<Arc<dyn IovaSpace + 'bound>>,
    ) -> Result<Self> {
        if !limits.allow(granule.size()) || u64::from(limits.min_align_mask()) >= granule.size() {
            dev_err!(
                dev,
                "phyr: limits that do not go with granules of {} bytes\n",
                granule.size()
            );
            return Err(EINVAL);
        }
        if !device::is_trusted(dev) {
            dev_err!(dev, "phyr: not trusted with whole granules\n");
            return Err(EACCES);
        }
        let space = space()?;
        let domain = Domain::of_space(&*space);
        Ok(Self {
            dev,
            limits,
            granule: Some(granule),
            trusted: true,
            coherent: true,
            // CAST: the length came from a `usize`.
            max_len: space.max_len() as usize,
            limited: false,
            special: true,
            space: Some(space),
            domain,
            // Such a space sees to both by itself.
            unlinks_in_parts: false,
            is_told_of_maps: false,
            links_singles: domain.is_some(),
            ownership: Ownership::none(),
        })
    }

    /// Makes a mapper like this one, with other limits; for tests.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: those of [`Mapper::new`] for its limits.
    #[cfg(CONFIG_KUNIT = "y")]
    #[doc(hidden)]
    pub fn with_limits(&self, limits: Limits) -> Result<Self> {
        match &self.space {
            Some(space) => {
                let granule = self.granule.ok_or(EINVAL)?;
                // SAFETY: this mapper was made so.
                unsafe { Self::in_space(self.dev, granule, limits, || Ok(space.clone())) }
            }
            None => Self::new(self.dev, limits),
        }
    }

    /// Returns the device that this maps for.
    #[inline]
    pub fn device(&self) -> &'bound Device<Bound> {
        self.dev
    }

    /// Returns the granule of the IOMMU that translates for the device, or `None` where none does
    /// (direct map, pass-through, bounce buffers).
    #[inline]
    pub fn granule(&self) -> Option<Granule> {
        self.granule
    }

    /// Returns the length in bytes of the longest mapping: `dma_max_mapping_size()`, or in a
    /// domain the length of the mapper's region.
    ///
    /// With the DMA API `usize::MAX` unless memory is bounced. A driver limits its requests by it.
    pub fn max_mapping_size(&self) -> usize {
        self.max_len
    }

    /// Returns the length in bytes of the longest mapping that is fast: `dma_opt_mapping_size()`.
    ///
    /// Behind an IOMMU the IOVAs of a longer one are not in the caches that each CPU has, but are
    /// allocated under a lock that all CPUs share, in a tree. The driver of a disk limits its
    /// requests by it.
    pub fn opt_mapping_size(&self) -> usize {
        self.max_len.min(device::opt_mapping_size(self.dev))
    }

    /// Returns whether the machine has bounce buffers that the device can reach.
    ///
    /// Without them, what the device may have as a copy only is never mapped: see
    /// [`Mapper::dma_alignment`], and `ENOBUFS` and `ERANGE` of [`Mapper::map_into`].
    #[doc(hidden)]
    pub fn can_bounce(&self) -> bool {
        self.max_copy() != 0
    }

    /// Returns the alignment in bytes, a power of two, that both ends of a buffer need to be mapped
    /// for this device; 1 if there is no such restriction.
    ///
    /// It is the granule of the IOMMU for a device that is not trusted, such as one behind an
    /// external port, on a machine without bounce buffers: the device must not see the rest of a
    /// granule, and there is nowhere to copy the buffer to. The driver of a disk gives it to the
    /// block layer (one less as `dma_alignment` and as `virt_boundary_mask`), and makes no disk of
    /// shorter blocks.
    pub fn dma_alignment(&self) -> usize {
        match self.granule {
            // CAST: the size of a granule is that of a page of the IOMMU.
            Some(granule) if !self.trusted && cfg!(CONFIG_SWIOTLB) && !self.can_bounce() => {
                granule.size() as usize
            }
            _ => 1,
        }
    }

    /// Returns the length of the longest bounce buffer for the device, or zero if there is none.
    pub(crate) fn max_copy(&self) -> usize {
        let mask = match self.granule {
            // The IOMMU maps a bounce buffer wherever it is in memory.
            Some(_) => u64::MAX,
            None => self.last_addr(),
        };
        device::max_bounce_size(self.dev, mask)
    }

    /// Returns whether `other` unmaps mappings of this one in the same way.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let spaces_are_same = match (&self.space, &other.space) {
            (None, None) => true,
            (Some(this), Some(other)) => Arc::ptr_eq(this, other),
            _ => false,
        };
        // The administrator may have made the domain lazy between the two.
        let flush_alike =
            self.links_singles == other.links_singles && self.packs() == other.packs();
        core::ptr::eq(self.dev, other.dev) && spaces_are_same && flush_alike
    }

    #[inline]
    pub(crate) fn is_special(&self) -> bool {
        self.special
    }

    #[inline]
    pub(crate) fn is_limited(&self) -> bool {
        self.limited
    }

    #[inline]
    pub(crate) fn space(&self) -> Option<&(dyn IovaSpace + 'bound)> {
        self.space.as_deref()
    }

    /// Returns whether it maps in a domain of the driver's own: the device does not reach what the
    /// DMA API has mapped for it, such as coherent memory.
    #[doc(hidden)]
    pub fn is_in_domain(&self) -> bool {
        self.space.is_some()
    }

    #[inline]
    pub(crate) fn domain(&self) -> Option<Domain> {
        self.domain
    }

    #[inline]
    pub(crate) fn links_singles(&self) -> bool {
        self.links_singles
    }

    #[inline]
    pub(crate) fn unlinks_in_parts(&self) -> bool {
        self.unlinks_in_parts
    }

    #[inline]
    pub(crate) fn is_told_of_maps(&self) -> bool {
        self.is_told_of_maps
    }

    /// Returns the way in which the device gets at memory.
    #[inline]
    pub(crate) fn reach(&self) -> Reach {
        match self.granule {
            Some(_) => Reach::Iommu {
                packs: self.packs(),
            },
            None => Reach::Direct,
        }
    }

    /// Checks, before each mapping, that the device is not in a domain in which this does not map.
    ///
    /// # Errors
    ///
    /// - `EBUSY`: it is.
    #[inline(always)]
    pub(crate) fn check_domain(&self) -> Result {
        if !self.ownership.is_empty() && self.ownership.has(raw::device(self.dev)) {
            return Err(EBUSY);
        }
        Ok(())
    }

    /// Returns the last address that it can give out.
    pub(crate) fn last_addr(&self) -> u64 {
        match &self.space {
            Some(space) => space.last(),
            None => device::dma_mask(self.dev),
        }
    }

    /// Returns whether a mapping by `dma_map_phys()` has to be unmapped. Call it after mapping, see
    /// [`device::need_unmap`].
    #[inline]
    pub(crate) fn needs_unmap(&self) -> bool {
        self.granule.is_some() || device::need_unmap(self.dev)
    }

    #[inline]
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Returns whether the device's accesses are coherent with the CPU's caches:
    /// `dev_is_dma_coherent()`.
    #[inline]
    #[doc(hidden)]
    pub fn is_coherent(&self) -> bool {
        self.coherent
    }

    /// Returns the limits of the device on a segment.
    #[inline]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Makes a mapper, for tests, as for a device that is not trusted, which never lets runs share
    /// an IOVA allocation.
    #[cfg(CONFIG_KUNIT = "y")]
    #[doc(hidden)]
    pub fn unpacked(self) -> Self {
        Self {
            trusted: false,
            domain: None,
            is_told_of_maps: false,
            links_singles: false,
            ..self
        }
    }

    /// Returns whether runs may share one IOVA allocation.
    ///
    /// A run that ends within a granule is then linked with all of that granule. The DMA API does
    /// the same for each mapping of its own, except for a device that is not trusted or not
    /// coherent: for those each run gets a range of its own.
    #[inline]
    #[doc(hidden)]
    pub fn packs(&self) -> bool {
        self.trusted && self.coherent
    }
}

/// Block drivers share a mapper between processors.
const _: () = {
    const fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Mapper<'_>>();
};

impl Limits {
    /// Returns the limits that a device's bus or driver has set: `dma_get_max_seg_size()`,
    /// `dma_get_seg_boundary()` and `dma_get_min_align_mask()`.
    ///
    /// Where nobody set them these are 64 KiB, 4 GiB and no bits.
    pub fn of_device(dev: &Device<Bound>) -> Self {
        // CAST: an `unsigned long` is at most 64 bits wide; one of all ones means no boundary.
        let mask = match device::segment_boundary(dev) {
            usize::MAX => u64::MAX,
            mask => mask as u64,
        };
        Self::NONE
            .with_max_segment(u64::from(device::max_segment(dev)))
            .and_then(|limits| limits.with_boundary_mask(mask))
            .and_then(|limits| limits.with_min_align_mask(device::min_align_mask(dev)))
            .unwrap_or(Self::NONE)
    }
}
