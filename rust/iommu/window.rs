// SPDX-License-Identifier: GPL-2.0

//! A part of a domain for what is mapped and unmapped all the time: the I/O path.
//!
//! The ranges of a [`Space`](super::space::Space) are taken under a mutex, and allocate. A
//! [`Mapper`](phyr::Mapper) in a domain takes one of them for itself, when it is made, and from
//! that its ranges by the allocator that the DMA API has, too: any context, a cache a CPU.
//!
//! C header: [`include/linux/iova.h`](srctree/include/linux/iova.h)

use super::{
    list::Entry,
    space::Kind,
    Access,
    Domain,
    Reason, //
};
use crate::bindings as helpers;
use kernel::{
    bindings,
    dma::DataDirection,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    types::Opaque, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    space::{
        Iova,
        IovaSpace,
        Single, //
    },
    DmaAddr,
    Granule,
    MapAttrs,
    PhysAddr,
    PinnedPhyr, //
};

/// A range of a domain, for a mapper alone.
///
/// # Invariants
///
/// `len` bytes, a power of two, at `first`, a multiple of it, are taken in the domain's space; both
/// are multiples of the granule. `iovas` is initialised, and hands out granules from `first` on.
pub(crate) struct Window<'bound> {
    domain: Domain<'bound>,
    iovas: KBox<Opaque<helpers::iova_domain>>,
    first: u64,
    len: u64,
}

// SAFETY: the allocator may be used by any thread, it has its own lock.
unsafe impl Send for Window<'_> {}

// SAFETY: the allocator may be used by several threads at once, it has its own lock.
unsafe impl Sync for Window<'_> {}

impl<'bound> Window<'bound> {
    /// How many pieces are mapped with one flush: what fits on the stack.
    const LIST: usize = 16;

    /// Takes `len` bytes of `domain`.
    pub(crate) fn new(domain: &Domain<'bound>, len: usize) -> Result<Self, Reason> {
        let (inner, granule) = (&domain.0, domain.granule());
        if len == 0 {
            return Err(Reason::Empty);
        }
        // Ranges are aligned to their length, rounded up to a power of two. So is the window, and
        // the longest range is all of it.
        // CAST: a `usize` is at most 64 bits wide.
        let bytes = (len as u64).max(granule.size()).checked_next_power_of_two();
        let bytes = bytes.ok_or(Reason::Overflow)?;
        let first = inner.space.take(bytes, bytes, Kind::Window)?;
        match iovas(granule, first) {
            // INVARIANT: just taken, and just made.
            Ok(iovas) => Ok(Self {
                domain: domain.clone(),
                iovas,
                first,
                len: bytes,
            }),
            Err(e) => {
                inner.space.give_back(first);
                Err(match e {
                    ENOMEM => Reason::NoMemory,
                    e => Reason::Failed(e),
                })
            }
        }
    }

    /// How many granules `len` bytes are in that begin `offset` bytes into the first.
    fn granules(&self, offset: u64, len: usize) -> Option<usize> {
        let granule = self.domain.granule();
        // CAST: a `usize` is at most 64 bits wide.
        let bytes = granule.align_up(offset.checked_add(len as u64)?)?;
        // CAST: less than the bytes, which are within a `usize`.
        Some(granule.number(bytes) as usize)
    }

    /// The first address and the length of the granules of `len` bytes at `addr`.
    fn around(&self, addr: DmaAddr, len: usize) -> Option<(u64, usize)> {
        let granule = self.domain.granule();
        let addr = addr.into_raw();
        let granules = self.granules(granule.offset(addr), len)?;
        // CAST: the size of a granule is that of a page of the IOMMU.
        let bytes = granules.checked_mul(granule.size() as usize)?;
        Some((granule.align_down(addr), bytes))
    }

    /// Takes room for `len` bytes that begin as far into a granule as `paddr` does; where they do,
    /// or `None` if there is no room. `len` is not zero.
    fn take(&self, paddr: PhysAddr, len: usize) -> Option<DmaAddr> {
        let granule = self.domain.granule();
        let offset = granule.offset(paddr.into_raw());
        let granules = self.granules(offset, len)?;
        // CAST: granules are counted in an `unsigned long`, which is 64 bits wide.
        let limit = granule.number(self.last()) as usize;
        fail::at(Point::alloc_iova_fast).ok()?;
        // SAFETY: by the type invariant the allocator is initialised.
        let nr = unsafe { helpers::alloc_iova_fast(self.iovas.get(), granules, limit, true) };
        // CAST: granules are counted in an `unsigned long`, which is 64 bits wide.
        (nr != 0).then(|| DmaAddr::from_raw(nr as u64 * granule.size() + offset))
    }

    /// Gives back the room of `len` bytes at `addr`.
    ///
    /// # Safety
    ///
    /// [`Window::take`] took it for just that, nothing is mapped there, and it is not used again.
    unsafe fn give_back(&self, addr: DmaAddr, len: usize) {
        let granule = self.domain.granule();
        let addr = addr.into_raw();
        if let Some(granules) = self.granules(granule.offset(addr), len) {
            // CAST: granules are counted in an `unsigned long`, which is 64 bits wide.
            let nr = granule.number(addr) as usize;
            // SAFETY: the caller promises that so many granules were taken there.
            unsafe { helpers::free_iova_fast(self.iovas.get(), nr, granules) };
        }
    }

    /// Maps the granules in which `phyr` is, at those of `addr`, which are taken and empty.
    fn map(&self, addr: DmaAddr, phyr: PinnedPhyr, attrs: MapAttrs) -> Result {
        let (paddr, len) = (phyr.phyr().paddr().into_raw(), phyr.phyr().len());
        let (iova, bytes) = self.around(addr, len).ok_or(EOVERFLOW)?;
        // SAFETY: by the invariant of `PinnedPhyr` the memory stays in place, and its granules come
        // with it; the callers have taken the room. Atomic, as the DMA API does it.
        unsafe {
            self.domain.0.map_piece(
                iova,
                self.domain.granule().align_down(paddr),
                bytes,
                access(attrs).prot(attrs.is_mmio()),
                bindings::GFP_ATOMIC,
            )
        }
    }

    /// Unmaps the granules of `len` bytes at `addr`, and flushes. Returns whether all of them were
    /// mapped.
    ///
    /// # Safety
    ///
    /// They are mapped, and the device is done with them.
    #[must_use]
    unsafe fn unmap(&self, addr: DmaAddr, len: usize) -> bool {
        match self.around(addr, len) {
            // SAFETY: the caller promises that they are mapped.
            Some((iova, bytes)) => unsafe { self.domain.0.unmap_range(iova, bytes) },
            None => false,
        }
    }

    /// Unmaps the first `linked` of the `len` bytes at `addr` and gives the room back.
    ///
    /// # Safety
    ///
    /// The room was taken for `len` bytes, of which exactly these are mapped; none of it is used
    /// again.
    unsafe fn end(&self, addr: DmaAddr, len: usize, linked: usize) {
        // SAFETY: the caller promises that just so much is mapped; room of which something is left
        // is not given out again.
        unsafe {
            if linked == 0 || self.unmap(addr, linked) {
                self.give_back(addr, len);
            }
        }
    }

    /// Returns the errno of what there was no room for: taken once more, it tells want of memory
    /// from want of addresses.
    #[cold]
    #[inline(never)]
    fn why_not(&self, paddr: PhysAddr, len: usize) -> Error {
        // CAST: a `usize` is at most 64 bits wide.
        if len as u64 > self.len {
            return EFBIG;
        }
        match self.take(paddr, len) {
            Some(addr) => {
                // SAFETY: just taken for that, and nothing is mapped there.
                unsafe { self.give_back(addr, len) };
                ENOMEM
            }
            None => ENOSPC,
        }
    }
}

// SAFETY:
// - `iovas` gives out each granule once until it is freed, which `end` does, for what it has given.
// - The device is in the domain, and reaches just what `map` has mapped there; `iommu_unmap()`
//   flushes.
unsafe impl IovaSpace for Window<'_> {
    fn first(&self) -> u64 {
        self.first
    }

    fn last(&self) -> u64 {
        self.first + (self.len - 1)
    }

    fn max_len(&self) -> u64 {
        self.len
    }

    fn alloc(&self, start: PhysAddr, len: usize) -> Option<(DmaAddr, u64)> {
        // CAST: a `usize` is at most 64 bits wide.
        Some((self.take(start, len)?, len as u64))
    }

    fn link(&self, to: &mut Iova, phyr: PinnedPhyr) -> Result {
        // CAST: a `usize` is at most 64 bits wide.
        self.map(to.addr().advanced(to.linked() as u64), phyr, to.attrs())
    }

    fn links_lists(&self) -> bool {
        true
    }

    fn link_all(
        &self,
        to: &Iova,
        phyrs: &mut dyn Iterator<Item = Result<PinnedPhyr>>,
    ) -> (usize, Result) {
        let granule = self.domain.granule();
        let addr = to.addr().into_raw();
        let mut len = 0;
        let pieces = phyrs.map(|phyr| {
            let phyr = phyr?.phyr();
            len += phyr.len();
            let whole = granule.around(phyr).ok_or(EOVERFLOW)?;
            Ok((whole.paddr().into_raw(), whole.len()))
        });
        let mut list = [Entry::default(); Self::LIST];
        let mut mapped = 0;
        // SAFETY: by the invariants of `Iova` and `PinnedPhyr` the granules are taken and empty, and
        // the memory stays in place. Atomic, as the DMA API does it.
        let result = unsafe {
            self.domain.0.map_pieces(
                granule.align_down(addr),
                pieces,
                access(to.attrs()).prot(to.attrs().is_mmio()),
                bindings::GFP_ATOMIC,
                &mut list,
                &mut mapped,
            )
        };
        // What is mapped is in whole granules, what is asked for may not be.
        let linked = match result {
            Ok(()) => len,
            // CAST: within a granule, which is that of a page of the IOMMU.
            Err(_) => mapped.saturating_sub(granule.offset(addr) as usize),
        };
        (linked, result)
    }

    fn sync(&self, _iova: &mut Iova) -> Result {
        // `iommu_map()` has done it.
        Ok(())
    }

    fn unlink(&self, iova: &mut Iova, to: usize) {
        // CAST: a `usize` is at most 64 bits wide.
        let addr = iova.addr().advanced(to as u64);
        // The room stays with the range.
        // SAFETY: by the invariant of `Iova` these bytes are linked.
        let _ = unsafe { self.unmap(addr, iova.linked() - to) };
    }

    fn destroy(&self, iova: Iova) {
        // CAST: the size is that of `alloc`, a `usize`.
        // SAFETY: by the invariant of `Iova` just this much is linked, and the room is taken.
        unsafe { self.end(iova.addr(), iova.size() as usize, iova.linked()) };
    }

    fn map_phys(&self, phyr: PinnedPhyr, attrs: MapAttrs) -> Result<DmaAddr> {
        let (paddr, len) = (phyr.phyr().paddr(), phyr.phyr().len());
        let addr = self.take(paddr, len);
        let addr = addr.ok_or_else(|| self.why_not(paddr, len))?;
        self.map(addr, phyr, attrs).inspect_err(|_| {
            // SAFETY: taken above, and not mapped.
            unsafe { self.give_back(addr, len) };
        })?;
        Ok(addr)
    }

    fn unmap_phys(&self, single: Single) {
        let (addr, len) = (single.addr(), single.len());
        // SAFETY: by the invariant of `Single` all of it is mapped, by `map_phys`.
        unsafe { self.end(addr, len, len) };
    }
}

/// Returns the access that a mapping for `attrs` gives to the device.
fn access(attrs: MapAttrs) -> Access {
    match attrs.direction() {
        DataDirection::ToDevice => Access::READ,
        DataDirection::FromDevice => Access::WRITE,
        _ => Access::READ_WRITE,
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        // SAFETY: by the type invariant. What was mapped holds its mapper, and so the window: all
        // of it is unmapped.
        unsafe {
            helpers::put_iova_domain(self.iovas.get());
            helpers::iova_cache_put();
        }
        self.domain.0.space.give_back(self.first);
    }
}

/// An allocator of granules from `first`, which is not zero, on.
///
/// # Errors
///
/// - `EOPNOTSUPP`: it takes no granules larger than a page.
/// - `ENOMEM`: no memory.
fn iovas(granule: Granule, first: u64) -> Result<KBox<Opaque<helpers::iova_domain>>> {
    // CAST: granules are counted in an `unsigned long`, which is 64 bits wide.
    let (size, first) = (granule.size() as usize, granule.number(first) as usize);
    if size > PAGE_SIZE {
        return Err(EOPNOTSUPP);
    }
    let iovas = KBox::new(Opaque::uninit(), GFP_KERNEL)?;
    fail::at(Point::iova_cache_get)?;
    // SAFETY: process context.
    to_result(unsafe { helpers::iova_cache_get() })?;
    let result = fail::at(Point::iova_domain_init_rcaches).and_then(|()| {
        // SAFETY: it may be written, and stays in its box; a granule is a power of two.
        to_result(unsafe {
            helpers::init_iova_domain(iovas.get(), size, first);
            helpers::iova_domain_init_rcaches(iovas.get())
        })
    });
    if let Err(e) = result {
        // SAFETY: taken above. Nothing was allocated from the domain, so there is nothing to put.
        unsafe { helpers::iova_cache_put() };
        return Err(e);
    }
    Ok(iovas)
}
