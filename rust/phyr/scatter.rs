// SPDX-License-Identifier: GPL-2.0

//! Scatter: map this bunch of disjoint things.
//!
//! One engine for every device. What is not translated, and what is known to be one run, is mapped
//! as the source yields it. Else the phyrs are collected in slots and planned on the way, and then
//! mapped as the plan calls for:
//!
//! | device | phyrs | mapped as |
//! |---|---|---|
//! | any | 1 | one `dma_map_phys()`, no slot |
//! | not translated | n | `dma_map_phys()` each |
//! | IOMMU, one run | n | one IOVA range, linked phyr by phyr, one flush |
//! | IOMMU, several runs | n | one IOVA range that holds all the runs, one flush |
//! | IOMMU, several runs that may not share | n | an IOVA range a run; for a run of one as above |
//! | IOMMU without room for a range | n | `dma_map_phys()` each |
//!
//! Whatever fails on the way, what was mapped until then is unmapped by the Drop of the value that
//! holds it (`IovaRange` or `Singles`). The strategies are in `strategy.rs`.
//!
//! C: what `blk_rq_dma_map_iter_start()` in [`block/blk-mq-dma.c`](srctree/block/blk-mq-dma.c) does
//! for requests; it joins all of a request or nothing.

use super::{
    mapper::Mapper,
    memory::Kind,
    ops::{
        self,
        Mode, //
    },
    plan::{
        Limits,
        PlanError,
        Planner, //
    },
    source::{
        request::{
            RequestPhyrs,
            RequestPieces, //
        },
        Joined,
        Source, //
    },
    state::{
        Made,
        Slot,
        State, //
    },
    trace,
    types::{
        Granule,
        Phyr, //
    },
};
use core::num::NonZeroUsize;
use kernel::{
    bindings,
    dma::DataDirection,
    prelude::*, //
};

impl From<PlanError> for Error {
    fn from(e: PlanError) -> Self {
        match e {
            PlanError::Empty => EINVAL,
            PlanError::Overflow => EOVERFLOW,
        }
    }
}

impl Mapper<'_> {
    /// Maps all of `source`; the ranges that the device sees are then in the returned state and
    /// `slots`, see [`State::dma_vecs`].
    ///
    /// A slot a phyr is needed, and none for one phyr, nor for one run that there is an IOVA range
    /// for. Each phyr must be within the mapper's limits, as
    /// [`Segments`](super::source::Segments) cuts them.
    ///
    /// Context: any; allocates no memory of its own and does not sleep.
    ///
    /// # Errors
    ///
    /// In each case nothing is left mapped.
    ///
    /// - `EINVAL`: nothing to map, or `dir` is [`DataDirection::None`].
    /// - `E2BIG`: more phyrs than slots.
    /// - `EMSGSIZE`: a phyr is over a limit of the device.
    /// - `EOVERFLOW`: the length of all overflows.
    /// - `EBUSY`: the device is in a domain of its own, and the mapper is not.
    /// - `ENOSPC`: no room among the device's addresses. It passes, as mappings end.
    /// - `ENOMEM`: no memory, such as for a page table. It passes.
    /// - `EAGAIN`: all bounce buffers are in use. It passes, as mappings end.
    /// - `ENOBUFS`: for ever: the device may have a copy of the memory only, and there are no
    ///   bounce buffers that it can reach; see [`Mapper::dma_alignment`].
    /// - `EFBIG`: for ever: it may have a copy only, and a phyr is longer than a bounce buffer; see
    ///   [`Mapper::max_mapping_size`].
    /// - `ERANGE`: for ever: the memory is beyond the device's DMA mask, and there is nothing to
    ///   copy to.
    /// - What `source` fails with.
    ///
    /// Of what fails for ever a line in the kernel log says why, once in a while.
    ///
    /// # Safety
    ///
    /// Until the mapping has ended by [`Mapper::unmap_from`]:
    ///
    /// - the memory of `source` must stay allocated, and must be such as the device may access in
    ///   the direction `dir`;
    /// - `slots` must not be written, not even by another mapping.
    #[inline]
    pub unsafe fn map_into<S: Source + Clone>(
        &self,
        source: S,
        dir: DataDirection,
        slots: &mut [Slot],
    ) -> Result<State> {
        self.check_domain()?;
        let mode = Mode::new(dir, Kind::System)?;
        let mut phyrs = source.clone();
        if let (Some(only), None) = (phyrs.next(), phyrs.next()) {
            let only = only?;
            self.check(only)?;
            // SAFETY: by the requirements of this function.
            return unsafe { self.map_one(only, mode) };
        }
        if let Some(granule) = self.granule() {
            let look = self.look(source.clone(), granule)?;
            if let Some(len) = look.run {
                // SAFETY: by the requirements of this function.
                let run = unsafe { self.map_run(source.clone(), len, granule, mode) }?;
                if let Some(state) = run {
                    return Ok(state);
                }
            }
        }
        // SAFETY: as above.
        unsafe { self.map_source(source, mode, slots, self.granule()) }
    }

    /// Looks at a source that may be one run, before anything is mapped or set aside.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::map_into`].
    #[inline]
    pub(crate) fn look<S: Source>(&self, source: S, granule: Granule) -> Result<Look> {
        let (mut phyrs, mut len, mut end, mut edges, mut offset) = (0, 0usize, 0, 0, 0);
        for phyr in source {
            let phyr = phyr?;
            self.check(phyr)?;
            let start = phyr.paddr().into_raw();
            if phyrs == 0 {
                offset = granule.offset(start);
            } else {
                edges |= end | start;
            }
            phyrs += 1;
            end = phyr.end();
            len = len.checked_add(phyr.len()).ok_or(EOVERFLOW)?;
        }
        // CAST: a `usize` is at most 64 bits wide.
        let is_run = granule.aligned(edges) && len as u64 <= self.limits().room(offset);
        Ok(Look {
            phyrs,
            run: NonZeroUsize::new(len).filter(|_| is_run),
        })
    }

    /// Lets the CPU see what the device wrote to the mapping of `state`:
    /// `dma_sync_single_for_cpu()` of each range that may need it.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// `state` is that of a mapping by this mapper, made with these `slots`, which have not been
    /// written since.
    #[doc(hidden)]
    pub unsafe fn sync_for_cpu(&self, state: &State, slots: &[Slot]) {
        for vec in state.singles(slots) {
            // SAFETY: by the requirements of this function.
            unsafe { ops::sync_for_cpu(self, vec.addr(), vec.len(), state.mode()) };
        }
    }

    /// Lets the device see what the CPU wrote; as [`Mapper::sync_for_cpu`].
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// That of [`Mapper::sync_for_cpu`].
    #[doc(hidden)]
    pub unsafe fn sync_for_device(&self, state: &State, slots: &[Slot]) {
        for vec in state.singles(slots) {
            // SAFETY: by the requirements of this function.
            unsafe { ops::sync_for_device(self, vec.addr(), vec.len(), state.mode()) };
        }
    }

    /// Maps `source`, and joins what it can if there is a `granule`.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_into`]; `granule` is [`Mapper::granule`] or `None`.
    #[inline]
    pub(crate) unsafe fn map_source<S: Source>(
        &self,
        source: S,
        mode: Mode,
        slots: &mut [Slot],
        granule: Option<Granule>,
    ) -> Result<State> {
        let Some(granule) = granule else {
            let source = source.map(|phyr| phyr.and_then(|phyr| self.check(phyr).map(|()| phyr)));
            // SAFETY: by the requirements of this function.
            return unsafe { self.map_each(source, mode, slots) };
        };
        // SAFETY: as above.
        unsafe { self.map_planned(source, mode, slots, granule, *self.limits()) }
    }

    /// Maps `source` as planned: for what may have gaps.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_into`]; `limits` are the mapper's, or none where those are not in the
    /// way.
    #[inline]
    unsafe fn map_planned<S: Source>(
        &self,
        source: S,
        mode: Mode,
        slots: &mut [Slot],
        granule: Granule,
        limits: Limits,
    ) -> Result<State> {
        let mut list = Collect::new(granule, limits, slots);
        for phyr in source {
            let phyr = phyr?;
            check(&limits, phyr)?;
            list.push(phyr)?;
        }
        let plan = list.planner.plan()?;
        if let (1, Some(only)) = (plan.phyrs, list.last) {
            // SAFETY: as above.
            return unsafe { self.map_one(only, mode) };
        }
        let slots = slots.get_mut(..plan.phyrs).ok_or(E2BIG)?;
        // SAFETY: the slots hold the phyrs of the source, as planned; the rest as above.
        unsafe { self.map_slots(slots, granule, plan, mode) }
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
    #[inline]
    pub unsafe fn unmap_from(&self, mut state: State, slots: &[Slot]) {
        // SAFETY: by the requirements of this function.
        unsafe { self.unmap_in_place(&mut state, || slots) };
    }

    /// As [`Mapper::unmap_from`], of a state that stays where it is: nothing is mapped in it then.
    /// `slots` is asked for the slots where there are several ranges.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::unmap_from`].
    // With the loop over what has completed: most of it is one check where nothing translates.
    #[inline(always)]
    pub unsafe fn unmap_in_place<'s>(&self, state: &mut State, slots: impl FnOnce() -> &'s [Slot]) {
        if !state.needs_unmap() {
            return state.clear();
        }
        if let (Made::Single, None) = (state.made(), self.window()) {
            let (vec, mode) = (state.one().dma_vec(), state.mode());
            state.clear();
            // SAFETY: by the invariant of `State` this was mapped so, and is not unmapped again.
            return unsafe { ops::unmap_phys(self, vec.addr(), vec.len(), mode) };
        }
        let slots = if state.dma_vec().is_some() {
            &[]
        } else {
            slots()
        };
        // SAFETY: by the requirements of this function.
        unsafe { self.unmap_made(state.take(), slots) };
    }

    /// What is not the short path of [`Mapper::unmap_in_place`].
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::unmap_from`].
    #[inline(never)]
    unsafe fn unmap_made(&self, state: State, slots: &[Slot]) {
        let mode = state.mode();
        let one = state.one();

        match state.made() {
            Made::Unmapped => {}
            // SAFETY: by the invariant of `State` this was mapped so, and is not unmapped again;
            // all of a `Joined` range is linked.
            Made::Single | Made::Joined => unsafe { self.unmap_slot(one, mode) },
            Made::Packed => {
                if let Some(range) = one.closed() {
                    let linked = self.packed_len(&state, slots);
                    // SAFETY: as above; the range is linked up to the granule in which the last run
                    // ends.
                    unsafe { ops::destroy(self, range, linked, mode) };
                }
            }
            Made::Each => {
                for slot in state.used(slots) {
                    // SAFETY: as above, of each slot.
                    unsafe { self.unmap_slot(*slot, mode) };
                }
            }
        }
    }

    /// Maps the data of a block request, in the direction `dir`.
    ///
    /// As [`Mapper::map_into`], with short paths for a request of one segment, for one that the
    /// block layer knows to be one run, and for what nothing translates. The ranges are then in
    /// `state`, of which what it was before is lost, and in the slots that `slots` gives, which is
    /// asked for them where there are several segments.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::map_into`], and:
    ///
    /// - `EREMOTEIO`: peer-to-peer memory.
    ///
    /// # Safety
    ///
    /// - The caller owns the started request `rq` until the mapping has ended, and completes
    ///   nothing of it before.
    /// - The slots must not be written until then, not even by another mapping.
    #[inline]
    pub unsafe fn map_request<'s>(
        &self,
        rq: *const bindings::request,
        dir: DataDirection,
        slots: impl FnOnce() -> &'s mut [Slot],
        state: &mut State,
    ) -> Result {
        self.check_domain()?;
        let mode = Mode::new(dir, Kind::System)?;
        // SAFETY: the caller owns the request. The block layer keeps its pages until it is
        // completed, and the operation of the request is what allows the direction.
        let Some(phyr) = (unsafe { RequestPhyrs::only(rq) }) else {
            // SAFETY: as above.
            *state = unsafe { self.map_several(rq, mode, slots()) }?;
            return Ok(());
        };
        let phyr = phyr?;
        self.check(phyr)?;
        // SAFETY: as above.
        *state = unsafe { self.map_one(phyr, mode) }?;
        if trace::map_enabled() {
            // SAFETY: as above.
            unsafe { self.trace_request(rq, state, &[]) };
        }
        Ok(())
    }

    /// # Safety
    ///
    /// The caller owns `rq`, of which `state` and `slots` are the mapping.
    #[cold]
    #[inline(never)]
    unsafe fn trace_request(&self, rq: *const bindings::request, state: &State, slots: &[Slot]) {
        // SAFETY: by the requirements of this function.
        let (bio_vecs, source) = unsafe {
            (
                RequestPhyrs::count_bio_vecs(rq),
                RequestPhyrs::of_request(rq),
            )
        };
        trace::map(self, bio_vecs, source, state, slots);
    }

    /// Maps the data of a request of several pieces. A function of its own, so that the short path
    /// has few registers to save.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_request`].
    #[inline(never)]
    unsafe fn map_several(
        &self,
        rq: *const bindings::request,
        mode: Mode,
        slots: &mut [Slot],
    ) -> Result<State> {
        // SAFETY: by the requirements of this function.
        let state = unsafe { self.map_pieces(rq, mode, slots) }?;
        if trace::map_enabled() {
            // SAFETY: as above.
            unsafe { self.trace_request(rq, &state, slots) };
        }
        Ok(state)
    }

    /// How [`Mapper::map_several`] does it.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_request`].
    #[inline]
    unsafe fn map_pieces(
        &self,
        rq: *const bindings::request,
        mode: Mode,
        slots: &mut [Slot],
    ) -> Result<State> {
        // SAFETY: the caller owns the request.
        let pieces = unsafe { RequestPhyrs::unlimited(rq, self.limits()) };
        match (self.granule(), pieces) {
            (None, Some(pieces)) => {
                // SAFETY: by the requirements of this function; no limit is in the way.
                return unsafe { self.map_each(Joined::new(pieces), mode, slots) };
            }
            (Some(granule), Some(pieces)) => {
                // SAFETY: the caller owns the request.
                if let Some(len) = unsafe { RequestPhyrs::joined_len(rq, granule) } {
                    // SAFETY: by the requirements of this function; no limit is in the way.
                    let run = unsafe { self.map_run(pieces.clone(), len, granule, mode) };
                    if let Some(state) = run? {
                        return Ok(state);
                    }
                }
                // SAFETY: by the requirements of this function; these pieces are without limits.
                return unsafe { self.map_gaps(pieces, mode, slots, granule) };
            }
            _ => {}
        }
        // SAFETY: as above.
        unsafe { self.map_source(RequestPhyrs::of_request(rq), mode, slots, self.granule()) }
    }

    /// Maps the pieces of a request as planned, where no limit is in the way.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_request`]; `pieces` are those of the request, and no limit is in the
    /// way.
    // Apart, so that neither loop of its caller and this takes registers from the other.
    #[inline(never)]
    unsafe fn map_gaps(
        &self,
        pieces: RequestPieces,
        mode: Mode,
        slots: &mut [Slot],
        granule: Granule,
    ) -> Result<State> {
        let joined = Joined::new(pieces);
        // SAFETY: by the requirements of this function.
        unsafe { self.map_planned(joined, mode, slots, granule, Limits::NONE) }
    }

    /// Whether the device takes `phyr` as one segment.
    #[inline]
    pub(crate) fn check(&self, phyr: Phyr) -> Result {
        check(self.limits(), phyr)
    }

    /// Number of bytes that are linked in the range of a [`Made::Packed`] state.
    #[inline]
    fn packed_len(&self, state: &State, slots: &[Slot]) -> usize {
        let start = state.one().dma_vec().addr().into_raw();
        let last = state.used(slots).last().map(|slot| slot.dma_vec());
        // CAST: a `usize` is at most 64 bits wide.
        let end = last.map_or(0, |vec| vec.addr().into_raw() - start + vec.len() as u64);
        let end = self.granule().and_then(|granule| granule.align_up(end));
        // CAST: not longer than the allocation, whose length is a `usize`.
        end.map_or(0, |end| end as usize)
    }

    /// The short path: one segment.
    ///
    /// # Safety
    ///
    /// Those of [`Mapper::map_into`].
    #[inline]
    pub(crate) unsafe fn map_one(&self, phyr: Phyr, mode: Mode) -> Result<State> {
        // SAFETY: by the requirements of this function.
        let addr = unsafe { ops::map_phys(self, phyr.paddr(), phyr.len(), mode) };
        let range = Slot::range(addr?, phyr.len());
        let unmap = self.needs_unmap();

        // SAFETY: just that is mapped.
        Ok(unsafe { State::new(Made::Single, range, 1, mode, unmap) })
    }

    /// Unmaps what one slot of [`Made::Each`] holds.
    ///
    /// # Safety
    ///
    /// The slot holds a range that is mapped for `mode` and not unmapped again; the device is done
    /// with it.
    pub(crate) unsafe fn unmap_slot(&self, slot: Slot, mode: Mode) {
        let vec = slot.dma_vec();

        // SAFETY: by the requirements of this function; all of an IOVA range is linked.
        unsafe {
            match slot.closed() {
                Some(range) => ops::destroy(self, range, vec.len(), mode),
                None => ops::unmap_phys(self, vec.addr(), vec.len(), mode),
            }
        }
    }
}

/// Whether `phyr` is a segment within `limits`.
#[inline]
fn check(limits: &Limits, phyr: Phyr) -> Result {
    // CAST: a `usize` is at most 64 bits wide.
    if phyr.len() as u64 > limits.room(phyr.paddr().into_raw()) {
        return Err(EMSGSIZE);
    }
    Ok(())
}

/// What one look at a source tells.
pub(crate) struct Look {
    /// Number of phyrs.
    pub(crate) phyrs: usize,
    /// The length of all, if they are one run.
    pub(crate) run: Option<NonZeroUsize>,
}

/// Collects phyrs in slots and plans them on the way.
struct Collect<'a> {
    slots: core::slice::IterMut<'a, Slot>,
    planner: Planner,
    /// What the one phyr is that may have no slot.
    last: Option<Phyr>,
}

impl<'a> Collect<'a> {
    #[inline]
    fn new(granule: Granule, limits: Limits, slots: &'a mut [Slot]) -> Self {
        Self {
            slots: slots.iter_mut(),
            planner: Planner::new(granule, limits),
            last: None,
        }
    }

    // With the planner into the loop: what is planned stays in registers.
    #[inline(always)]
    fn push(&mut self, phyr: Phyr) -> Result {
        let place = self.planner.push(phyr)?;
        match self.slots.next() {
            Some(slot) => *slot = Slot::from_phyr(phyr, place).ok_or(EOVERFLOW)?,
            // The only phyr needs none.
            None if self.last.is_none() => {}
            None => return Err(E2BIG),
        }
        self.last = Some(phyr);
        Ok(())
    }
}
