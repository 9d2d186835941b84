// SPDX-License-Identifier: GPL-2.0

//! Many mappings ended with one flush of the IOTLB.
//!
//! ```text
//!   Unmapping -- unmap() ... -- flush() --> Flushed -- free() ...
//!       |                                      |
//!       unlinked, in the IOTLB yet             unlinked, flushed: addresses and memory may be used
//! ```
//!
//! After `iommu_unmap_fast()` a device may still get at a page by the IOTLB. So neither addresses
//! nor memory are given back before the flush: what frees an address is a method of [`Flushed`],
//! and that comes from [`Unmapping::flush`] alone. What is forgotten on the way is never freed.
//!
//! Where mappings cannot be flushed together there is no [`Unmapping`], and each ends by itself, in
//! [`Mapper::unmap_in_place`]: where nothing translates, and for a device that gets copies or is
//! not coherent. In lazy mode [`Unmapping::unmap`] ends what is mapped by itself, whose flush the
//! DMA API puts off for longer.
//!
//! How it is flushed depends on the driver of the IOMMU:
//!
//! - Those with a page table of the kernel's own kind (Intel, AMD) flush the range from the first
//!   to the last address that was unlinked, or all of the domain if that is [too wide](iotlb).
//! - Others may flush on the way whatever does not adjoin, such as the SMMUv3. They are told that
//!   all will be flushed (`queued`), and all of the domain is, if there are several ranges.
//!
//! C header: [`include/linux/iommu.h`](srctree/include/linux/iommu.h), `struct iommu_iotlb_gather`

use super::{
    choose::Strategy,
    dma_api::{
        DmaApi,
        Space, //
    },
    state::{
        End,
        Ending,
        Segment,
        Slot,
        State, //
    }, //
};
use crate::{
    bindings as helpers,
    fail::{
        self,
        Omission, //
    },
    iotlb,
    mapper::Mapper,
    space::{
        Domain,
        Iova,
        IovaSpace,
        Single, //
    },
    types::Granule, //
};
use core::pin::Pin;
use kernel::{
    bindings,
    prelude::*,
    types::Opaque,
    warn_on, //
};

/// Memory for the list of what is to be flushed, which points to itself: see [`Unmapping::new`].
pub struct IotlbGather(Opaque<bindings::iommu_iotlb_gather>);

impl IotlbGather {
    /// Makes the memory, to be pinned.
    #[inline]
    #[expect(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(Opaque::uninit())
    }

    #[inline]
    fn as_ptr(self: Pin<&mut Self>) -> *mut bindings::iommu_iotlb_gather {
        self.0.get()
    }
}

/// Mappings of one mapper that end together: unlinked, and not flushed yet.
///
/// Dropping it flushes, but frees no addresses. If it is forgotten, nothing is flushed or freed.
///
/// # Invariants
///
/// `domain` is that of `mapper`; `gather` was initialised for it, and has what was unlinked. That
/// is `ranges` ranges, all of them from `first` to `last`.
pub struct Unmapping<'p, 'm> {
    mapper: &'m Mapper<'m>,
    gather: Pin<&'p mut IotlbGather>,
    domain: Domain,
    granule: Granule,
    first: u64,
    last: u64,
    ranges: usize,
}

/// Shows that all that an [`Unmapping`] has unlinked was flushed.
pub struct Flushed<'m> {
    mapper: &'m Mapper<'m>,
    ranges: usize,
}

impl<'p, 'm> Unmapping<'p, 'm> {
    /// Begins, with `gather` for the list. `None` where nothing of the mapper can be flushed
    /// together: each mapping ends by itself.
    #[inline]
    pub fn new(mapper: &'m Mapper<'m>, mut gather: Pin<&'p mut IotlbGather>) -> Option<Self> {
        let (domain, granule) = mapper.domain().zip(mapper.granule())?;
        let raw = gather.as_mut().as_ptr();
        // What was in it, if it was forgotten, is never freed.
        //
        // SAFETY: it may be written, and stays in place for as long as it is used: until it is
        // initialised again, or for `'p`.
        unsafe { helpers::phyr_helper_iotlb_gather_init(raw) };
        // The driver of the IOMMU does not flush on the way then.
        //
        // SAFETY: it was just initialised.
        unsafe { (*raw).queued = domain.gathers_ranges() };
        // INVARIANT: nothing was unlinked.
        Some(Self {
            mapper,
            gather,
            domain,
            granule,
            first: u64::MAX,
            last: 0,
            ranges: 0,
        })
    }

    /// Returns the mapper.
    #[inline]
    pub fn mapper(&self) -> &'m Mapper<'m> {
        self.mapper
    }

    /// Unlinks the mapping of `state`; does nothing if that is [`State::UNMAPPED`]. `slots` is
    /// asked for the slots where there are several ranges.
    ///
    /// If the state is [unlinked](State::is_unlinked) then, [`Flushed::free`] is to free its
    /// addresses; else the mapping has ended, and what is returned is as
    /// [`Mapper::unmap_in_place`] says.
    ///
    /// Context: any; does not sleep.
    ///
    /// # Safety
    ///
    /// - `state` comes from a mapping by this mapper, made with these `slots`, which are not
    ///   written until it has ended.
    /// - The device is done with the memory, which is not used for anything else until the flush.
    // One range that was mapped by itself is most common, and in line.
    #[inline(always)]
    pub unsafe fn unmap<'s>(
        &mut self,
        state: &mut State,
        slots: impl FnOnce() -> &'s [Slot],
    ) -> bool {
        if state.end() == End::Single && self.can_unlink(Strategy::Single) {
            let vec = state.one().dma_vec();
            if self.unlink(vec.addr().into_raw(), vec.len()) {
                state.set_unlinked();
                return false;
            }
            // Its addresses are never given out again.
            state.clear();
            return true;
        }
        if !(state.needs_unmap() && self.can_unlink(state.strategy())) {
            // SAFETY: the caller promises that they are of one mapping by this mapper, and that the
            // device is done.
            return unsafe { self.mapper.unmap_in_place(state, slots) };
        }
        let slots = if state.dma_vec().is_some() {
            &[]
        } else {
            slots()
        };
        // INVARIANT: the caller promises that they are of one mapping by this mapper. It is ended
        // here and, if the state says so, in `Flushed::free`.
        if self.unlink_all(Ending { state, slots }) {
            state.set_unlinked();
            return false;
        }
        // Its addresses are never given out again.
        state.clear();
        true
    }

    /// Returns whether what was mapped so can be unlinked, to be flushed later.
    #[inline]
    fn can_unlink(&self, strategy: Strategy) -> bool {
        strategy != Strategy::Single || self.mapper.links_singles()
    }

    /// Unlinks a mapping; returns whether all of it was linked.
    #[inline(never)]
    fn unlink_all(&mut self, ending: Ending<'_>) -> bool {
        if let Some(vec) = ending.state.dma_vec() {
            return self.unlink(vec.addr().into_raw(), vec.len());
        }
        if let Some(iova) = ending.packed(self.mapper.granule()) {
            return self.unlink(iova.addr().into_raw(), iova.linked());
        }
        let mut are_all_unlinked = true;
        for segment in ending.segments() {
            match linked(self.mapper, segment) {
                Ok(iova) => {
                    are_all_unlinked &= self.unlink(iova.addr().into_raw(), iova.linked());
                }
                Err(segment) => segment.end(&Space::of(self.mapper)),
            }
        }
        are_all_unlinked
    }

    /// Unlinks the granules around `len` bytes at `addr`; returns whether all of them were linked.
    #[inline]
    fn unlink(&mut self, addr: u64, len: usize) -> bool {
        let (domain, granule) = (self.domain, self.granule);
        let start = granule.align_down(addr);
        // CAST: a `usize` is at most 64 bits wide.
        let Some(bytes) = granule.align_up(addr - start + len as u64) else {
            return false;
        };
        if !domain.gathers_ranges() {
            self.announce(domain);
        }
        let gather = self.gather.as_mut().as_ptr();
        // CAST: an `unsigned long` has 64 bits, as this crate asks of the kernel.
        //
        // SAFETY: by the type invariant `gather` is initialised, for this domain. The callers have
        // a range that is linked there, and that they end.
        let unlinked = unsafe {
            bindings::iommu_unmap_fast(domain.as_ptr(), start as usize, bytes as usize, gather)
        };
        // INVARIANT: one range more, which is within these.
        self.first = self.first.min(start);
        self.last = self.last.max(start + (bytes - 1));
        self.ranges += 1;
        // CAST: a `usize` is at most 64 bits wide.
        !warn_on!(unlinked as u64 != bytes)
    }

    /// Keeps a driver of the IOMMU that does not gather ranges from flushing on the way.
    ///
    /// A single range is flushed by its addresses; from the second one on all of the domain is.
    #[inline(never)]
    fn announce(&mut self, domain: Domain) {
        if self.ranges != 0 && domain.can_flush_all() {
            // SAFETY: by the type invariant it is initialised.
            unsafe { (*self.gather.as_mut().as_ptr()).queued = true };
        }
    }

    /// Flushes all that was unlinked.
    ///
    /// Context: any; does not sleep.
    #[inline]
    pub fn flush(mut self) -> Flushed<'m> {
        self.sync();
        Flushed {
            mapper: self.mapper,
            ranges: core::mem::take(&mut self.ranges),
        }
    }

    /// Flushes what was unlinked.
    #[inline]
    fn sync(&mut self) {
        let domain = self.domain;
        if self.ranges == 0 {
            return;
        }
        if fail::omits(Omission::iommu_iotlb_sync) {
            return;
        }
        // SAFETY: by the type invariant it is initialised, and nobody else has it.
        let gather = unsafe { &mut *self.gather.as_mut().as_ptr() };
        if domain.gathers_ranges() {
            gather.queued = false;
            // CAST: an `unsigned long` has 64 bits, as this crate asks of the kernel.
            (gather.start, gather.end) = (self.first as usize, self.last as usize);
        } else if gather.queued {
            // Such drivers leave no tables in the list, to be freed after the flush.
            //
            // SAFETY: by its invariant the domain is there.
            return unsafe { helpers::phyr_helper_iommu_flush_iotlb_all(domain.as_ptr()) };
        }
        if iotlb::narrow(gather) {
            // SAFETY: by its invariant the domain is there.
            unsafe { helpers::phyr_helper_iommu_flush_iotlb_all(domain.as_ptr()) };
        }
        // SAFETY: by the type invariant `gather` is initialised, for this domain.
        unsafe { helpers::phyr_helper_iotlb_sync(domain.as_ptr(), gather) };
    }
}

impl Drop for Unmapping<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        self.sync();
    }
}

impl Flushed<'_> {
    /// Returns whether there is nothing to be freed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ranges == 0
    }

    /// Frees the addresses of a mapping that was unlinked; does nothing if `state` is not
    /// [unlinked](State::is_unlinked). Then nothing is mapped in it. Returns whether there may be
    /// slots to be given back now, or [something else](State::hold).
    ///
    /// Context: any; does not sleep.
    ///
    /// # Safety
    ///
    /// The [`Unmapping`] that this comes from has unlinked the mapping of `state`, with these
    /// `slots`, which have not been written since.
    // One range that was mapped by itself is most common, and in line.
    #[inline(always)]
    pub unsafe fn free<'s>(&self, state: &mut State, slots: impl FnOnce() -> &'s [Slot]) -> bool {
        if state.end() == End::FreeSingle && !self.mapper.is_special() {
            let vec = state.one().dma_vec();
            // INVARIANT: by the invariant of `State` it was mapped so, and the state forgets it.
            let single = Single {
                addr: vec.addr(),
                len: vec.len(),
                attrs: state.attrs(),
            };
            state.clear();
            DmaApi(self.mapper).free(unlinked(single.into_iova()));
            return false;
        }
        if !state.is_unlinked() {
            return false;
        }
        let has_more = state.end() == End::FreeWhole;
        // How much of one range was linked does not matter any more.
        let slots = if state.dma_vec().is_some() || state.packed().is_some() {
            &[]
        } else {
            slots()
        };
        // INVARIANT: the caller promises that they are of one mapping, of this mapper.
        self.free_all(Ending { state, slots });
        state.clear();
        has_more
    }

    /// Frees the addresses of a mapping.
    #[inline(never)]
    fn free_all(&self, ending: Ending<'_>) {
        let space = Space::of(self.mapper);
        if let Some(range) = ending.state.packed() {
            // INVARIANT: `Unmapping` has unlinked it.
            return space.free(Iova {
                state: range.state(),
                linked: 0,
                attrs: ending.state.attrs(),
            });
        }
        for segment in ending.segments() {
            // Segments that could not be gathered were unmapped in `unlink_all`.
            if let Ok(iova) = linked(self.mapper, segment) {
                space.free(unlinked(iova));
            }
        }
    }
}

/// Returns the range of what is linked in the domain of `mapper`; or what is not.
#[inline]
fn linked(mapper: &Mapper<'_>, segment: Segment) -> Result<Iova, Segment> {
    match segment {
        Segment::Iova(iova) => Ok(iova),
        Segment::Single(single) if mapper.links_singles() => Ok(single.into_iova()),
        single => Err(single),
    }
}

/// Returns a range of which nothing is linked any more.
#[inline]
fn unlinked(iova: Iova) -> Iova {
    // INVARIANT: the callers have seen to it that `Unmapping` has unlinked it.
    Iova { linked: 0, ..iova }
}
