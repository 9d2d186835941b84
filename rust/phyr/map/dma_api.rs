// SPDX-License-Identifier: GPL-2.0

//! The address space of the DMA API: the kernel functions that make and end a mapping, one thin
//! wrapper each. Nothing else in the crate calls them.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use super::{
    diagnose,
    range::IovaRange, //
};
use crate::{
    attrs::MapAttrs,
    bindings as helpers,
    fail::{
        self,
        Omission,
        Point, //
    },
    iotlb,
    mapper::Mapper,
    pinned::PinnedPhyr,
    raw,
    space::{
        Domain,
        Iova,
        IovaSpace,
        LinkTarget,
        SgList,
        Single, //
    },
    types::{
        DmaAddr,
        Granule,
        PhysAddr, //
    }, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    prelude::*,
    warn_on, //
};

/// The address space in which a mapper maps.
#[derive(Clone, Copy)]
pub(crate) enum Space<'a> {
    /// That of the DMA API.
    DmaApi(DmaApi<'a>),
    /// The same, for a device that may not reach all memory, for which nothing is copied: the DMA
    /// API would warn of what is out of reach, and is not given it.
    Limited(DmaApi<'a>),
    /// One of the driver's own.
    Own(&'a (dyn IovaSpace + 'a)),
}

impl<'a> Space<'a> {
    /// Returns the space of `mapper`.
    #[inline]
    pub(crate) fn of(mapper: &'a Mapper<'_>) -> Self {
        match mapper.space() {
            None if mapper.is_limited() => Self::Limited(DmaApi(mapper)),
            None => Self::DmaApi(DmaApi(mapper)),
            Some(space) => Self::Own(space),
        }
    }
}

/// Makes methods that call those of the one or the other.
macro_rules! either {
    ($(fn $method:ident(&self $(, $arg:ident: $type:ty)*) $(-> $result:ty)?;)*) => {$(
        fn $method(&self $(, $arg: $type)*) $(-> $result)? {
            match self {
                Self::DmaApi(api) | Self::Limited(api) => api.$method($($arg),*),
                Self::Own(space) => space.$method($($arg),*),
            }
        }
    )*};
}

// SAFETY: all is done by an `IovaSpace`, and always by the same.
unsafe impl IovaSpace for Space<'_> {
    either! {
        fn first(&self) -> u64;
        fn last(&self) -> u64;
        fn max_len(&self) -> u64;
        fn alloc(&self, start: PhysAddr, len: usize) -> Option<(DmaAddr, u64)>;
        fn link(&self, to: LinkTarget<'_>, phyr: PinnedPhyr) -> Result;
        fn links_lists(&self) -> bool;
        fn link_list(&self, to: &Iova, list: &mut SgList) -> Result;
        fn sync(&self, iova: &mut Iova) -> Result;
        fn unlink(&self, iova: &mut Iova, to: usize);
        fn destroy(&self, iova: Iova);
        fn free(&self, iova: Iova);
        fn unmap_phys(&self, single: Single);
        fn sync_for_cpu(&self, single: &Single);
        fn sync_for_device(&self, single: &Single);
    }

    fn map_phys(&self, phyr: PinnedPhyr, attrs: MapAttrs) -> Result<DmaAddr> {
        if let Self::Limited(DmaApi(mapper)) = self {
            diagnose::check_reach(mapper, phyr.phyr(), attrs)?;
        }
        match self {
            Self::DmaApi(api) | Self::Limited(api) => api.map_phys(phyr, attrs),
            Self::Own(space) => space.map_phys(phyr, attrs),
        }
    }
}

/// The address space of the DMA API, for the device of a mapper.
#[derive(Clone, Copy)]
pub(crate) struct DmaApi<'a>(pub(super) &'a Mapper<'a>);

// SAFETY: the DMA API gives out each address once until it is freed, and maps just the memory that
// it is told to; it unmaps with a flush, or has the flush done later where the administrator has
// asked for it (lazy).
unsafe impl IovaSpace for DmaApi<'_> {
    fn first(&self) -> u64 {
        0
    }

    fn last(&self) -> u64 {
        self.0.last_addr()
    }

    fn max_len(&self) -> u64 {
        // CAST: a `usize` is at most 64 bits wide.
        self.0.max_mapping_size() as u64
    }

    /// Calls `dma_iova_try_alloc()`.
    #[inline]
    fn alloc(&self, start: PhysAddr, len: usize) -> Option<(DmaAddr, u64)> {
        let mut state = bindings::dma_iova_state::default();
        fail::at(Point::dma_iova_try_alloc).ok()?;
        let (dev, start) = (raw::device(self.0.device()), start.into_raw());
        // SAFETY: the device is bound and `state` may be written.
        let taken = unsafe { bindings::dma_iova_try_alloc(dev, &mut state, start, len) };
        taken.then(|| (DmaAddr::from_raw(state.addr), state.__size))
    }

    /// Calls `dma_iova_link()`.
    #[inline]
    fn link(&self, to: LinkTarget<'_>, phyr: PinnedPhyr) -> Result {
        fail::at(Point::dma_iova_link)?;
        let (paddr, len) = (phyr.phyr().paddr(), phyr.phyr().len());
        let (dir, attrs) = (to.attrs.raw_direction(), to.attrs.raw_attrs());
        let dev = raw::device(self.0.device());
        // SAFETY: by the invariant of `LinkTarget` the range is taken, and ends after `linked`
        // bytes that are linked; `IovaRange` has found room for the phyr, and C refuses what does
        // not join; by the invariant of `PinnedPhyr` the memory stays in place.
        let ret = unsafe {
            bindings::dma_iova_link(dev, to.state, paddr.into_raw(), to.linked, len, dir, attrs)
        };
        if ret != 0 {
            let error = Error::from_errno(ret);
            return Err(diagnose::why_not_linked(
                self.0,
                error,
                phyr.phyr(),
                to.attrs,
            ));
        }
        Ok(())
    }

    /// Calls `dma_iova_sync()`.
    #[inline]
    fn sync(&self, iova: &mut Iova) -> Result {
        fail::at(Point::dma_iova_sync)?;
        let dev = raw::device(self.0.device());
        // SAFETY: by the invariant of `Iova` exactly this much is linked.
        to_result(unsafe { bindings::dma_iova_sync(dev, &mut iova.state, 0, iova.linked) })
    }

    /// Calls `dma_iova_unlink()`, where need be a part at a time that can be [flushed](iotlb).
    fn unlink(&self, iova: &mut Iova, to: usize) {
        let (dir, attrs) = (iova.attrs.raw_direction(), iova.attrs.raw_attrs());
        let dev = raw::device(self.0.device());
        // CAST: an `unsigned long` has 64 bits, as this crate asks of the kernel.
        let start = iova.addr().into_raw() as usize;
        let mut end = iova.linked;
        while end > to {
            let at = if self.0.unlinks_in_parts() {
                iotlb::last_part(start + to, start + end) - start
            } else {
                to
            };
            // SAFETY: by the invariant of `Iova` these bytes are linked. They begin where a link
            // does, or where a page of the IOMMU does, as none is in two parts.
            unsafe { bindings::dma_iova_unlink(dev, &mut iova.state, at, end - at, dir, attrs) };
            end = at;
        }
    }

    /// Calls `iommu_unmap()` and `dma_iova_free()`, which is all of `dma_iova_destroy()` where
    /// there is nothing else to do; or else that.
    // As short as it is, into the loop over what has completed.
    #[inline(always)]
    fn destroy(&self, iova: Iova) {
        let unlinked = match (self.0.domain(), self.0.granule(), iova.linked) {
            (Some(domain), Some(granule), 1..=iotlb::MAX_LINKED) => unmap(domain, granule, &iova),
            _ => return self.destroy_apart(iova),
        };
        // Else its addresses are never given out again.
        if unlinked {
            self.free(iova);
        }
    }

    /// Calls `dma_iova_free()`.
    #[inline]
    fn free(&self, iova: Iova) {
        let dev = raw::device(self.0.device());
        // Of the whole value just this is put in memory.
        let mut state = iova.state;
        // SAFETY: by the invariant of `Iova` the range is taken; it is not used again.
        unsafe { bindings::dma_iova_free(dev, &mut state) };
    }

    /// Calls `dma_map_phys()`, or links an IOVA range that can be unlinked with others.
    #[inline]
    fn map_phys(&self, phyr: PinnedPhyr, attrs: MapAttrs) -> Result<DmaAddr> {
        if self.0.links_singles() {
            return link_single_apart(*self, self.0, phyr, attrs);
        }
        fail::at(Point::dma_map_phys)?;
        let dev = self.0.device();
        let (paddr, len) = (phyr.phyr().paddr().into_raw(), phyr.phyr().len());
        let (dir, bits) = (attrs.raw_direction(), attrs.raw_attrs());
        // SAFETY: `dev` is bound, and by its invariant `attrs` has a direction; by the invariant of
        // `PinnedPhyr` the memory stays in place.
        let addr = unsafe { bindings::dma_map_phys(raw::device(dev), paddr, len, dir, bits) };

        if mapping_error(dev, addr) {
            return Err(diagnose::why(self.0, phyr.phyr(), attrs));
        }
        Ok(DmaAddr::from_raw(addr))
    }

    /// Calls `dma_unmap_phys()`, or destroys the IOVA range.
    // Into the loop over what has completed.
    #[inline(always)]
    fn unmap_phys(&self, single: Single) {
        if self.0.links_singles() {
            return self.destroy(single.into_iova());
        }
        let (dev, addr) = (raw::device(self.0.device()), single.addr.into_raw());
        let (dir, attrs) = (single.attrs.raw_direction(), single.attrs.raw_attrs());
        // SAFETY: by the invariant of `Single` this was mapped so; it is not used again.
        unsafe { bindings::dma_unmap_phys(dev, addr, single.len, dir, attrs) };
    }

    /// Calls `dma_sync_single_for_cpu()`.
    fn sync_for_cpu(&self, single: &Single) {
        // Memory of a device has no caches in front of it. What is linked is coherent.
        if single.attrs.is_mmio() || self.0.links_singles() {
            return;
        }
        let (dev, dir) = (raw::device(self.0.device()), single.attrs.raw_direction());
        let (addr, len) = (single.addr.into_raw(), single.len);
        // SAFETY: by the invariant of `Single` this is mapped.
        unsafe { helpers::phyr_helper_dma_sync_for_cpu(dev, addr, len, dir) };
    }

    /// Calls `dma_sync_single_for_device()`.
    fn sync_for_device(&self, single: &Single) {
        if single.attrs.is_mmio() || self.0.links_singles() {
            return;
        }
        let (dev, dir) = (raw::device(self.0.device()), single.attrs.raw_direction());
        let (addr, len) = (single.addr.into_raw(), single.len);
        // SAFETY: by the invariant of `Single` this is mapped.
        unsafe { helpers::phyr_helper_dma_sync_for_device(dev, addr, len, dir) };
    }
}

impl DmaApi<'_> {
    /// Calls `dma_iova_destroy()`, or what is to be called for a long range.
    #[inline(never)]
    fn destroy_apart(&self, mut iova: Iova) {
        if fail::omits(Omission::dma_iova_destroy) {
            return;
        }
        if iova.linked > iotlb::MAX_LINKED && self.0.unlinks_in_parts() {
            self.unlink(&mut iova, 0);
            return self.free(iova);
        }
        let (dir, attrs) = (iova.attrs.raw_direction(), iova.attrs.raw_attrs());
        let dev = raw::device(self.0.device());
        // SAFETY: by the invariant of `Iova` the range is taken, with just this much linked; it is
        // not used again.
        unsafe { bindings::dma_iova_destroy(dev, &mut iova.state, iova.linked, dir, attrs) };
    }
}

/// Unlinks the granules of what is linked in `iova`, and flushes them; returns whether all of them
/// were linked. The caller ends `iova`, which is of `domain`.
#[inline(always)]
fn unmap(domain: Domain, granule: Granule, iova: &Iova) -> bool {
    let addr = iova.addr().into_raw();
    let start = granule.align_down(addr);
    // CAST: a `usize` is at most 64 bits wide.
    let Some(bytes) = granule.align_up(addr - start + iova.linked as u64) else {
        return false;
    };
    // CAST: an `unsigned long` has 64 bits, as this crate asks of the kernel.
    let (start, bytes) = (start as usize, bytes as usize);
    if fail::omits(Omission::dma_iova_destroy) {
        return false;
    }
    if fail::omits(Omission::iommu_iotlb_sync) {
        return unmap_without_flush(domain, start, bytes);
    }
    // SAFETY: by the invariant of `Iova` this range is linked, in the domain of its space, which is
    // `domain`; the caller ends it.
    let unmapped = unsafe { bindings::iommu_unmap(domain.as_ptr(), start, bytes) };
    !warn_on!(unmapped != bytes)
}

/// Does what [`unmap`] does, broken on purpose.
#[cold]
fn unmap_without_flush(domain: Domain, start: usize, bytes: usize) -> bool {
    let mut gather = bindings::iommu_iotlb_gather::default();
    // SAFETY: it may be written, and stays in place for as long as it is used.
    unsafe { helpers::phyr_helper_iotlb_gather_init(&mut gather) };
    // Else the driver of the IOMMU could flush on the way.
    gather.queued = true;
    // SAFETY: the caller ends this range, which is linked in `domain`; `gather` is initialised.
    unsafe { bindings::iommu_unmap_fast(domain.as_ptr(), start, bytes, &mut gather) == bytes }
}

/// Maps `phyr` as an IOVA range of its own, in the space of `mapper`.
///
/// # Errors
///
/// Those of [`IovaSpace::map_phys`].
#[inline(always)]
pub(super) fn link_single<A: IovaSpace>(
    space: A,
    mapper: &Mapper<'_>,
    phyr: PinnedPhyr,
    attrs: MapAttrs,
) -> Result<DmaAddr> {
    let (start, len) = (phyr.phyr().paddr(), phyr.phyr().len());
    let range = mapper.granule().and_then(|granule| {
        // Of all its bytes: `Single::into_iova` relies on it.
        IovaRange::alloc(space, granule, start, len, attrs)
    });
    let Some(mut range) = range else {
        return Err(diagnose::why(mapper, phyr.phyr(), attrs));
    };
    range.link(phyr)?;
    range.sync()?;
    Ok(range.close().addr)
}

/// Calls [`link_single`], not in line: `map_phys` is as short as where no device has need of this.
///
/// # Errors
///
/// Those of [`IovaSpace::map_phys`].
#[inline(never)]
pub(super) fn link_single_apart<A: IovaSpace>(
    space: A,
    mapper: &Mapper<'_>,
    phyr: PinnedPhyr,
    attrs: MapAttrs,
) -> Result<DmaAddr> {
    link_single(space, mapper, phyr, attrs)
}

/// Returns `dma_mapping_error()`, which is a comparison, unless the debugging of the DMA API wants
/// to see the check done.
#[inline]
fn mapping_error(dev: &Device<Bound>, addr: u64) -> bool {
    #[cfg(CONFIG_DMA_API_DEBUG)]
    {
        // SAFETY: `dev` is a valid device.
        unsafe { helpers::phyr_helper_dma_mapping_error(raw::device(dev), addr) != 0 }
    }
    #[cfg(not(CONFIG_DMA_API_DEBUG))]
    {
        let _ = dev;
        // `DMA_MAPPING_ERROR` is all ones.
        addr == u64::MAX
    }
}
