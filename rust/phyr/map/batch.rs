// SPDX-License-Identifier: GPL-2.0

//! Batch: start, add discontiguous pieces until full, finalise.
//!
//! The scatter engine, fed by hand: [`Mapper::batch`] takes the room, [`Batch::add`] maps a piece
//! of memory, [`Batch::finalise`] makes all of it visible to the device at once. A batch that is
//! dropped before that leaves nothing mapped. Behind an IOMMU the pieces lie in one IOVA range;
//! elsewhere each is mapped by itself.

use super::{
    choose::{
        choose,
        Shape,
        Strategy, //
    },
    dma_api::Space,
    mapping::Mapping,
    plan::{
        Join,
        Planner,
        MAX_LEN, //
    },
    range::IovaRange,
    state::{
        Slot,
        State, //
    }, //
};
use crate::{
    access::Access,
    attrs::MapAttrs,
    mapper::Mapper,
    memory::{
        check_access,
        list_flags,
        segments,
        MapError,
        Memory, //
    },
    pinned::{
        Pinned,
        PinnedPhyr, //
    },
    source::Source,
    space::IovaSpace,
    types::{
        Granule,
        PhysAddr, //
    }, //
};
use kernel::prelude::*;

/// An open batch; see the [module documentation](self).
///
/// The state is the type: what can be done with a batch is done with this value, and
/// [`Batch::finalise`] consumes it.
///
/// # Invariants
///
/// `slots` describes exactly what is mapped of `pieces`, as `target` says. Its capacity, and that
/// of `pieces`, is the number that the batch was made for.
pub struct Batch<'m, 'bound, M: Memory> {
    mapper: &'m Mapper<'bound>,
    attrs: MapAttrs,
    target: BatchTarget<'m>,
    slots: KVVec<Slot>,
    /// The pieces are freed after they are unmapped: below the fields that hold the mapping.
    pieces: KVVec<M>,
}

/// The place where the pieces are mapped.
enum BatchTarget<'m> {
    /// In one IOVA range; a slot a run.
    Range {
        range: IovaRange<Space<'m>>,
        planner: Planner,
        granule: Granule,
        /// Bytes of IOVA that there are.
        room: usize,
    },
    /// By themselves; a slot a phyr.
    Singles,
}

/// The room of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Number of pieces of memory.
    pub pieces: usize,
    /// Number of segments that they are in, together.
    pub segments: usize,
    /// Number of bytes, of all together. They count in whole granules where a piece begins or ends
    /// within one.
    pub bytes: usize,
}

impl<'bound> Mapper<'bound> {
    /// Opens a batch.
    ///
    /// Context: may sleep if `flags` allow it.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no room was asked for, or `dir` is `DataDirection::None`.
    /// - `EBUSY`: the device is in a domain of its own, and the mapper is not.
    /// - `EOVERFLOW`: behind an IOMMU, more bytes than any range can have, which is 4 EiB less one.
    /// - `ENOMEM`: no memory for that many pieces or segments.
    pub fn batch<'m, M: Memory>(
        &'m self,
        room: Capacity,
        dir: M::Direction,
        flags: kernel::alloc::Flags,
    ) -> Result<Batch<'m, 'bound, M>> {
        let Capacity {
            pieces,
            segments,
            bytes,
        } = room;
        if pieces == 0 || segments == 0 || bytes == 0 {
            return Err(EINVAL);
        }
        self.check_domain()?;
        let attrs = MapAttrs::new(dir.into(), M::KIND)?;
        let slots = KVVec::with_capacity(segments, list_flags(flags))?;
        let pieces = KVVec::with_capacity(pieces, list_flags(flags))?;

        // INVARIANT: nothing is mapped.
        Ok(Batch {
            mapper: self,
            attrs,
            target: BatchTarget::new(self, bytes, attrs)?,
            slots,
            pieces,
        })
    }
}

impl<'m> BatchTarget<'m> {
    fn new(mapper: &'m Mapper<'m>, bytes: usize, attrs: MapAttrs) -> Result<Self> {
        let reach = mapper.reach();
        let chosen = |fit| choose(reach, Shape::Gaps { fit });
        let (Strategy::Packed, Some(granule)) = (chosen(true), mapper.granule()) else {
            return Ok(Self::Singles);
        };
        // CAST: a `usize` is at most 64 bits wide.
        let room = granule.align_up(bytes as u64).ok_or(EOVERFLOW)?;
        if room > MAX_LEN {
            return Err(EOVERFLOW);
        }
        // Where a piece would come to lie across a boundary of the device depends on those before
        // it: rather than refuse it, map each by itself.
        if chosen(mapper.limits().boundary_allows(room)) != Strategy::Packed {
            return Ok(Self::Singles);
        }
        let room = usize::try_from(room)?;
        let (space, start) = (Space::of(mapper), PhysAddr::from_raw(0));

        Ok(match IovaRange::alloc(space, granule, start, room, attrs) {
            Some(range) => Self::Range {
                range,
                planner: Planner::new(granule, *mapper.limits()),
                granule,
                room,
            },
            None => Self::Singles,
        })
    }
}

impl<'bound, M: Memory> Batch<'_, 'bound, M> {
    /// Maps `piece` after those in the batch; the batch owns it from now on.
    ///
    /// Context: any; allocates nothing.
    ///
    /// # Errors
    ///
    /// The piece comes back unmapped, and the batch is as it was.
    ///
    /// - `E2BIG`: the batch is full, in pieces, segments or bytes.
    /// - `EINVAL`: the piece is empty.
    /// - `EACCES`: the device may not access the piece in the batch's direction.
    /// - `EBUSY`: the device is in a domain of its own, and the mapper is not.
    /// - `ENOSPC`, `ENOMEM`, `EAGAIN`, `ENOBUFS`, `EFBIG`, `ERANGE`: it could not be mapped, as in
    ///   [`Mapper::map_into`].
    /// - What the piece's source fails with.
    pub fn add(&mut self, piece: M) -> Result<(), MapError<M>> {
        match self.try_add(&piece) {
            Ok(()) => {
                // There is room, as `try_add` found: this neither fails nor allocates.
                let _ = self.pieces.push_within_capacity(piece);
                Ok(())
            }
            Err(reason) => Err(MapError::new(piece, reason)),
        }
    }

    /// Returns the number of segments in the batch so far.
    #[inline]
    pub fn segments(&self) -> usize {
        self.slots.len()
    }

    /// Makes all pieces visible to the device, with one flush, and ends the batch.
    ///
    /// Context: any.
    ///
    /// # Errors
    ///
    /// Nothing is left mapped, and the pieces are dropped.
    ///
    /// - `EINVAL`: there is nothing in the batch.
    /// - What `dma_iova_sync()` returns.
    pub fn finalise(mut self) -> Result<Mapping<'bound, KVVec<M>>> {
        if self.slots.is_empty() {
            return Err(EINVAL);
        }
        if let BatchTarget::Range { range, .. } = &mut self.target {
            range.sync()?;
        }
        let (mapper, attrs) = (self.mapper, self.attrs);
        let pieces = core::mem::take(&mut self.pieces);
        let slots = core::mem::take(&mut self.slots);
        // CAST: no list is longer than 2 GiB, of 16 bytes a segment.
        let nr = slots.len() as u32;

        let (strategy, one) = match core::mem::replace(&mut self.target, BatchTarget::Singles) {
            BatchTarget::Range { range, .. } => (Strategy::Packed, Slot::iova(range.close())),
            BatchTarget::Singles => (Strategy::Each, Slot::EMPTY),
        };
        let unmap = mapper.needs_unmap();
        // SAFETY: by the type invariant `slots` describes what is mapped; it was taken out of the
        // batch, which unmaps no more.
        let state = unsafe { State::new(strategy, one, nr, attrs, unmap) };
        // INVARIANT: the pieces are what is mapped, with these slots.
        Ok(Mapping {
            mapped: mapper.mapped(state, slots),
            memory: pieces,
        })
    }

    fn try_add(&mut self, piece: &M) -> Result {
        self.mapper.check_domain()?;
        check_access(piece, Access::of(self.attrs.direction()))?;
        if self.pieces.len() == self.pieces.capacity() {
            return Err(E2BIG);
        }
        let mark = self.mark();
        let source = segments(piece, *self.mapper.limits());
        // SAFETY: by the contract of `Memory` the piece is of its kind, a device may access it with
        // the rights that were checked, and it stays where it is: it becomes the batch's, or all of
        // it is unmapped just below.
        let pinned = unsafe { Pinned::new(source, self.attrs.direction(), M::KIND) }?;
        self.mapper.check_reach(&pinned)?;
        let result = self.add_pinned(&pinned);
        if result.is_err() {
            self.roll_back(mark);
        }
        result
    }

    fn add_pinned<S: Source>(&mut self, piece: &Pinned<S>) -> Result {
        let mut nr = 0;
        for phyr in piece.phyrs() {
            self.add_phyr(phyr?)?;
            nr += 1;
        }
        if nr == 0 {
            return Err(EINVAL);
        }
        Ok(())
    }

    fn add_phyr(&mut self, phyr: PinnedPhyr) -> Result {
        let is_full = self.slots.len() == self.slots.capacity();
        match &mut self.target {
            BatchTarget::Singles => {
                if is_full {
                    return Err(E2BIG);
                }
                let addr = Space::of(self.mapper).map_phys(phyr, self.attrs)?;
                let slot = Slot::range(addr, phyr.phyr().len());
                let _ = self.slots.push_within_capacity(slot);
            }
            BatchTarget::Range {
                range,
                planner,
                granule,
                room,
            } => {
                let mut next = planner.clone();
                let begins = next.push(phyr.phyr())? == Join::Begins;

                if begins && is_full {
                    return Err(E2BIG);
                }
                let plan = next.plan()?;
                // The whole range lies between two boundaries, see `BatchTarget::new`.
                let packed = plan.packed.ok_or(EMSGSIZE)?;
                // CAST: a `usize` is at most 64 bits wide.
                if packed.len > *room as u64 {
                    return Err(E2BIG);
                }
                range.link(phyr.around(*granule).ok_or(EOVERFLOW)?)?;
                *planner = next;

                let (start, len) = planner.last_run();
                // CAST: within the room, which is a `usize`.
                let slot = Slot::range(range.addr().advanced(start), len as usize);
                if begins {
                    let _ = self.slots.push_within_capacity(slot);
                } else if let Some(last) = self.slots.last_mut() {
                    *last = slot;
                }
            }
        }
        Ok(())
    }

    /// Notes the point that the batch has come to, for [`Batch::roll_back`].
    fn mark(&self) -> Mark {
        Mark {
            slots: self.slots.len(),
            last: self.slots.last().copied(),
            target: match &self.target {
                BatchTarget::Singles => None,
                BatchTarget::Range { range, planner, .. } => {
                    Some((range.linked(), planner.clone()))
                }
            },
        }
    }

    /// Unmaps what was mapped since `mark`.
    fn roll_back(&mut self, mark: Mark) {
        self.unmap_singles(mark.slots);
        if let (BatchTarget::Range { range, planner, .. }, Some((linked, plan))) =
            (&mut self.target, mark.target)
        {
            range.truncate(linked);
            *planner = plan;
        }
        self.slots.truncate(mark.slots);
        if let (Some(slot), Some(last)) = (self.slots.last_mut(), mark.last) {
            *slot = last;
        }
    }

    /// Unmaps the ranges of the slots from `first` on, which are forgotten then. Not those that are
    /// parts of a range, which unlinks itself.
    fn unmap_singles(&mut self, first: usize) {
        if let BatchTarget::Singles = self.target {
            for slot in self.slots.iter().skip(first) {
                // SAFETY: by the type invariant it is mapped; the callers forget it.
                unsafe { slot.reopen(self.attrs) }.end(&Space::of(self.mapper));
            }
        }
    }
}

impl<M: Memory> Drop for Batch<'_, '_, M> {
    fn drop(&mut self) {
        self.unmap_singles(0);
    }
}

/// A point to which a batch can be rolled back.
struct Mark {
    slots: usize,
    last: Option<Slot>,
    target: Option<(usize, Planner)>,
}
