// SPDX-License-Identifier: GPL-2.0

//! The kernel functions that make and end a mapping, one thin wrapper each.
//!
//! Nothing else in the crate calls them. The wrappers choose the types; when to call what is for
//! their callers. For a mapper in a domain of the driver's own the same is done by the functions of
//! that domain ([`Window`]), so that there is one engine for both.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use super::{
    fail::{
        self,
        Point, //
    },
    iommu::Window,
    mapper::Mapper,
    memory::Kind,
    raw,
    source::Source,
    types::{
        DmaAddr,
        PhysAddr, //
    }, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    dma::DataDirection,
    error::to_result,
    prelude::*, //
};

/// What a mapping is for, as the DMA API is told when it is made and again when it ends: the
/// direction, and what kind of memory it is.
///
/// # Invariants
///
/// The bits of [`Mode::DIRECTION`] are those of a direction, and not of [`DataDirection::None`].
#[derive(Clone, Copy)]
pub(crate) struct Mode(u8);

impl Mode {
    const DIRECTION: u8 = 3;
    /// Memory of a device: `DMA_ATTR_MMIO`.
    const MMIO: u8 = 1 << 2;

    /// Of what is not mapped.
    pub(crate) const UNMAPPED: Self = Self(DataDirection::Bidirectional as u8);

    /// # Errors
    ///
    /// - `EINVAL`: `dir` is [`DataDirection::None`].
    #[inline]
    pub(crate) fn new(dir: DataDirection, kind: Kind) -> Result<Self> {
        if dir == DataDirection::None {
            return Err(EINVAL);
        }
        let mmio = match kind {
            Kind::System => 0,
            Kind::Mmio => Self::MMIO,
        };
        // INVARIANT: just checked.
        // CAST: the enumeration ends at 3.
        Ok(Self(dir as u8 | mmio))
    }

    #[inline]
    pub(crate) fn is_mmio(self) -> bool {
        self.0 & Self::MMIO != 0
    }

    #[inline]
    pub(crate) fn direction(self) -> DataDirection {
        // CAST: as in `new`.
        const BOTH: u8 = DataDirection::Bidirectional as u8;
        const TO_DEVICE: u8 = DataDirection::ToDevice as u8;
        const FROM_DEVICE: u8 = DataDirection::FromDevice as u8;

        // All four, so that it is the number itself.
        match self.0 & Self::DIRECTION {
            BOTH => DataDirection::Bidirectional,
            TO_DEVICE => DataDirection::ToDevice,
            FROM_DEVICE => DataDirection::FromDevice,
            // By the type invariant not one of these.
            _ => DataDirection::None,
        }
    }

    /// As the DMA API is told it, for loops.
    #[inline]
    pub(crate) fn raw(self) -> RawMode {
        (self.raw_direction(), self.attrs())
    }

    #[inline]
    fn raw_direction(self) -> bindings::dma_data_direction {
        self.direction().into()
    }

    #[inline]
    fn attrs(self) -> usize {
        let attrs = if self.is_mmio() {
            bindings::DMA_ATTR_MMIO
        } else {
            0
        };
        // CAST: an `unsigned long` is a `usize`.
        attrs as usize
    }
}

/// Maps one physically contiguous range by itself: `dma_map_phys()`.
///
/// Returns the DMA address, or `None` where it could not be mapped.
///
/// # Safety
///
/// `[paddr, paddr + len)` is memory that the device may access until it is unmapped, that nobody
/// frees before, and that is of the kind that `mode` says.
#[inline]
pub(crate) unsafe fn map_phys(
    mapper: &Mapper<'_>,
    paddr: PhysAddr,
    len: usize,
    mode: Mode,
) -> Option<DmaAddr> {
    if let Some(window) = mapper.window() {
        // SAFETY: by the requirements of this function.
        return unsafe { map_in(window, paddr, len, mode) };
    }
    fail::at(Point::dma_map_phys).ok()?;
    let dev = mapper.device();
    let (paddr, dir) = (paddr.into_raw(), mode.raw_direction());
    // SAFETY: `dev` is bound, and by its invariant `mode` has a direction; the rest is what the
    // caller guarantees.
    let addr = unsafe { bindings::dma_map_phys(raw::device(dev), paddr, len, dir, mode.attrs()) };

    if mapping_error(dev, addr) {
        None
    } else {
        Some(DmaAddr::from_raw(addr))
    }
}

/// [`map_phys`] in a domain of the driver's own.
///
/// # Safety
///
/// Those of [`map_phys`].
unsafe fn map_in(window: &Window<'_>, paddr: PhysAddr, len: usize, mode: Mode) -> Option<DmaAddr> {
    let addr = window.take(paddr, len)?;
    // SAFETY: the room was just taken for this; the rest by the requirements of this function, and
    // the granules around the memory come with it as `Mapper::packs` explains.
    if unsafe { window.map(addr, paddr, len, mode) }.is_err() {
        // SAFETY: taken above, and not mapped.
        unsafe { window.give_back(addr, len) };
        return None;
    }
    Some(addr)
}

/// `dma_mapping_error()`, which is a comparison, unless the debugging of the DMA API wants to see
/// the check done.
#[inline]
fn mapping_error(dev: &Device<Bound>, addr: u64) -> bool {
    #[cfg(CONFIG_DMA_API_DEBUG)]
    {
        // SAFETY: `dev` is a valid device.
        unsafe { crate::bindings::phyr_helper_dma_mapping_error(raw::device(dev), addr) != 0 }
    }
    #[cfg(not(CONFIG_DMA_API_DEBUG))]
    {
        let _ = dev;
        // `DMA_MAPPING_ERROR` is all ones.
        addr == u64::MAX
    }
}

/// Ends a mapping of [`map_phys`]: `dma_unmap_phys()`.
///
/// # Safety
///
/// The arguments are those of a call of [`map_phys`] that succeeded and was not undone, and the
/// device is done with the memory.
#[inline]
pub(crate) unsafe fn unmap_phys(mapper: &Mapper<'_>, addr: DmaAddr, len: usize, mode: Mode) {
    if let Some(window) = mapper.window() {
        // SAFETY: by the requirements of this function all of it is mapped.
        return unsafe { end_in(window, addr, len, len) };
    }
    let (dev, addr, dir) = (mapper.device(), addr.into_raw(), mode.raw_direction());
    // SAFETY: by the requirements of this function.
    unsafe { bindings::dma_unmap_phys(raw::device(dev), addr, len, dir, mode.attrs()) };
}

/// Unmaps the first `linked` of the `len` bytes at `addr` and gives the room back, in a domain of
/// the driver's own.
///
/// # Safety
///
/// The room was taken for `len` bytes, of which exactly these are mapped; none of it is used again.
unsafe fn end_in(window: &Window<'_>, addr: DmaAddr, len: usize, linked: usize) {
    // SAFETY: by the requirements of this function; room of which something is left is not given
    // out again.
    unsafe {
        if linked == 0 || window.unmap(addr, linked) {
            window.give_back(addr, len);
        }
    }
}

/// Whether mappings of the device have to be undone at all: `dma_need_unmap()`.
///
/// To be asked after mapping: a bounce buffer taken meanwhile changes the answer.
#[inline]
pub(crate) fn need_unmap(dev: &Device<Bound>) -> bool {
    // SAFETY: `dev` is a valid device.
    unsafe { bindings::dma_need_unmap(raw::device(dev)) }
}

/// Lets the CPU see what the device wrote: `dma_sync_single_for_cpu()`.
///
/// # Safety
///
/// The range is one of [`map_phys`], for the mapper's device, for `mode`, and is still mapped.
pub(crate) unsafe fn sync_for_cpu(mapper: &Mapper<'_>, addr: DmaAddr, len: usize, mode: Mode) {
    // Memory of a device has no caches in front of it; a device with a domain of its own is
    // coherent, and nothing is copied for it.
    if mode.is_mmio() || mapper.window().is_some() {
        return;
    }
    let (dev, dir) = (raw::device(mapper.device()), mode.raw_direction());
    // SAFETY: by the requirements of this function.
    unsafe { crate::bindings::phyr_helper_dma_sync_for_cpu(dev, addr.into_raw(), len, dir) };
}

/// Lets the device see what the CPU wrote: `dma_sync_single_for_device()`.
///
/// # Safety
///
/// The range is one of [`map_phys`], for the mapper's device, for `mode`, and is still mapped.
pub(crate) unsafe fn sync_for_device(mapper: &Mapper<'_>, addr: DmaAddr, len: usize, mode: Mode) {
    // Memory of a device has no caches in front of it; a device with a domain of its own is
    // coherent, and nothing is copied for it.
    if mode.is_mmio() || mapper.window().is_some() {
        return;
    }
    let (dev, dir) = (raw::device(mapper.device()), mode.raw_direction());
    // SAFETY: by the requirements of this function.
    unsafe { crate::bindings::phyr_helper_dma_sync_for_device(dev, addr.into_raw(), len, dir) };
}

/// The granule mask of the IOMMU through which the DMA API maps for the device, or zero where it
/// maps directly: `dma_get_merge_boundary()`.
pub(crate) fn merge_boundary(dev: &Device<Bound>) -> u64 {
    // SAFETY: `dev` is a valid device.
    // CAST: an `unsigned long` is at most 64 bits wide.
    unsafe { bindings::dma_get_merge_boundary(raw::device(dev)) as u64 }
}

/// A direction and attributes, as the DMA API has them.
type RawMode = (bindings::dma_data_direction, usize);

/// An open range of IOVA: some of it linked from its beginning on, or none.
///
/// Dropping it unlinks what was linked and frees the range; [`IovaRange::close`] leaves it to the
/// caller instead.
///
/// # Invariants
///
/// `state` is what `dma_iova_try_alloc` made for the mapper's device, or names what was taken in
/// its window, and nothing was freed; exactly its first `linked` bytes are linked, for `mode`.
pub(crate) struct IovaRange<'a> {
    mapper: &'a Mapper<'a>,
    state: bindings::dma_iova_state,
    linked: usize,
    mode: Mode,
}

impl<'a> IovaRange<'a> {
    /// Takes `len` bytes of IOVA that begin as far into a granule as `paddr` does:
    /// `dma_iova_try_alloc()`.
    ///
    /// Returns `None` where the device's DMA does not go through an IOMMU, or there is no room.
    /// `len` is not zero.
    #[inline]
    pub(crate) fn try_alloc(
        mapper: &'a Mapper<'a>,
        paddr: PhysAddr,
        len: usize,
        mode: Mode,
    ) -> Option<Self> {
        let mut state = bindings::dma_iova_state::default();

        if let Some(window) = mapper.window() {
            state.addr = window.take(paddr, len)?.into_raw();
            // CAST: a `usize` is at most 64 bits wide.
            state.__size = len as u64;
        } else {
            fail::at(Point::dma_iova_try_alloc).ok()?;
            let (dev, paddr) = (raw::device(mapper.device()), paddr.into_raw());
            // SAFETY: the device is bound and `state` may be written.
            if !unsafe { bindings::dma_iova_try_alloc(dev, &mut state, paddr, len) } {
                return None;
            }
        }
        // INVARIANT: the range was just allocated, with nothing linked.
        Some(Self {
            mapper,
            state,
            linked: 0,
            mode,
        })
    }

    /// Links `len` bytes at `paddr` behind what is linked: `dma_iova_link()`.
    ///
    /// # Errors
    ///
    /// What `dma_iova_link()` returns, such as `ENOMEM` for a page table. The range is as before.
    ///
    /// # Safety
    ///
    /// - The memory is such as [`map_phys`] asks for.
    /// - There is room in the range for it.
    /// - `paddr` is aligned to the granule, unless this is the first link and the range was
    ///   allocated for this very `paddr`; what is linked so far ends at a granule.
    #[inline]
    pub(crate) unsafe fn link(&mut self, paddr: PhysAddr, len: usize) -> Result {
        if let Some(window) = self.mapper.window() {
            // CAST: a `usize` is at most 64 bits wide.
            let addr = self.addr().advanced(self.linked as u64);
            // SAFETY: by the requirements of this function and the type invariant.
            unsafe { window.map(addr, paddr, len, self.mode) }?;
            // INVARIANT: the next `len` bytes were just linked.
            self.linked += len;
            return Ok(());
        }
        // SAFETY: by the requirements of this function; there is no window.
        unsafe { self.link_dma(paddr, len, self.mode.raw()) }
    }

    /// [`IovaRange::link`] for loops: what does not change from one link to the next was looked at
    /// before.
    ///
    /// # Errors
    ///
    /// Those of [`IovaRange::link`].
    ///
    /// # Safety
    ///
    /// That of [`IovaRange::link`]; the mapper has no window; the last argument is [`Mode::raw`] of
    /// the range's mode.
    #[inline]
    pub(crate) unsafe fn link_dma(
        &mut self,
        paddr: PhysAddr,
        len: usize,
        (dir, attrs): RawMode,
    ) -> Result {
        fail::at(Point::dma_iova_link)?;
        // SAFETY: by the requirements of this function and the type invariant.
        let ret = unsafe {
            bindings::dma_iova_link(
                raw::device(self.mapper.device()),
                &mut self.state,
                paddr.into_raw(),
                self.linked,
                len,
                dir,
                attrs,
            )
        };
        // A call that is left out where all is well.
        if ret != 0 {
            to_result(ret)?;
        }
        // INVARIANT: the next `len` bytes were just linked.
        self.linked += len;
        Ok(())
    }

    /// Links all of `source` behind what is linked.
    ///
    /// # Errors
    ///
    /// Those of [`IovaRange::link`], and of `source`.
    ///
    /// # Safety
    ///
    /// That of [`IovaRange::link`], for each phyr.
    #[inline]
    pub(crate) unsafe fn link_all(&mut self, source: impl Source) -> Result {
        if let Some(window) = self.mapper.window() {
            // CAST: a `usize` is at most 64 bits wide.
            let addr = self.addr().advanced(self.linked as u64);
            // SAFETY: by the requirements of this function and the type invariant.
            // INVARIANT: what is mapped is counted.
            return unsafe { window.map_all(addr, source, self.mode, &mut self.linked) };
        }
        let raw = self.mode.raw();
        for phyr in source {
            let phyr = phyr?;
            // SAFETY: by the requirements of this function; there is no window.
            unsafe { self.link_dma(phyr.paddr(), phyr.len(), raw) }?;
        }
        Ok(())
    }

    /// Whether the DMA API has linked a copy instead of some of the memory.
    #[inline]
    pub(crate) fn is_bounced(&self) -> bool {
        self.state.__size & Closed::SWIOTLB != 0
    }

    /// Number of bytes that are linked, from the beginning on.
    #[inline]
    pub(crate) fn linked(&self) -> usize {
        self.linked
    }

    /// Unlinks all but the first `to` bytes: `dma_iova_unlink()`. `to` is where a link began.
    pub(crate) fn truncate(&mut self, to: usize) {
        if to >= self.linked {
            return;
        }
        if let Some(window) = self.mapper.window() {
            // CAST: a `usize` is at most 64 bits wide.
            let addr = self.addr().advanced(to as u64);
            // The room stays with the range.
            // SAFETY: by the type invariant these bytes are linked.
            let _ = unsafe { window.unmap(addr, self.linked - to) };
        } else {
            // SAFETY: by the type invariant these bytes are linked.
            unsafe {
                bindings::dma_iova_unlink(
                    raw::device(self.mapper.device()),
                    &mut self.state,
                    to,
                    self.linked - to,
                    self.mode.raw_direction(),
                    self.mode.attrs(),
                )
            };
        }
        // INVARIANT: just unlinked.
        self.linked = to;
    }

    /// Makes all that is linked visible to the device, with one flush: `dma_iova_sync()`.
    ///
    /// # Errors
    ///
    /// What `dma_iova_sync()` returns; the range is as before.
    #[inline]
    pub(crate) fn sync(&mut self) -> Result {
        if self.mapper.window().is_some() {
            // `iommu_map()` has done it.
            return Ok(());
        }
        fail::at(Point::dma_iova_sync)?;
        let dev = raw::device(self.mapper.device());
        // SAFETY: by the type invariant exactly this much is linked.
        to_result(unsafe { bindings::dma_iova_sync(dev, &mut self.state, 0, self.linked) })
    }

    /// Where the range begins for the device.
    #[inline]
    pub(crate) fn addr(&self) -> DmaAddr {
        DmaAddr::from_raw(self.state.addr)
    }

    /// What is linked is for this.
    #[inline]
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Gives up the range without freeing it; what is returned is for [`destroy`].
    #[inline]
    pub(crate) fn close(self) -> Closed {
        let closed = Closed {
            addr: self.addr(),
            size: self.state.__size,
        };
        core::mem::forget(self);
        closed
    }
}

impl Drop for IovaRange<'_> {
    fn drop(&mut self) {
        let range = Closed {
            addr: self.addr(),
            size: self.state.__size,
        };
        // SAFETY: by the type invariant; the device never learned of the range.
        unsafe { destroy(self.mapper, range, self.linked, self.mode) };
    }
}

/// A range that nobody frees until it is given to [`destroy`].
#[derive(Clone, Copy)]
pub(crate) struct Closed {
    /// Where the range begins for the device.
    pub(crate) addr: DmaAddr,
    /// The DMA API's word for the size: bytes, and a mark of its own in bit 63
    /// (`DMA_IOVA_USE_SWIOTLB` in drivers/iommu/dma-iommu.c), to be kept from link to destroy.
    pub(crate) size: u64,
}

impl Closed {
    /// `DMA_IOVA_USE_SWIOTLB`
    const SWIOTLB: u64 = 1 << 63;
}

/// Unlinks the whole of a range and frees it: `dma_iova_destroy()`.
///
/// # Safety
///
/// `range` is that of an [`IovaRange`] of `mapper` with `linked` bytes linked for `mode`, is not
/// used again, and the device is done with the memory.
#[inline]
pub(crate) unsafe fn destroy(mapper: &Mapper<'_>, range: Closed, linked: usize, mode: Mode) {
    if let Some(window) = mapper.window() {
        // SAFETY: by the requirements of this function.
        // CAST: the length came from a `usize`.
        return unsafe { end_in(window, range.addr, range.size as usize, linked) };
    }
    let mut state = bindings::dma_iova_state {
        addr: range.addr.into_raw(),
        __size: range.size,
    };

    // SAFETY: by the requirements of this function.
    unsafe {
        bindings::dma_iova_destroy(
            raw::device(mapper.device()),
            &mut state,
            linked,
            mode.raw_direction(),
            mode.attrs(),
        );
    }
}
