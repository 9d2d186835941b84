// SPDX-License-Identifier: GPL-2.0

//! Scatter: map this bunch of disjoint things.
//!
//! Entry points: [`Mapper::map_into`] with slots that the caller has set aside, for a path that
//! must not allocate, and [`Mapper::map`](super::mapping) for memory that the mapping owns. How
//! memory is mapped is decided in `choose.rs` and done in `exec.rs`.
//!
//! C: what `blk_rq_dma_map_iter_start()` in [`block/blk-mq-dma.c`](srctree/block/blk-mq-dma.c) does
//! for requests; it joins all of a request or nothing.

use super::{
    dma_api::{
        DmaApi,
        Space, //
    },
    exec::{
        check,
        Target, //
    },
    state::{
        End,
        Ending,
        Slot,
        State, //
    }, //
};
use crate::{
    attrs::MapAttrs,
    mapper::Mapper,
    pinned::{
        Pinned,
        PinnedPhyr, //
    },
    source::Source,
    space::{
        IovaSpace,
        Single, //
    }, //
};
use kernel::prelude::*;

impl Mapper<'_> {
    /// Maps all of `memory`; the ranges that the device sees are then in `state` and `slots`, see
    /// [`State::dma_vecs`]. Nothing must be mapped in `state` before: what it was is lost.
    ///
    /// `slots` is asked for the slots where they are needed: one a phyr if there are several, and
    /// none if the source [knows](Source::run_len) that they are one run and there is an IOVA range
    /// for it. Each phyr must be within the mapper's limits, as
    /// [`Segments`](crate::source::Segments) cuts them.
    ///
    /// Context: any; allocates no memory of its own and does not sleep.
    ///
    /// # Errors
    ///
    /// In each case nothing is left mapped, and `state` is as before.
    ///
    /// - `EINVAL`: nothing to map.
    /// - `E2BIG`: more phyrs than slots.
    /// - `EMSGSIZE`: a phyr is over a limit of the device.
    /// - `EOVERFLOW`: the length of all overflows.
    /// - `EBUSY`: the device is in a domain of its own, and the mapper is not.
    /// - The errors of the source of `memory`, and of `slots`.
    ///
    /// Failures that pass when other mappings end, or memory is free again:
    ///
    /// - `ENOSPC`: no IOVA space.
    /// - `ENOMEM`: no memory, such as for a page table.
    /// - `EAGAIN`: all bounce buffers are in use.
    ///
    /// Failures that last; the kernel log has the reason, at a limited rate:
    ///
    /// - `ENOBUFS`: the device may have a copy of the memory only, and there are no bounce buffers
    ///   that it can reach; see [`Mapper::dma_alignment`].
    /// - `EFBIG`: it may have a copy only, and a phyr is longer than a bounce buffer; see
    ///   [`Mapper::max_mapping_size`].
    /// - `ERANGE`: the memory is beyond the device's DMA mask, and there is no bounce buffer.
    #[inline]
    pub fn map_into<'s, S: Source>(
        &self,
        memory: Pinned<S>,
        slots: impl FnOnce() -> Result<&'s mut [Slot]>,
        state: &mut State,
    ) -> Result {
        self.check_domain()?;
        let Some(only) = memory.only() else {
            return self.map_several(memory, slots, state);
        };
        let only = only?;
        check(self.limits(), only.phyr())?;
        if self.is_special() {
            return self.map_special(only, memory.attrs(), state);
        }
        *state = self.target(DmaApi(self), memory.attrs()).single(only)?;
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
        if self.is_special() {
            self.target(Space::of(self), memory.attrs())
                .several(&memory, slots, state)
        } else {
            self.target(DmaApi(self), memory.attrs())
                .several(&memory, slots, state)
        }?;
        // The owner of the slots is to have them back.
        state.hold();
        Ok(())
    }

    /// Maps one phyr where memory is not just given to the DMA API.
    #[inline(never)]
    fn map_special(&self, phyr: PinnedPhyr, attrs: MapAttrs, state: &mut State) -> Result {
        *state = self.target(Space::of(self), attrs).single(phyr)?;
        Ok(())
    }

    /// Returns the target of a mapping for `attrs` in `space`, which is that of the mapper.
    #[inline]
    pub(super) fn target<A>(&self, space: A, attrs: MapAttrs) -> Target<'_, A> {
        Target {
            mapper: self,
            space,
            attrs,
        }
    }

    /// Ends the mapping of `state`; does nothing if that is [`State::UNMAPPED`].
    ///
    /// Context: any; does not sleep.
    ///
    /// # Safety
    ///
    /// - `state` comes from a mapping by this mapper, made with these `slots`, which have not been
    ///   written since.
    /// - The device is done with the memory.
    #[doc(hidden)]
    #[inline]
    pub unsafe fn unmap_from(&self, mut state: State, slots: &[Slot]) {
        // SAFETY: the caller promises that `state` and `slots` are of one mapping by this mapper.
        unsafe { self.unmap_in_place(&mut state, || slots) };
    }

    /// Ends the mapping of a state that stays where it is, and in which nothing is mapped then.
    /// `slots` is asked for the slots where there are several ranges. Returns whether there may be
    /// slots to be given back now, or [something else](State::hold).
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::unmap_from`].
    // With the loop over what has completed: most of it is one check where nothing translates.
    #[inline(always)]
    pub unsafe fn unmap_in_place<'s>(
        &self,
        state: &mut State,
        slots: impl FnOnce() -> &'s [Slot],
    ) -> bool {
        match (state.end(), self.space()) {
            (End::Nothing, _) => {
                state.clear();
                return false;
            }
            (End::Single, None) => {
                let vec = state.one().dma_vec();
                // INVARIANT: by the invariant of `State` it was mapped so, and the state forgets
                // it.
                let single = Single {
                    addr: vec.addr(),
                    len: vec.len(),
                    attrs: state.attrs(),
                };
                state.clear();
                DmaApi(self).unmap_phys(single);
                return false;
            }
            _ => {}
        }
        if state.needs_unmap() {
            let slots = if state.dma_vec().is_some() {
                &[]
            } else {
                slots()
            };
            // INVARIANT: the caller promises that they are of one mapping by this mapper.
            end(self, Ending { state, slots });
        }
        state.clear();
        true
    }
}

/// Ends a mapping that is not one `dma_map_phys()`. The state is to be cleared then.
#[inline(never)]
fn end(mapper: &Mapper<'_>, ending: Ending<'_>) {
    let space = Space::of(mapper);
    if let Some(iova) = ending.packed(mapper.granule()) {
        return space.destroy(iova);
    }
    for segment in ending.segments() {
        segment.end(&space);
    }
}
