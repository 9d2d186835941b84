// SPDX-License-Identifier: GPL-2.0

//! Batch: start, add discontiguous pieces until full, finalise.
//!
//! The scatter engine, fed by hand: [`Mapper::batch`] takes the room, [`Batch::add`] maps a piece
//! of memory, [`Batch::finalise`] makes all of it visible to the device at once. A batch that is
//! dropped before that leaves nothing mapped. Behind an IOMMU the pieces lie in one IOVA range;
//! elsewhere each is mapped by itself.

use super::{
    mapper::Mapper,
    mapping::Mapping,
    memory::{
        list_flags,
        segments,
        Memory, //
    },
    not_mapped::NotMapped,
    ops::{
        self,
        IovaRange,
        Mode, //
    },
    plan::{
        Place,
        Planner, //
    },
    source::Source,
    state::{
        Made,
        Slot,
        State, //
    },
    types::{
        Granule,
        Phyr,
        PhysAddr, //
    }, //
};
use kernel::{
    dma::DataDirection,
    prelude::*, //
};

/// An open batch; see the [module documentation](self).
///
/// The state is the type: what can be done with a batch is done with this value, and
/// [`Batch::finalise`] consumes it.
///
/// # Invariants
///
/// `slots` describes exactly what is mapped of `pieces`, as `road` says. Its capacity, and that of
/// `pieces`, is the number that the batch was made for.
pub struct Batch<'m, 'bound, M: Memory> {
    mapper: &'m Mapper<'bound>,
    mode: Mode,
    road: Road<'m>,
    slots: KVVec<Slot>,
    /// The pieces are freed after they are unmapped: below the fields that hold the mapping.
    pieces: KVVec<M>,
}

/// How the pieces are mapped.
enum Road<'m> {
    /// In one IOVA range; a slot a run.
    Range {
        range: IovaRange<'m>,
        planner: Planner,
        granule: Granule,
        /// Bytes of IOVA that there are.
        room: usize,
    },
    /// By themselves; a slot a phyr.
    Singles,
}

/// What a batch has room for.
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
    /// - `EINVAL`: no room was asked for, or `dir` is [`DataDirection::None`].
    /// - `EBUSY`: the device is in a domain of its own, and the mapper is not.
    /// - `EOVERFLOW`: behind an IOMMU, more bytes than any range can have, which is 4 EiB less one.
    /// - `ENOMEM`: no memory for so many pieces or segments.
    pub fn batch<'m, M: Memory>(
        &'m self,
        room: Capacity,
        dir: DataDirection,
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
        let mode = Mode::new(dir, M::KIND)?;
        let slots = KVVec::with_capacity(segments, list_flags(flags))?;
        let pieces = KVVec::with_capacity(pieces, list_flags(flags))?;

        // INVARIANT: nothing is mapped.
        Ok(Batch {
            mapper: self,
            mode,
            road: Road::new(self, bytes, mode)?,
            slots,
            pieces,
        })
    }
}

impl<'m> Road<'m> {
    fn new(mapper: &'m Mapper<'m>, bytes: usize, mode: Mode) -> Result<Self> {
        let Some(granule) = mapper.granule().filter(|_| mapper.packs()) else {
            return Ok(Self::Singles);
        };
        // CAST: a `usize` is at most 64 bits wide.
        let room = granule.align_up(bytes as u64).ok_or(EOVERFLOW)?;
        if room > IovaRange::MAX_LEN {
            return Err(EOVERFLOW);
        }
        // Where a piece would come to lie across a boundary of the device depends on those before
        // it: rather than refuse it, map each by itself.
        if !mapper.limits().boundary_allows(room) {
            return Ok(Self::Singles);
        }
        let room = usize::try_from(room)?;
        let start = PhysAddr::from_raw(0);

        Ok(match IovaRange::try_alloc(mapper, start, room, mode) {
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
    /// Maps `piece` behind what is in the batch; the batch owns it from now on.
    ///
    /// Context: any; allocates nothing.
    ///
    /// # Errors
    ///
    /// The piece comes back unmapped, and the batch is as it was.
    ///
    /// - `E2BIG`: the batch is full, in pieces, segments or bytes.
    /// - `EINVAL`: the piece is empty.
    /// - `EBUSY`: the device is in a domain of its own, and the mapper is not.
    /// - `ENOSPC`, `ENOMEM`, `EAGAIN`, `ENOBUFS`, `EFBIG`, `ERANGE`: it could not be mapped, as in
    ///   [`Mapper::map_into`].
    /// - What the piece's source fails with.
    pub fn add(&mut self, piece: M) -> Result<(), NotMapped<M>> {
        match self.try_add(&piece) {
            Ok(()) => {
                // There is room, as `try_add` found: this neither fails nor allocates.
                let _ = self.pieces.push_within_capacity(piece);
                Ok(())
            }
            Err(reason) => Err(NotMapped::new(piece, reason)),
        }
    }

    /// Number of segments in the batch so far.
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
    pub fn finalise(self) -> Result<Mapping<'bound, KVVec<M>>> {
        let mut this = self;

        if this.slots.is_empty() {
            return Err(EINVAL);
        }
        if let Road::Range { range, .. } = &mut this.road {
            range.sync()?;
        }
        let (mapper, mode) = (this.mapper, this.mode);
        let pieces = core::mem::take(&mut this.pieces);
        let slots = core::mem::take(&mut this.slots);
        // CAST: no list is longer than 2 GiB, of 16 bytes a segment.
        let nr = slots.len() as u32;

        let (made, one) = match core::mem::replace(&mut this.road, Road::Singles) {
            Road::Range { range, .. } => (Made::Packed, Slot::iova(range.close())),
            Road::Singles => (Made::Each, Slot::EMPTY),
        };
        let unmap = mapper.needs_unmap();
        // SAFETY: by the type invariant `slots` describes what is mapped; it was taken out of the
        // batch, which unmaps no more.
        let state = unsafe { State::new(made, one, nr, mode, unmap) };
        // SAFETY: the state is that of these pieces and slots.
        Ok(unsafe { Mapping::from_parts(mapper.clone(), state, slots, pieces) })
    }

    fn try_add(&mut self, piece: &M) -> Result {
        self.mapper.check_domain()?;
        if self.pieces.len() == self.pieces.capacity() {
            return Err(E2BIG);
        }
        let (mark, limits) = (self.mark(), *self.mapper.limits());
        self.mapper
            .check_kind::<M, _>(segments(piece, limits), self.mode)?;
        let source = segments(piece, limits);
        // SAFETY: by the contract of `Memory` the piece stays where it is; it becomes the batch's,
        // or all of it is unmapped just below.
        let result = unsafe { self.map_all(source) };

        if result.is_err() {
            self.roll_back(mark);
        }
        result
    }

    /// # Safety
    ///
    /// The memory of `source` stays allocated for as long as it is mapped.
    unsafe fn map_all<S: Source>(&mut self, source: S) -> Result {
        let mut nr = 0;
        for phyr in source {
            // SAFETY: by the requirements of this function.
            unsafe { self.map_one(phyr?) }?;
            nr += 1;
        }
        if nr == 0 {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// # Safety
    ///
    /// The memory of `phyr` stays allocated for as long as it is mapped.
    unsafe fn map_one(&mut self, phyr: Phyr) -> Result {
        match &mut self.road {
            Road::Singles => {
                if self.slots.len() == self.slots.capacity() {
                    return Err(E2BIG);
                }
                // SAFETY: by the requirements of this function; the direction was checked.
                let addr =
                    unsafe { ops::map_phys(self.mapper, phyr.paddr(), phyr.len(), self.mode) };
                let slot = Slot::range(addr?, phyr.len());
                let _ = self.slots.push_within_capacity(slot);
            }
            Road::Range {
                range,
                planner,
                granule,
                room,
            } => {
                let mut next = planner.clone();
                let begins = next.push(phyr)? == Place::Begins;

                if begins && self.slots.len() == self.slots.capacity() {
                    return Err(E2BIG);
                }
                let plan = next.plan()?;
                // The whole range lies between two boundaries, see `Road::new`.
                let packed = plan.packed.ok_or(EMSGSIZE)?;
                // CAST: a `usize` is at most 64 bits wide.
                if packed.len > *room as u64 {
                    return Err(E2BIG);
                }
                let whole = granule.around(phyr).ok_or(EOVERFLOW)?;
                // SAFETY: the memory is the caller's promise, the rest of its granules comes with
                // it as `Mapper::packs` explains; there is room; all is aligned.
                unsafe { range.link(whole.paddr(), whole.len()) }?;
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

    /// What [`Batch::roll_back`] needs to know.
    fn mark(&self) -> Mark {
        Mark {
            slots: self.slots.len(),
            last: self.slots.last().copied(),
            road: match &self.road {
                Road::Singles => None,
                Road::Range { range, planner, .. } => Some((range.linked(), planner.clone())),
            },
        }
    }

    /// Unmaps what was mapped since `mark`.
    fn roll_back(&mut self, mark: Mark) {
        match (&mut self.road, mark.road) {
            (Road::Range { range, planner, .. }, Some((linked, plan))) => {
                range.truncate(linked);
                *planner = plan;
            }
            _ => {
                for slot in self.slots.iter().skip(mark.slots) {
                    // SAFETY: by the type invariant this was mapped so; it is forgotten just below.
                    unsafe { self.mapper.unmap_slot(*slot, self.mode) };
                }
            }
        }
        self.slots.truncate(mark.slots);
        if let (Some(slot), Some(last)) = (self.slots.last_mut(), mark.last) {
            *slot = last;
        }
    }
}

impl<M: Memory> Drop for Batch<'_, '_, M> {
    fn drop(&mut self) {
        // A range unlinks itself.
        if let Road::Singles = self.road {
            for slot in &self.slots {
                // SAFETY: by the type invariant this is mapped; the device never learned of it.
                unsafe { self.mapper.unmap_slot(*slot, self.mode) };
            }
        }
    }
}

/// Where a batch was.
struct Mark {
    slots: usize,
    last: Option<Slot>,
    road: Option<(usize, Planner)>,
}
