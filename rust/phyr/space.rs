// SPDX-License-Identifier: GPL-2.0

//! The address space in which a mapper maps: that of the DMA API, or a region of a domain.
//!
//! What maps is written once, for an [`IovaSpace`]. There are two: the DMA API's (`map/dma_api.rs`)
//! and what a library gives to [`Mapper::in_space`](super::Mapper::in_space), which is the IOVA
//! region of a domain. Only the mapping core calls the methods, with values that only it makes:
//! they say what was promised or done before.

use super::{
    attrs::MapAttrs,
    bindings as helpers,
    pinned::PinnedPhyr,
    types::{
        DmaAddr,
        PhysAddr, //
    }, //
};
use kernel::{
    bindings::{
        dma_iova_state,
        scatterlist,
        sg_init_table, //
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
}

/// Granules of pinned memory, to be linked one behind the other: a list for `iommu_map_sg()`.
///
/// # Invariants
///
/// The first `nr` of `entries` name whole granules of memory that is pinned, `bytes` bytes.
pub struct SgList {
    entries: [scatterlist; Self::MAX],
    nr: usize,
    bytes: usize,
}

impl SgList {
    /// The longest list: what fits on the stack.
    const MAX: usize = 16;

    /// The longest entry, whose length has 32 bits: a page of any IOMMU's.
    const MAX_ENTRY: usize = 1 << 30;

    /// Makes an empty list, to be [initialised](Self::init) where it stays.
    #[inline(always)]
    pub(super) fn new() -> Self {
        // INVARIANT: it has no entries.
        Self {
            entries: [scatterlist::default(); Self::MAX],
            nr: 0,
            bytes: 0,
        }
    }

    /// Initialises the entries.
    #[inline]
    pub(super) fn init(&mut self) {
        // CAST: a small constant.
        // SAFETY: there are so many entries.
        unsafe { sg_init_table(self.entries.as_mut_ptr(), Self::MAX as u32) };
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
        // SAFETY: the entry is initialised.
        unsafe { helpers::phyr_helper_sg_fill_phys(entry, paddr, len as u32) };
        // INVARIANT: the granules are those of pinned memory.
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
        &mut self.entries
    }

    /// Returns the number of entries that are filled.
    #[inline]
    pub fn nr(&self) -> usize {
        self.nr
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

    /// Links `phyr` behind what is linked in `to`. There is room for it; it begins at a granule,
    /// as does what is behind `to.linked()`, unless this is the first link, and `to` begins as far
    /// into one.
    ///
    /// # Errors
    ///
    /// The range is as before.
    ///
    /// - `ENOMEM`: no memory, such as for a page table.
    /// - `EAGAIN`, `ENOBUFS`: those of [`IovaSpace::map_phys`], of what is to be bounced.
    /// - What else the IOMMU's driver returns.
    fn link(&self, to: &mut Iova, phyr: PinnedPhyr) -> Result;

    /// Returns whether many phyrs are linked with fewer flushes by [`IovaSpace::link_list`].
    #[inline]
    fn links_lists(&self) -> bool {
        false
    }

    /// Links all of `list`, which is not empty, behind what is linked in `to`, under the conditions
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

    /// Maps one physically contiguous range by itself.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: no IOVA space.
    /// - `ENOMEM`: no memory, such as for a page table.
    /// - `EAGAIN`: all bounce buffers are in use.
    ///
    /// And for ever, of which a line in the log tells:
    ///
    /// - `ENOBUFS`: the device may have a copy only, and there are no bounce buffers that it can
    ///   reach.
    /// - `EFBIG`: no bounce buffer, or no range of the mapper's own, is as long.
    /// - `ERANGE`: the device cannot tell the addresses, and there is nothing to copy to.
    fn map_phys(&self, phyr: PinnedPhyr, attrs: MapAttrs) -> Result<DmaAddr>;

    /// Ends a mapping of [`IovaSpace::map_phys`].
    fn unmap_phys(&self, single: Single);

    /// Lets the CPU see what the device wrote.
    fn sync_for_cpu(&self, _single: &Single) {}

    /// Lets the device see what the CPU wrote.
    fn sync_for_device(&self, _single: &Single) {}
}
