// SPDX-License-Identifier: GPL-2.0

//! The address space in which a mapper maps: that of the DMA API, or a region of a domain.
//!
//! The code that maps is generic over [`IovaSpace`]. There are two: that of the DMA API
//! (`map/dma_api.rs`) and what a library gives to [`Mapper::in_space`](super::Mapper::in_space),
//! which is the IOVA region of a domain. Only the mapping core calls the methods, with values that
//! only it makes: they say what was promised or done before.

use super::{
    attrs::MapAttrs,
    bindings as helpers,
    iotlb,
    pinned::PinnedPhyr,
    raw,
    types::{
        DmaAddr,
        PhysAddr, //
    }, //
};
use core::{
    mem::MaybeUninit,
    ptr::NonNull,
    slice, //
};
use kernel::{
    bindings::{
        dma_iova_state,
        iommu_domain,
        scatterlist,
        IOMMU_DOMAIN_DMA, //
    },
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};

/// A range of IOVA that is taken, and what is linked in it.
///
/// # Invariants
///
/// The [`IovaSpace`] that is asked to do something with it has given it out, and has not freed it;
/// exactly its first `linked` bytes are mapped, for `attrs`.
pub struct Iova {
    pub(super) state: dma_iova_state,
    pub(super) linked: usize,
    pub(super) attrs: MapAttrs,
}

impl Iova {
    /// Returns where it begins for the device.
    #[inline]
    pub fn addr(&self) -> DmaAddr {
        DmaAddr::from_raw(self.state.addr)
    }

    /// Returns the size that [`IovaSpace::alloc`] has given it; the DMA API keeps a mark of its own
    /// in it.
    #[inline]
    pub fn size(&self) -> u64 {
        self.state.__size
    }

    /// Returns the number of bytes that are linked, from the beginning on.
    #[inline]
    pub fn linked(&self) -> usize {
        self.linked
    }

    /// Returns what it is linked for.
    #[inline]
    pub fn attrs(&self) -> MapAttrs {
        self.attrs
    }

    /// Returns the place after what is linked.
    #[inline]
    pub(super) fn link_target(&mut self) -> LinkTarget<'_> {
        // INVARIANT: it is that of the range.
        LinkTarget {
            state: &mut self.state,
            linked: self.linked,
            attrs: self.attrs,
        }
    }
}

/// The place after what is linked in a range of IOVA.
///
/// # Invariants
///
/// `state` is that of an [`Iova`], of which exactly the first `linked` bytes are mapped, for
/// `attrs`.
pub struct LinkTarget<'a> {
    pub(super) state: &'a mut dma_iova_state,
    pub(super) linked: usize,
    pub(super) attrs: MapAttrs,
}

impl LinkTarget<'_> {
    /// Returns where it is for the device.
    #[inline]
    pub fn addr(&self) -> DmaAddr {
        // CAST: a `usize` is at most 64 bits wide.
        DmaAddr::from_raw(self.state.addr).advanced(self.linked as u64)
    }

    /// Returns what is linked for.
    #[inline]
    pub fn attrs(&self) -> MapAttrs {
        self.attrs
    }
}

/// A range that is mapped by itself.
///
/// # Invariants
///
/// [`IovaSpace::map_phys`] of the space that is asked to do something with it has mapped `len`
/// bytes at `addr` for `attrs`, and they are still mapped.
pub struct Single {
    pub(super) addr: DmaAddr,
    pub(super) len: usize,
    pub(super) attrs: MapAttrs,
}

impl Single {
    /// Returns where it begins for the device.
    #[inline]
    pub fn addr(&self) -> DmaAddr {
        self.addr
    }

    /// Returns its length in bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns what it is mapped for.
    #[inline]
    pub fn attrs(&self) -> MapAttrs {
        self.attrs
    }

    /// Returns it as a range of IOVA. In a space with a [domain](IovaSpace::domain) a single range
    /// is one that was allocated for just its length, and is linked with all of its bytes.
    #[inline]
    pub(super) fn into_iova(self) -> Iova {
        // INVARIANT: in such a space the addresses were given out for `len` bytes, and all of them
        // are linked; `self`, which stood for them, is consumed.
        Iova {
            state: dma_iova_state {
                addr: self.addr.into_raw(),
                // CAST: a `usize` is at most 64 bits wide.
                __size: self.len as u64,
            },
            linked: self.len,
            attrs: self.attrs,
        }
    }
}

/// The IOMMU domain that has the addresses of an [`IovaSpace`].
///
/// # Invariants
///
/// The domain is there for as long as the mapper of the space is.
#[derive(Clone, Copy)]
pub(crate) struct Domain(NonNull<iommu_domain>);

// SAFETY: any thread may call the functions of an IOMMU.
unsafe impl Send for Domain {}

// SAFETY: as for `Send`; what they change has locks of its own.
unsafe impl Sync for Domain {}

impl Domain {
    /// Returns the domain of `space`, if it has one.
    pub(super) fn of_space(space: &dyn IovaSpace) -> Option<Self> {
        // INVARIANT: by the contract of `IovaSpace` it is there for as long as the space.
        space.domain().map(Self)
    }

    /// Returns the domain in which the DMA API maps for `dev`, if it does so by an IOMMU.
    pub(super) fn of_device(dev: &Device<Bound>) -> Option<Self> {
        // SAFETY: `dev` is a device that is bound.
        let domain = unsafe { helpers::phyr_helper_dma_domain(raw::device(dev)) };
        // INVARIANT: that domain stays while a driver is bound, as it is for as long as there is a
        // mapper.
        NonNull::new(domain).map(Self)
    }

    #[inline]
    pub(super) fn as_ptr(self) -> *mut iommu_domain {
        self.0.as_ptr()
    }

    /// Returns whether the DMA API flushes as it unmaps; else it may do that later.
    pub(super) fn is_strict(self) -> bool {
        // SAFETY: by the type invariant the domain is there. The administrator can make a domain
        // lazy at any time, and each value does.
        let kind = unsafe { (&raw const (*self.as_ptr()).type_).read_volatile() };
        kind == IOMMU_DOMAIN_DMA
    }

    /// Returns whether its page table is of the kernel's own kind (`generic_pt`), which is told of
    /// all that is to be flushed as one range. Other drivers may flush on the way what is not
    /// adjacent.
    #[inline]
    pub(super) fn gathers_ranges(self) -> bool {
        // SAFETY: by the type invariant the domain is there; nobody changes this.
        unsafe { (*self.as_ptr()).is_iommupt }
    }

    /// Returns whether a range in it is unlinked a part at a time, see [`iotlb`].
    pub(super) fn unlinks_in_parts(self) -> bool {
        // SAFETY: by the type invariant the domain is there; nobody changes this.
        let page_sizes = unsafe { (*self.as_ptr()).pgsize_bitmap };
        self.gathers_ranges() && iotlb::keeps_pages_whole(page_sizes)
    }

    /// Returns whether telling the IOMMU of what was mapped is more than a look at a flag.
    ///
    /// The drivers of Intel and AMD have a function for it on all machines, and do not say whether
    /// the IOMMU wants it: one of a hypervisor does, that follows its guest's tables, and no other
    /// does since long.
    pub(super) fn is_told_of_maps(self) -> bool {
        // SAFETY: by the type invariant the domain and its operations are there; nobody changes
        // them.
        let has_function = unsafe { (*(*self.as_ptr()).ops).iotlb_sync_map.is_some() };
        // SAFETY: always allowed.
        has_function && (!self.gathers_ranges() || unsafe { helpers::phyr_helper_is_guest() })
    }

    /// Returns whether all of it can be flushed: `iommu_flush_iotlb_all()`.
    #[inline]
    pub(super) fn can_flush_all(self) -> bool {
        // SAFETY: by the type invariant the domain and its operations are there; nobody changes
        // them.
        unsafe { (*(*self.as_ptr()).ops).flush_iotlb_all.is_some() }
    }
}

/// Granules of pinned memory, to be linked one after the other: a list for `iommu_map_sg()`.
///
/// # Invariants
///
/// The first `nr` of `entries` are written, and name whole granules of memory that is pinned,
/// `bytes` bytes.
pub struct SgList {
    entries: [MaybeUninit<scatterlist>; Self::MAX],
    nr: usize,
    bytes: usize,
}

impl SgList {
    /// The longest list: a KiB on the stack. 32 pages are as many as a short request has, see
    /// Documentation/performance/index.rst, and each list has a sync of its own.
    const MAX: usize = 32;

    /// The longest entry, whose length has 32 bits: a page of any IOMMU's.
    const MAX_ENTRY: usize = 1 << 30;

    /// Makes an empty list.
    #[inline(always)]
    pub(super) fn new() -> Self {
        // INVARIANT: it has no entries.
        Self {
            entries: [const { MaybeUninit::uninit() }; Self::MAX],
            nr: 0,
            bytes: 0,
        }
    }

    /// Adds granules. Returns whether there was room for them.
    #[inline]
    pub(super) fn push(&mut self, granules: PinnedPhyr) -> bool {
        let (paddr, len) = (granules.phyr().paddr().into_raw(), granules.phyr().len());
        let Some(entry) = self.entries.get_mut(self.nr) else {
            return false;
        };
        if len > Self::MAX_ENTRY {
            return false;
        }
        // CAST: at most `MAX_ENTRY`.
        // SAFETY: the entry may be written.
        unsafe { helpers::phyr_helper_sg_fill_phys(entry.as_mut_ptr(), paddr, len as u32) };
        // INVARIANT: the entry was written, and the granules are those of pinned memory.
        self.nr += 1;
        self.bytes += len;
        true
    }

    /// Empties the list.
    #[inline]
    pub(super) fn clear(&mut self) {
        (self.nr, self.bytes) = (0, 0);
    }

    /// Returns the entries, which may be changed as scratch.
    #[inline]
    pub fn entries(&mut self) -> &mut [scatterlist] {
        // SAFETY: by the type invariant that many are written.
        unsafe { slice::from_raw_parts_mut(self.entries.as_mut_ptr().cast(), self.nr) }
    }

    /// Returns whether nothing is in it.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.nr == 0
    }

    /// Returns the number of bytes in them.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// An address space in which a [`Mapper`](super::Mapper) maps. Its granule is that of the mapper.
///
/// All of it may be called in any context.
///
/// # Safety
///
/// - [`IovaSpace::alloc`] gives out no address that it has given out and that was not destroyed.
/// - An implementation keeps no [`PinnedPhyr`], [`Iova`] or [`Single`] that it is given, and gives
///   it to no other space.
/// - The device reaches the memory that is linked or mapped, and no other, through these addresses;
///   when [`IovaSpace::unlink`], [`IovaSpace::destroy`] and [`IovaSpace::unmap_phys`] return, what
///   they took is out of its reach, as far as the DMA API promises that (strict or lazy).
/// - [`IovaSpace::domain`] is there for as long as the space, if there is one.
/// - What is linked is in the page table of [`IovaSpace::domain`], if there is one, by whole
///   granules and nothing else is to be done to unlink it than to take it out of there and to flush
///   it.
pub unsafe trait IovaSpace: Send + Sync {
    /// Returns the first address.
    fn first(&self) -> u64;

    /// Returns the last address.
    fn last(&self) -> u64;

    /// Returns the length in bytes of the longest range that there can be.
    fn max_len(&self) -> u64;

    /// Takes `len` bytes of IOVA, which are not zero, that begin as far into a granule as `start`
    /// does. Returns their address and a word for [`Iova::size`], or `None` if none is left.
    fn alloc(&self, start: PhysAddr, len: usize) -> Option<(DmaAddr, u64)>;

    /// Links `phyr` at `to`. There is room for it; both begin at a granule, unless this is the
    /// first link: then both begin as far into one.
    ///
    /// # Errors
    ///
    /// The range is as before.
    ///
    /// - `ENOMEM`: no memory, such as for a page table.
    /// - `EAGAIN`, `ENOBUFS`: those of [`IovaSpace::map_phys`], of what is to be bounced.
    /// - What else the IOMMU's driver returns.
    fn link(&self, to: LinkTarget<'_>, phyr: PinnedPhyr) -> Result;

    /// Returns whether many phyrs are linked with fewer flushes by [`IovaSpace::link_list`].
    #[inline]
    fn links_lists(&self) -> bool {
        false
    }

    /// Links all of `list`, which is not empty, after what is linked in `to`, under the conditions
    /// of [`IovaSpace::link`]; of memory that is the system's.
    ///
    /// # Errors
    ///
    /// Those of [`IovaSpace::link`]; nothing of the list is linked.
    fn link_list(&self, _to: &Iova, _list: &mut SgList) -> Result {
        Err(EOPNOTSUPP)
    }

    /// Makes all that is linked visible to the device.
    ///
    /// # Errors
    ///
    /// What the IOMMU's driver returns; the range is as before.
    fn sync(&self, iova: &mut Iova) -> Result;

    /// Unlinks all but the first `to` bytes, which end where a link has begun.
    fn unlink(&self, iova: &mut Iova, to: usize);

    /// Unlinks all of a range and frees it.
    fn destroy(&self, iova: Iova);

    /// Returns the domain in which the ranges of several mappings may be unlinked with one flush,
    /// each to be [freed](IovaSpace::free) then, if that is so.
    fn domain(&self) -> Option<NonNull<iommu_domain>> {
        None
    }

    /// Frees a range of which nothing is linked any more, and which was flushed.
    fn free(&self, iova: Iova);

    /// Maps one physically contiguous range by itself.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: no IOVA space.
    /// - `ENOMEM`: no memory, such as for a page table.
    /// - `EAGAIN`: all bounce buffers are in use.
    ///
    /// These last, and are logged:
    ///
    /// - `ENOBUFS`: the device may have a copy only, and there are no bounce buffers that it can
    ///   reach.
    /// - `EFBIG`: no bounce buffer, or no range of the mapper's own, is as long.
    /// - `ERANGE`: the memory is beyond the DMA mask, and there is no bounce buffer.
    fn map_phys(&self, phyr: PinnedPhyr, attrs: MapAttrs) -> Result<DmaAddr>;

    /// Ends a mapping of [`IovaSpace::map_phys`].
    fn unmap_phys(&self, single: Single);

    /// Lets the CPU see what the device wrote.
    fn sync_for_cpu(&self, _single: &Single) {}

    /// Lets the device see what the CPU wrote.
    fn sync_for_device(&self, _single: &Single) {}
}
