// SPDX-License-Identifier: GPL-2.0

//! A range of IOVA while `exec.rs`, a batch or a linear mapping fills it. If a step fails, it is
//! unlinked and freed.
//!
//! ```text
//!   alloc() -> IovaRange -- link() ... -- sync() -- close() -> Slot
//!                 |                                             |
//!                 '-- dropped: unlinked, freed                  '-- Slot::reopen(), destroy()
//! ```

use crate::{
    attrs::MapAttrs,
    pinned::PinnedPhyr,
    space::{
        Iova,
        IovaSpace,
        LinkTarget,
        SgList, //
    },
    types::{
        DmaAddr,
        Granule,
        PhysAddr, //
    }, //
};
use core::mem::ManuallyDrop;
use kernel::{
    bindings::dma_iova_state,
    prelude::*, //
};

/// A range of IOVA that nobody frees until it is reopened: its address, and its
/// size with the DMA API's mark.
#[derive(Clone, Copy)]
pub(crate) struct Closed {
    /// The address of the range for the device.
    pub(crate) addr: DmaAddr,
    /// The DMA API's word for the size: bytes, and a mark of its own in bit 63
    /// (`DMA_IOVA_USE_SWIOTLB` in drivers/iommu/dma-iommu.c), to be kept from link to destroy.
    pub(crate) size: u64,
}

impl Closed {
    /// `DMA_IOVA_USE_SWIOTLB`
    const SWIOTLB: u64 = 1 << 63;

    /// Returns it as the DMA API has it.
    #[inline]
    pub(crate) fn state(self) -> dma_iova_state {
        dma_iova_state {
            addr: self.addr.into_raw(),
            __size: self.size,
        }
    }
}

/// A range of IOVA in the address space `S`: some of it linked from its beginning on, or none.
///
/// Dropping it unlinks what was linked and frees the range; [`IovaRange::close`] leaves it to the
/// caller instead.
///
/// # Invariants
///
/// `iova` is of `space`; `len` bytes of it were taken.
pub(crate) struct IovaRange<S: IovaSpace> {
    space: S,
    granule: Granule,
    iova: ManuallyDrop<Iova>,
    len: usize,
}

impl<S: IovaSpace> IovaRange<S> {
    /// Takes `len` bytes of IOVA that begin as far into a granule as `start` does.
    ///
    /// Returns `None` where there is no IOVA range as long. `len` is not zero.
    #[inline]
    pub(crate) fn alloc(
        space: S,
        granule: Granule,
        start: PhysAddr,
        len: usize,
        attrs: MapAttrs,
    ) -> Option<Self> {
        // CAST: a `usize` is at most 64 bits wide.
        if len as u64 & Closed::SWIOTLB != 0 {
            return None;
        }
        let (addr, size) = space.alloc(start, len)?;
        // INVARIANT: the space has just given it out, with nothing linked.
        let iova = Iova {
            state: dma_iova_state {
                addr: addr.into_raw(),
                __size: size,
            },
            linked: 0,
            attrs,
        };
        Some(Self {
            space,
            granule,
            iova: ManuallyDrop::new(iova),
            len,
        })
    }

    /// Returns the number of bytes that can still be linked.
    #[inline]
    pub(crate) fn unlinked(&self) -> usize {
        self.len - self.iova.linked
    }

    /// Links `phyr` after the phyrs that are linked.
    ///
    /// It has to [join](Granule::joins), or be the one that the range was taken for; the IOMMU's
    /// driver refuses what does not, with a warning.
    ///
    /// # Errors
    ///
    /// The range is as before.
    ///
    /// - `EINVAL`: it is longer than what is not linked yet, or does not join.
    /// - Those of [`IovaSpace::link`].
    #[inline]
    pub(crate) fn link(&mut self, phyr: PinnedPhyr) -> Result {
        let len = phyr.phyr().len();
        if len > self.unlinked() {
            return Err(EINVAL);
        }
        self.space.link(self.iova.link_target(), phyr)?;
        // INVARIANT: the space has just linked that many more bytes.
        self.iova.linked += len;
        Ok(())
    }

    /// Links what is in `list`, `bytes` bytes, and empties it.
    #[inline]
    fn link_list(&mut self, list: &mut SgList, bytes: &mut usize) -> Result {
        if !list.is_empty() {
            self.space.link_list(&self.iova, list)?;
            // INVARIANT: the space has just linked that many more bytes.
            self.iova.linked += *bytes;
            *bytes = 0;
            list.clear();
        }
        Ok(())
    }

    /// Returns whether the DMA API has linked a copy instead of some of the memory.
    #[inline]
    pub(crate) fn is_bounced(&self) -> bool {
        self.iova.state.__size & Closed::SWIOTLB != 0
    }

    /// Returns the number of bytes that are linked, from the beginning on.
    #[inline]
    pub(crate) fn linked(&self) -> usize {
        self.iova.linked
    }

    /// Unlinks all but the first `to` bytes, which end where a link has begun.
    pub(crate) fn truncate(&mut self, to: usize) {
        if to < self.iova.linked {
            self.space.unlink(&mut self.iova, to);
            // INVARIANT: the space has just unlinked the rest.
            self.iova.linked = to;
        }
    }

    /// Makes all that is linked visible to the device, with one flush.
    ///
    /// # Errors
    ///
    /// What the IOMMU's driver returns; the range is as before.
    #[inline]
    pub(crate) fn sync(&mut self) -> Result {
        self.space.sync(&mut self.iova)
    }

    /// Returns where the range begins for the device.
    #[inline]
    pub(crate) fn addr(&self) -> DmaAddr {
        self.iova.addr()
    }

    /// Returns what is linked for.
    #[inline]
    pub(crate) fn attrs(&self) -> MapAttrs {
        self.iova.attrs
    }

    /// Gives up the range without freeing it; what is returned is for
    /// [`Slot::reopen`](super::state::Slot::reopen).
    #[inline]
    pub(crate) fn close(self) -> Closed {
        let this = ManuallyDrop::new(self);
        Closed {
            addr: this.iova.addr(),
            size: this.iova.state.__size,
        }
    }
}

impl<S: IovaSpace + Copy> IovaRange<S> {
    /// Links all of `phyrs`, each of which has to join as for [`IovaRange::link`].
    ///
    /// # Errors
    ///
    /// Those of [`IovaRange::link`]; what an element is.
    #[inline]
    pub(crate) fn link_all(&mut self, phyrs: impl Iterator<Item = Result<PinnedPhyr>>) -> Result {
        self.link_each(phyrs, |phyr, _| phyr)
    }

    /// Links what `phyr` makes of each of `items`, which has to join as for [`IovaRange::link`]; it
    /// is told at which address that comes to be.
    ///
    /// # Errors
    ///
    /// Those of [`IovaRange::link`] and of `phyr`.
    #[inline]
    pub(crate) fn link_each<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        phyr: impl FnMut(T, DmaAddr) -> Result<PinnedPhyr>,
    ) -> Result {
        if self.space.links_lists() && !self.iova.attrs.is_mmio() {
            return self.link_lists(items, phyr);
        }
        let mut linked = self.iova.linked;
        let result = self.link_singly(items, phyr, &mut linked);
        // INVARIANT: the space has linked so many bytes, with an error or not.
        self.iova.linked = linked;
        result
    }

    /// Links each by itself; `linked` is counted instead of that of the range.
    // The space is given the address of the state only: all else stays in registers.
    #[inline(always)]
    fn link_singly<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        mut phyr: impl FnMut(T, DmaAddr) -> Result<PinnedPhyr>,
        linked: &mut usize,
    ) -> Result {
        let (space, len, attrs, start) = (self.space, self.len, self.iova.attrs, self.addr());
        for item in items {
            // CAST: a `usize` is at most 64 bits wide.
            let phyr = phyr(item, start.advanced(*linked as u64))?;
            let bytes = phyr.phyr().len();
            if bytes > len - *linked {
                return Err(EINVAL);
            }
            // INVARIANT: it is of the range, of which just these bytes are linked, for `attrs`.
            let to = LinkTarget {
                state: &mut self.iova.state,
                linked: *linked,
                attrs,
            };
            space.link(to, phyr)?;
            *linked += bytes;
        }
        Ok(())
    }

    /// Links a list at a time.
    #[inline(never)]
    fn link_lists<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        mut phyr: impl FnMut(T, DmaAddr) -> Result<PinnedPhyr>,
    ) -> Result {
        // Bytes of the phyrs in the list; its granules may be more.
        let mut list = SgList::new();
        let mut bytes = 0;
        for item in items {
            // CAST: a `usize` is at most 64 bits wide.
            let phyr = phyr(item, self.addr().advanced((self.linked() + bytes) as u64))?;
            let len = phyr.phyr().len();
            if len > self.unlinked() - bytes {
                return Err(EINVAL);
            }
            let granules = phyr.around(self.granule).ok_or(EOVERFLOW)?;
            if !list.push(granules) {
                self.link_list(&mut list, &mut bytes)?;
                if !list.push(granules) {
                    // Longer than an entry can be.
                    self.link(phyr)?;
                    continue;
                }
            }
            bytes += len;
        }
        self.link_list(&mut list, &mut bytes)
    }
}

impl<S: IovaSpace> Drop for IovaRange<S> {
    fn drop(&mut self) {
        // SAFETY: `self` is not used after this.
        let iova = unsafe { ManuallyDrop::take(&mut self.iova) };
        self.space.destroy(iova);
    }
}
