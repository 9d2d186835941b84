// SPDX-License-Identifier: GPL-2.0

//! The kernel functions that make and end a mapping, one thin wrapper each.
//!
//! Nothing else in the crate calls them. The wrappers choose the types; when to call what is for
//! their callers. For a mapper in a domain of the driver's own the same is done by the functions of
//! that domain ([`IovaSpace`]), so that there is one engine for both.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use super::{
    bindings as helpers,
    fail::{
        self,
        Point, //
    },
    map_error::{
        Facts,
        MapError, //
    },
    mapper::Mapper,
    memory::Kind,
    raw,
    source::Source,
    space::IovaSpace,
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
pub struct Mode(u8);

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
    pub fn is_mmio(self) -> bool {
        self.0 & Self::MMIO != 0
    }

    #[inline]
    pub fn direction(self) -> DataDirection {
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
/// # Errors
///
/// - `ENOSPC`: no room among the device's addresses.
/// - `ENOMEM`: no memory, such as for a page table.
/// - `EAGAIN`: all bounce buffers are in use.
///
/// And for ever, of which a line in the log tells:
///
/// - `ENOBUFS`: the device may have a copy only, and there are no bounce buffers that it can reach.
/// - `EFBIG`: no bounce buffer, or no range of the mapper's own, is as long.
/// - `ERANGE`: the device cannot tell the addresses, and there is nothing to copy to.
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
) -> Result<DmaAddr> {
    if mapper.is_special() {
        // SAFETY: the memory is the caller's promise.
        return unsafe { map_special(mapper, paddr, len, mode) };
    }
    // SAFETY: the memory is the caller's promise; the mapper has no window.
    unsafe { map_dma(mapper, paddr, len, mode) }
}

/// [`map_phys`] by the DMA API.
///
/// # Safety
///
/// Those of [`map_phys`]; the mapper has no window.
#[inline]
unsafe fn map_dma(mapper: &Mapper<'_>, paddr: PhysAddr, len: usize, mode: Mode) -> Result<DmaAddr> {
    fail::at(Point::dma_map_phys)?;
    let (dev, dir) = (mapper.device(), mode.raw_direction());
    let phys = paddr.into_raw();
    // SAFETY: `dev` is bound, and by its invariant `mode` has a direction; the memory is the
    // caller's promise.
    let addr = unsafe { bindings::dma_map_phys(raw::device(dev), phys, len, dir, mode.attrs()) };

    if mapping_error(dev, addr) {
        return Err(why(mapper, paddr, len, mode));
    }
    Ok(DmaAddr::from_raw(addr))
}

/// [`map_phys`] in a domain of the driver's own, or for a device that cannot reach all of the
/// machine's memory, and for which nothing is copied: what it cannot reach is not given to the DMA
/// API, which would warn of it.
///
/// # Safety
///
/// Those of [`map_phys`].
#[inline(never)]
unsafe fn map_special(
    mapper: &Mapper<'_>,
    paddr: PhysAddr,
    len: usize,
    mode: Mode,
) -> Result<DmaAddr> {
    if let Some(window) = mapper.window() {
        // SAFETY: the memory is the caller's promise.
        return unsafe { map_in(window, paddr, len, mode) };
    }
    check_reach(mapper, paddr, len, mode)?;
    // SAFETY: the memory is the caller's promise; the mapper has no window.
    unsafe { map_dma(mapper, paddr, len, mode) }
}

/// Checks that the DMA API can map a range for the device, where it translates nothing.
///
/// # Errors
///
/// - `ERANGE`, `ENOBUFS`, `EFBIG`: those of [`map_phys`].
pub(crate) fn check_reach(mapper: &Mapper<'_>, paddr: PhysAddr, len: usize, mode: Mode) -> Result {
    let reason = facts(mapper, paddr, len, mode).reason();
    if reason.is_final().is_some() {
        return Err(say(mapper, reason));
    }
    Ok(())
}

/// [`map_phys`] in a domain of the driver's own.
///
/// # Safety
///
/// Those of [`map_phys`].
unsafe fn map_in(
    window: &dyn IovaSpace,
    paddr: PhysAddr,
    len: usize,
    mode: Mode,
) -> Result<DmaAddr> {
    let addr = window.alloc(paddr, len);
    let addr = addr.ok_or_else(|| why_not_in(window, paddr, len))?;
    // SAFETY: the room was just taken for this; the memory is the caller's promise, and the
    // granules around it come with it as `Mapper::packs` explains.
    unsafe { window.map(addr, paddr, len, mode) }.inspect_err(|_| {
        // SAFETY: taken above, and not mapped.
        unsafe { window.free(addr, len) };
    })?;
    Ok(addr)
}

/// Returns the errno of what `window` had no room for: taken once more, it tells want of memory
/// from want of addresses.
#[cold]
#[inline(never)]
fn why_not_in(window: &dyn IovaSpace, paddr: PhysAddr, len: usize) -> Error {
    // CAST: a `usize` is at most 64 bits wide.
    if len as u64 > window.max_len() {
        return EFBIG;
    }
    match window.alloc(paddr, len) {
        Some(addr) => {
            // SAFETY: just taken for that, and nothing is mapped there.
            unsafe { window.free(addr, len) };
            ENOMEM
        }
        None => ENOSPC,
    }
}

/// Returns the errno of what the DMA API did not map, without a word why; says what fails for ever.
#[cold]
#[inline(never)]
fn why(mapper: &Mapper<'_>, paddr: PhysAddr, len: usize, mode: Mode) -> Error {
    say(mapper, facts(mapper, paddr, len, mode).reason())
}

/// Returns the errno of `reason`, and logs what fails for ever.
#[cold]
fn say(mapper: &Mapper<'_>, reason: MapError) -> Error {
    // SAFETY: always allowed.
    let may_say = |nr| unsafe { helpers::phyr_helper_may_say(nr) };
    if reason.is_final().is_some_and(may_say) {
        dev_err!(mapper.device(), "phyr: not mapped: {}\n", reason);
    }
    reason.into()
}

/// Looks up what says why a range was not mapped by the DMA API, or whether it can be.
#[cold]
fn facts(mapper: &Mapper<'_>, paddr: PhysAddr, len: usize, mode: Mode) -> Facts {
    let dev = raw::device(mapper.device());
    let (mask, start) = (mapper.last_addr(), paddr.into_raw());
    // CAST: a `usize` is at most 64 bits wide.
    let bytes = len as u64;
    let max_copy = if mode.is_mmio() {
        0
    } else {
        // CAST: a `usize` is at most 64 bits wide.
        mapper.max_copy() as u64
    };
    // SAFETY: the device is valid.
    let is_small =
        unsafe { helpers::phyr_helper_dma_kmalloc_bounces(dev, len, mode.raw_direction()) };

    if let Some(granule) = mapper.granule() {
        // What of it is no whole granules is bounced.
        let is_cut = !(granule.aligned(start) && granule.aligned(bytes));
        let bounces = cfg!(CONFIG_SWIOTLB) && (is_small || !mapper.is_trusted());
        return Facts {
            len: bytes,
            mask,
            is_translated: true,
            is_reached: bytes <= mask,
            is_copied: is_cut && bounces && !mode.is_mmio(),
            max_copy,
            has_space: has_space(mapper, paddr, len),
        };
    }
    // SAFETY: the device is valid.
    let to_dma = |paddr| unsafe { helpers::phyr_helper_phys_to_dma(dev, paddr) };
    // All ones: there is no such address.
    let (first, last) = (to_dma(start), to_dma(start.wrapping_add(bytes - 1)));
    Facts {
        len: bytes,
        mask,
        is_translated: false,
        is_reached: first != u64::MAX && last != u64::MAX && first <= last && last <= mask,
        // SAFETY: the device is valid.
        is_copied: is_small || unsafe { helpers::phyr_helper_dma_bounces(dev) },
        max_copy,
        has_space: true,
    }
}

/// Returns whether the DMA API has room for a range now: takes it, and gives it back.
#[cold]
fn has_space(mapper: &Mapper<'_>, paddr: PhysAddr, len: usize) -> bool {
    let dev = raw::device(mapper.device());
    let mut state = bindings::dma_iova_state::default();
    // SAFETY: the device is bound and `state` may be written; what was allocated is freed once.
    unsafe {
        let there = bindings::dma_iova_try_alloc(dev, &mut state, paddr.into_raw(), len);
        if there {
            bindings::dma_iova_free(dev, &mut state);
        }
        there
    }
}

/// `dma_mapping_error()`, which is a comparison, unless the debugging of the DMA API wants to see
/// the check done.
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
unsafe fn end_in(window: &dyn IovaSpace, addr: DmaAddr, len: usize, linked: usize) {
    // SAFETY: by the requirements of this function; room of which something is left is not given
    // out again.
    unsafe {
        if linked == 0 || window.unmap(addr, linked) {
            window.free(addr, len);
        }
    }
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
    unsafe { helpers::phyr_helper_dma_sync_for_cpu(dev, addr.into_raw(), len, dir) };
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
    unsafe { helpers::phyr_helper_dma_sync_for_device(dev, addr.into_raw(), len, dir) };
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
    /// The longest range: the DMA API has a mark in bit 63 of a length, and warns of longer ones; a
    /// [`Slot`](super::Slot) has another in bit 62.
    pub(crate) const MAX_LEN: u64 = (1 << 62) - 1;

    /// Takes `len` bytes of IOVA that begin as far into a granule as `paddr` does:
    /// `dma_iova_try_alloc()`.
    ///
    /// Returns `None` where the device's DMA does not go through an IOMMU, or there is no room.
    /// `len` is not zero, nor more than [`IovaRange::MAX_LEN`].
    #[inline]
    pub(crate) fn try_alloc(
        mapper: &'a Mapper<'a>,
        paddr: PhysAddr,
        len: usize,
        mode: Mode,
    ) -> Option<Self> {
        let mut state = bindings::dma_iova_state::default();

        if let Some(window) = mapper.window() {
            state.addr = window.alloc(paddr, len)?.into_raw();
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
    /// The range is as before.
    ///
    /// - `ENOMEM`: no memory, such as for a page table.
    /// - `EAGAIN`, `ENOBUFS`: those of [`map_phys`], of what is to be bounced.
    /// - What else `dma_iova_link()` returns.
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
        if ret != 0 {
            return Err(self.why(Error::from_errno(ret), paddr, len));
        }
        // INVARIANT: the next `len` bytes were just linked.
        self.linked += len;
        Ok(())
    }

    /// Returns the errno of what was not linked: `ENOMEM` also stands for what was to be bounced.
    #[cold]
    #[inline(never)]
    fn why(&self, error: Error, paddr: PhysAddr, len: usize) -> Error {
        let Some(granule) = self.mapper.granule().filter(|_| error == ENOMEM) else {
            return error;
        };
        let mut facts = facts(self.mapper, paddr, len, self.mode);
        // The room is taken, and only what is no whole granule is bounced.
        facts.has_space = true;
        facts.len = facts.len.min(granule.size());
        say(self.mapper, facts.reason())
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
    pub(crate) unsafe fn link_all(&mut self, mut source: impl Source) -> Result {
        if let Some(window) = self.mapper.window() {
            // CAST: a `usize` is at most 64 bits wide.
            let addr = self.addr().advanced(self.linked as u64);
            // SAFETY: by the requirements of this function and the type invariant.
            // INVARIANT: what is mapped is counted.
            return unsafe { window.map_all(addr, &mut source, self.mode, &mut self.linked) };
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
