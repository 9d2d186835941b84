// SPDX-License-Identifier: GPL-2.0

//! Many mappings made visible to the device at once.
//!
//! Some IOMMUs have to be told of what is mapped: a virtual one of the hypervisor, or one that
//! keeps what was not mapped (caching mode). `dma_iova_sync()` does that, which can be an exit of
//! the guest. [`Unsynced`] puts it off for all mappings that are made with it: [`Unsynced::sync`]
//! then syncs once, from the first to the last of their addresses. The device must not be told of
//! them before.

use super::{
    choose::Strategy,
    dma_api::{
        link_single,
        link_single_apart,
        DmaApi, //
    },
    exec::check,
    state::{
        Slot,
        State, //
    }, //
};
use crate::{
    attrs::MapAttrs,
    fail::{
        self,
        Point, //
    },
    mapper::Mapper,
    pinned::{
        Pinned,
        PinnedPhyr, //
    },
    raw,
    source::Source,
    space::{
        Iova,
        IovaSpace,
        LinkTarget,
        Single, //
    },
    types::{
        DmaAddr,
        PhysAddr, //
    }, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// Mappings of a mapper that are linked, and that the device may not see yet.
#[must_use = "the device may not see the mappings before they are synced"]
pub struct Unsynced<'m> {
    mapper: &'m Mapper<'m>,
    /// The first of their addresses; above `last` if there is none. Atomic only because an
    /// `IovaSpace` is `Sync`: one thread uses it.
    first: Atomic<u64>,
    /// The last of their addresses.
    last: Atomic<u64>,
}

impl<'m> Unsynced<'m> {
    /// Begins; returns `None` where there is nothing to be put off.
    #[inline]
    pub fn new(mapper: &'m Mapper<'m>) -> Option<Self> {
        // `dma_map_phys()` syncs by itself: only the sync of linked ranges can be put off.
        let is_told = mapper.links_singles() && !mapper.is_special() && mapper.is_told_of_maps();
        is_told.then_some(Self {
            mapper,
            first: Atomic::new(u64::MAX),
            last: Atomic::new(0),
        })
    }

    /// Maps as [`Mapper::map_into`] does, all but for the sync.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::map_into`].
    #[inline]
    pub fn map_into<'s, S: Source>(
        &self,
        memory: Pinned<S>,
        slots: impl FnOnce() -> Result<&'s mut [Slot]>,
        state: &mut State,
    ) -> Result {
        self.mapper.check_domain()?;
        let Some(only) = memory.only() else {
            return self.map_several(memory, slots, state);
        };
        let (only, attrs) = (only?, memory.attrs());
        check(self.mapper.limits(), only.phyr())?;
        let addr = link_single(Deferred(self), self.mapper, only, attrs)?;
        let range = Slot::range(addr, only.phyr().len());
        // SAFETY: just that is mapped.
        *state = unsafe { State::new(Strategy::Single, range, 1, attrs, true) };
        Ok(())
    }

    /// Maps a source of several pieces. A function of its own, so that the short path has few
    /// registers to save.
    #[inline(never)]
    fn map_several<'s, S: Source>(
        &self,
        memory: Pinned<S>,
        slots: impl FnOnce() -> Result<&'s mut [Slot]>,
        state: &mut State,
    ) -> Result {
        let target = self.mapper.target(Deferred(self), memory.attrs());
        target.several(&memory, slots, state)?;
        // The owner of the slots is to have them back.
        state.hold();
        Ok(())
    }

    /// Makes all mappings visible to the device.
    ///
    /// # Errors
    ///
    /// Those of `dma_iova_sync()`: the device may see none of them.
    #[inline]
    pub fn sync(self) -> Result {
        let (first, last) = (self.first.load(Relaxed), self.last.load(Relaxed));
        if first > last {
            return Ok(());
        }
        fail::at(Point::dma_iova_sync)?;
        let dev = raw::device(self.mapper.device());
        // Not all of the 2^64 bytes: the DMA API gives out no address of the first granule.
        let len = last - first + 1;
        let mut state = bindings::dma_iova_state {
            addr: first,
            __size: len,
        };
        // SAFETY: the device is bound, and the state is only looked at. What lies between the
        // ranges that were linked does not change: a sync tells the IOMMU to look again.
        // CAST: an `unsigned long` has 64 bits, as this crate asks of the kernel.
        to_result(unsafe { bindings::dma_iova_sync(dev, &mut state, 0, len as usize) })
    }

    /// Adds the range of `iova`.
    #[inline]
    fn add(&self, iova: &Iova) {
        let start = iova.addr().into_raw();
        // CAST: a `usize` is at most 64 bits wide.
        let last = start + (iova.linked() as u64 - 1);
        let (first, after) = (self.first.load(Relaxed), self.last.load(Relaxed));
        self.first.store(first.min(start), Relaxed);
        self.last.store(after.max(last), Relaxed);
    }
}

/// The address space of the DMA API, in which a sync is put off.
#[derive(Clone, Copy)]
struct Deferred<'a, 'm>(&'a Unsynced<'m>);

impl<'m> Deferred<'_, 'm> {
    #[inline]
    fn api(self) -> DmaApi<'m> {
        DmaApi(self.0.mapper)
    }
}

// SAFETY: all is done by the DMA API, but for the sync: before that the device reaches less.
unsafe impl IovaSpace for Deferred<'_, '_> {
    fn first(&self) -> u64 {
        self.api().first()
    }

    fn last(&self) -> u64 {
        self.api().last()
    }

    fn max_len(&self) -> u64 {
        self.api().max_len()
    }

    #[inline]
    fn alloc(&self, start: PhysAddr, len: usize) -> Option<(DmaAddr, u64)> {
        self.api().alloc(start, len)
    }

    #[inline]
    fn link(&self, to: LinkTarget<'_>, phyr: PinnedPhyr) -> Result {
        self.api().link(to, phyr)
    }

    #[inline]
    fn sync(&self, iova: &mut Iova) -> Result {
        self.0.add(iova);
        Ok(())
    }

    fn unlink(&self, iova: &mut Iova, to: usize) {
        self.api().unlink(iova, to);
    }

    fn destroy(&self, iova: Iova) {
        self.api().destroy(iova);
    }

    fn free(&self, iova: Iova) {
        self.api().free(iova);
    }

    #[inline]
    fn map_phys(&self, phyr: PinnedPhyr, attrs: MapAttrs) -> Result<DmaAddr> {
        link_single_apart(*self, self.0.mapper, phyr, attrs)
    }

    fn unmap_phys(&self, single: Single) {
        self.api().unmap_phys(single);
    }
}
