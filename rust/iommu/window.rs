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
    ops::Mode,
    space::IovaSpace,
    types::{
        DmaAddr,
        Granule,
        Phyr,
        PhysAddr, //
    }, //
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

// SAFETY: as above.
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
}

// SAFETY: `iovas` gives out each granule once; what is mapped is in the domain that the device sees,
// and `iommu_unmap()` flushes.
unsafe impl IovaSpace for Window<'_> {
    fn max_len(&self) -> u64 {
        self.len
    }

    fn first(&self) -> u64 {
        self.first
    }

    fn last(&self) -> u64 {
        self.first + (self.len - 1)
    }

    fn alloc(&self, paddr: PhysAddr, len: usize) -> Option<DmaAddr> {
        let granule = self.domain.granule();
        let offset = granule.offset(paddr.into_raw());
        let granules = self.granules(offset, len)?;
        // CAST: granules are counted in an `unsigned long`, which is 64 bits wide.
        let limit = granule.number(self.last()) as usize;
        fail::at(Point::alloc_iova_fast).ok()?;
        // SAFETY: by the type invariant.
        let nr = unsafe { helpers::alloc_iova_fast(self.iovas.get(), granules, limit, true) };
        // CAST: as above.
        (nr != 0).then(|| DmaAddr::from_raw(nr as u64 * granule.size() + offset))
    }

    unsafe fn free(&self, addr: DmaAddr, len: usize) {
        let granule = self.domain.granule();
        let addr = addr.into_raw();
        if let Some(granules) = self.granules(granule.offset(addr), len) {
            // SAFETY: by the type invariant, and the requirements of this function.
            // CAST: as in `take`.
            unsafe {
                helpers::free_iova_fast(self.iovas.get(), granule.number(addr) as usize, granules)
            };
        }
    }

    unsafe fn map(&self, addr: DmaAddr, paddr: PhysAddr, len: usize, mode: Mode) -> Result {
        let granule = self.domain.granule();
        let (iova, bytes) = self.around(addr, len).ok_or(EOVERFLOW)?;
        let paddr = granule.align_down(paddr.into_raw());
        // SAFETY: by the requirements of this function. Atomic, as the DMA API does it.
        unsafe {
            self.domain.0.map_piece(
                iova,
                paddr,
                bytes,
                access(mode).prot(mode.is_mmio()),
                bindings::GFP_ATOMIC,
            )
        }
    }

    unsafe fn map_all(
        &self,
        addr: DmaAddr,
        source: &mut dyn Iterator<Item = Result<Phyr>>,
        mode: Mode,
        done: &mut usize,
    ) -> Result {
        let granule = self.domain.granule();
        let offset = granule.offset(addr.into_raw());
        let mut len = 0;
        let pieces = source.map(|phyr| {
            let phyr = phyr?;
            len += phyr.len();
            let whole = granule.around(phyr).ok_or(EOVERFLOW)?;
            Ok((whole.paddr().into_raw(), whole.len()))
        });
        let mut list = [Entry::default(); Self::LIST];
        let mut mapped = 0;
        // SAFETY: by the requirements of this function. Atomic, as the DMA API does it.
        let result = unsafe {
            self.domain.0.map_pieces(
                granule.align_down(addr.into_raw()),
                pieces,
                access(mode).prot(mode.is_mmio()),
                bindings::GFP_ATOMIC,
                &mut list,
                &mut mapped,
            )
        };
        // What is mapped is in whole granules, what is asked for may not be.
        // CAST: within a granule, which is that of a page of the IOMMU.
        *done += match result {
            Ok(()) => len,
            Err(_) => mapped.saturating_sub(offset as usize),
        };
        result
    }

    unsafe fn unmap(&self, addr: DmaAddr, len: usize) -> bool {
        match self.around(addr, len) {
            // SAFETY: by the requirements of this function.
            Some((iova, bytes)) => unsafe { self.domain.0.unmap_range(iova, bytes) },
            None => false,
        }
    }
}

/// What a device may do with a mapping of `mode`.
fn access(mode: Mode) -> Access {
    match mode.direction() {
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
