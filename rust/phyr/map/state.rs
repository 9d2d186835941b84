// SPDX-License-Identifier: GPL-2.0

//! State that the CPU keeps of a mapping, so that unmapping is exact.
//!
//! A [`State`] is small enough for a request's private data. It holds a mapping of one [`DmaVec`]
//! whole; more of them are in [`Slot`]s, one a segment, that the mapping's owner has set aside
//! beforehand. Both are memory that no device can reach: what is unmapped is never read back from a
//! descriptor.

use super::{
    choose::Strategy,
    plan::Join,
    range::Closed, //
};
use crate::{
    attrs::MapAttrs,
    space::{
        Iova,
        IovaSpace,
        Single, //
    },
    types::{
        DmaAddr,
        DmaVec,
        Granule,
        Phyr,
        PhysAddr, //
    }, //
};
use core::fmt;

/// Room for one segment: 16 bytes.
///
/// While a mapping is made a slot holds a phyr, afterwards a DMA range.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slot {
    addr: u64,
    len: u64,
}

impl Slot {
    /// A slot with nothing in it.
    pub const EMPTY: Self = Self { addr: 0, len: 0 };

    /// Marks the length of a range that has an IOVA allocation of its own. The DMA API has a mark
    /// in bit 63 of the same word, see [`Closed`].
    const IOVA: u64 = 1 << 62;

    /// Marks the length of a phyr with which a run begins: the bit that costs least to look at.
    const BEGINS: u64 = 1 << 63;

    /// All marks.
    const MARKS: u64 = 3 << 62;

    /// Makes a slot of a phyr as it was planned. If it is longer than
    /// [`MAX_LEN`](super::plan::MAX_LEN), after which the marks are, there is no plan in the end.
    #[inline]
    pub(crate) const fn from_phyr(phyr: Phyr, join: Join) -> Self {
        // CAST: a `usize` is at most 64 bits wide.
        let len = phyr.len() as u64;
        Self {
            addr: phyr.paddr().into_raw(),
            len: match join {
                Join::Begins => len | Self::BEGINS,
                Join::Extends => len,
            },
        }
    }

    /// Returns the phyr that the slot was made from, or `None` if it is empty.
    #[inline]
    pub(crate) const fn phyr(self) -> Option<Phyr> {
        // CAST: the length came from a `usize`.
        Phyr::known(
            PhysAddr::from_raw(self.addr),
            (self.len & !Self::MARKS) as usize,
        )
    }

    /// Returns whether a run begins with the phyr that the slot was made from.
    #[inline]
    pub(crate) const fn begins(self) -> bool {
        self.len & Self::BEGINS != 0
    }

    /// Makes a slot of a range that `dma_map_phys()` mapped, or that is a part of another.
    #[inline]
    pub(crate) const fn range(addr: DmaAddr, len: usize) -> Self {
        Self {
            addr: addr.into_raw(),
            // CAST: a `usize` is at most 64 bits wide.
            len: len as u64,
        }
    }

    /// Returns a [range](Self::range) that is `len` bytes longer: as long as a run that was planned
    /// at the most.
    #[inline]
    pub(super) const fn extended(self, len: usize) -> Self {
        Self {
            // CAST: a `usize` is at most 64 bits wide.
            len: self.len + len as u64,
            ..self
        }
    }

    /// Makes a slot of a range with an IOVA allocation of its own.
    #[inline]
    pub(crate) const fn iova(range: Closed) -> Self {
        Self {
            addr: range.addr.into_raw(),
            len: range.size | Self::IOVA,
        }
    }

    /// Returns the IOVA allocation, if the range has one of its own.
    #[inline]
    pub(crate) const fn closed(self) -> Option<Closed> {
        if self.len & Self::IOVA == 0 {
            return None;
        }
        Some(Closed {
            addr: DmaAddr::from_raw(self.addr),
            size: self.len & !Self::IOVA,
        })
    }

    /// Names the range again, to end it or to synchronise it.
    ///
    /// # Safety
    ///
    /// The slot holds a range that is mapped for `attrs` in the space that is to end it, with all
    /// of its bytes linked if it is an IOVA allocation, and nobody else ends it meanwhile.
    #[inline]
    pub(crate) unsafe fn reopen(self, attrs: MapAttrs) -> Segment {
        let vec = self.dma_vec();
        match self.closed() {
            // INVARIANT: the caller promises that all of it is linked, and is ended once.
            Some(range) => Segment::Iova(Iova {
                state: range.state(),
                linked: vec.len(),
                attrs,
            }),
            // INVARIANT: the caller promises that it is mapped so.
            None => Segment::Single(Single {
                addr: vec.addr(),
                len: vec.len(),
                attrs,
            }),
        }
    }

    /// Returns the range as the device sees it.
    #[inline]
    pub(crate) const fn dma_vec(self) -> DmaVec {
        // CAST: without its marks the length is that of a `usize`.
        DmaVec::new(
            DmaAddr::from_raw(self.addr),
            (self.len & !Self::MARKS) as usize,
        )
    }
}

/// A range of a slot, to be ended.
pub(crate) enum Segment {
    /// Mapped by itself.
    Single(Single),
    /// With an IOVA allocation of its own.
    Iova(Iova),
}

impl Segment {
    /// Ends it, in the space in which it is mapped.
    #[inline]
    pub(crate) fn end(self, space: &impl IovaSpace) {
        match self {
            Self::Single(single) => space.unmap_phys(single),
            Self::Iova(iova) => space.destroy(iova),
        }
    }
}

/// Work to be done when a mapping ends.
///
/// One byte, so that one comparison finds each of the common cases.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing was mapped, or nothing has to be unmapped.
    Nothing,
    /// One range that was mapped by itself is unmapped.
    Single,
    /// Ranges are unmapped. The owner of the state may have [more to do](State::hold).
    Whole,
    /// Nothing has to be unmapped, but the owner has slots or descriptors to release.
    Held,
    /// One range that was mapped by itself is unlinked, and is freed when it was flushed.
    FreeSingle,
    /// Ranges are unlinked, and are freed when they were flushed. The owner of the state may have
    /// [more to do](State::hold) then.
    FreeWhole,
}

/// The state of one mapping, from which it is unmapped; see [`Slot`] for that of several ranges.
///
/// It can be neither copied nor made by hand, so that a mapping is taken down once. A state that is
/// dropped while it is mapped leaves the mapping in place for ever.
///
/// # Invariants
///
/// `one`, and for `Strategy::Packed` and `Strategy::Each` the first `nr` slots that the mapping was
/// made with, describe exactly what is mapped.
// In this order the error of a `Result` lies in `nr` rather than in the slot, which is copied
// whole.
#[repr(C)]
#[must_use = "a mapping whose state is lost is never taken down"]
pub struct State {
    strategy: Strategy,
    end: End,
    attrs: MapAttrs,
    nr: u32,
    one: Slot,
}

impl State {
    /// The state of what is not mapped.
    pub const UNMAPPED: Self = Self {
        one: Slot::EMPTY,
        nr: 0,
        strategy: Strategy::Unmapped,
        end: End::Nothing,
        attrs: MapAttrs::UNMAPPED,
    };

    /// Makes the state of what is mapped. `unmap`: the DMA API wants to be told of its end.
    ///
    /// # Safety
    ///
    /// The arguments describe exactly what is mapped, as the type invariant says.
    #[inline]
    pub(crate) unsafe fn new(
        strategy: Strategy,
        one: Slot,
        nr: u32,
        attrs: MapAttrs,
        unmap: bool,
    ) -> Self {
        let end = match strategy {
            _ if !unmap => End::Nothing,
            Strategy::Single => End::Single,
            _ => End::Whole,
        };
        // INVARIANT: the caller promises just that.
        Self {
            one,
            nr,
            strategy,
            end,
            attrs,
        }
    }

    #[inline]
    pub(crate) fn strategy(&self) -> Strategy {
        self.strategy
    }

    #[inline]
    pub(crate) fn one(&self) -> Slot {
        self.one
    }

    #[inline]
    pub(crate) fn end(&self) -> End {
        self.end
    }

    /// Returns whether the DMA API wants to be told of the end of the mapping.
    #[inline]
    pub(crate) fn needs_unmap(&self) -> bool {
        matches!(self.end, End::Single | End::Whole)
    }

    /// Marks that the owner has slots or descriptors to release when the mapping ends, even if
    /// nothing is mapped: [`Mapper::unmap_in_place`](crate::Mapper::unmap_in_place) returns `true`
    /// then.
    #[doc(hidden)]
    #[inline]
    pub fn hold(&mut self) {
        Hold(&mut self.end).hold();
    }

    /// Returns whether nothing is mapped, and its owner has nothing [to do](State::hold): unmapping
    /// it would change nothing.
    #[doc(hidden)]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.strategy == Strategy::Unmapped && matches!(self.end, End::Nothing)
    }

    /// Returns whether its ranges were unlinked, and are not freed: [`Flushed::free`] is to do
    /// that.
    ///
    /// [`Flushed::free`]: crate::Flushed::free
    #[doc(hidden)]
    #[inline]
    pub fn is_unlinked(&self) -> bool {
        matches!(self.end, End::FreeSingle | End::FreeWhole)
    }

    /// Notes that its ranges were unlinked, and are to be freed.
    #[inline]
    pub(crate) fn set_unlinked(&mut self) {
        self.end = match self.end {
            End::Single => End::FreeSingle,
            _ => End::FreeWhole,
        };
    }

    /// Forgets the ranges in slots, if unmapping does not need them, and returns whether it does
    /// not: then the slots are free, and [`State::dma_vecs`] is empty.
    #[doc(hidden)]
    pub fn forget_ranges(&mut self) -> bool {
        if self.needs_unmap() || self.is_unlinked() {
            return false;
        }
        // INVARIANT: the DMA API keeps nothing of what is mapped.
        self.nr = 0;
        true
    }

    #[inline]
    pub(crate) fn attrs(&self) -> MapAttrs {
        self.attrs
    }

    /// Returns whether anything is mapped.
    #[inline]
    pub fn is_mapped(&self) -> bool {
        self.strategy != Strategy::Unmapped
    }

    /// Returns the slots of ranges that were mapped by themselves, which are those that
    /// `dma_sync_*()` knows.
    pub(crate) fn singles<'a>(&'a self, slots: &'a [Slot]) -> impl Iterator<Item = Slot> + 'a {
        let none = self.strategy == Strategy::Packed;
        let ranges = self.dma_vecs(slots).slots;
        ranges
            .filter(move |slot| !none && slot.closed().is_none())
            .copied()
    }

    /// Leaves [`State::UNMAPPED`] behind and returns what was there.
    #[inline]
    pub fn take(&mut self) -> Self {
        core::mem::replace(self, Self::UNMAPPED)
    }

    /// Leaves [`State::UNMAPPED`] behind.
    #[inline]
    pub(crate) fn clear(&mut self) {
        // INVARIANT: nothing is what it says to be mapped.
        self.strategy = Strategy::Unmapped;
        self.end = End::Nothing;
    }

    /// Returns the range, if there is one that needs no slot.
    #[inline]
    pub fn dma_vec(&self) -> Option<DmaVec> {
        match self.strategy {
            Strategy::Single | Strategy::Joined => Some(self.one.dma_vec()),
            _ => None,
        }
    }

    /// Returns the one IOVA allocation of a [`Strategy::Packed`] mapping.
    #[inline]
    pub(crate) fn packed(&self) -> Option<Closed> {
        match self.strategy {
            Strategy::Packed => self.one.closed(),
            _ => None,
        }
    }

    /// Returns those of `slots`, with which the mapping was made, that hold its ranges.
    #[inline]
    pub(crate) fn used<'a>(&self, slots: &'a [Slot]) -> &'a [Slot] {
        used(self.strategy, self.nr, slots)
    }

    /// Returns the ranges that the device sees, in the order of the phyrs.
    ///
    /// `slots` are those that the mapping was made with; with others, the ranges are not of this
    /// mapping.
    #[inline]
    pub fn dma_vecs<'a>(&'a self, slots: &'a [Slot]) -> DmaVecs<'a> {
        ranges(self.strategy, self.nr, &self.one, slots)
    }

    /// Returns the ranges as [`State::dma_vecs`] does, and what [`State::hold`] changes, which is
    /// none of them.
    #[doc(hidden)]
    #[inline]
    pub fn dma_vecs_and_hold<'a>(&'a mut self, slots: &'a [Slot]) -> (DmaVecs<'a>, Hold<'a>) {
        let vecs = ranges(self.strategy, self.nr, &self.one, slots);
        (vecs, Hold(&mut self.end))
    }
}

/// Returns those of `slots` that hold the ranges of a state.
#[inline]
fn used(strategy: Strategy, nr: u32, slots: &[Slot]) -> &[Slot] {
    let nr = match strategy {
        // CAST: `nr` counted slots of a slice.
        Strategy::Packed | Strategy::Runs | Strategy::Each => nr as usize,
        _ => 0,
    };
    slots.get(..nr).unwrap_or(&[])
}

/// Returns the ranges of a state.
#[inline]
fn ranges<'a>(strategy: Strategy, nr: u32, one: &'a Slot, slots: &'a [Slot]) -> DmaVecs<'a> {
    let slots = match strategy {
        Strategy::Unmapped => &[],
        Strategy::Single | Strategy::Joined => core::slice::from_ref(one),
        _ => used(strategy, nr, slots),
    };
    DmaVecs {
        slots: slots.iter(),
    }
}

/// The part of a [`State`] that [`State::hold`] changes.
#[doc(hidden)]
pub struct Hold<'a>(&'a mut End);

impl Hold<'_> {
    /// Notes that the owner has more to do: see [`State::hold`].
    #[inline]
    pub fn hold(&mut self) {
        *self.0 = match *self.0 {
            End::Nothing | End::Held => End::Held,
            End::Single | End::Whole => End::Whole,
            End::FreeSingle | End::FreeWhole => End::FreeWhole,
        };
    }
}

/// A state, and the slots that the mapping was made with, of a mapping that is being ended.
///
/// # Invariants
///
/// Both are of one mapping. Its ranges are ended in its space by the owner of this, who then clears
/// the state, and by nobody else.
#[derive(Clone, Copy)]
pub(crate) struct Ending<'s> {
    pub(crate) state: &'s State,
    pub(crate) slots: &'s [Slot],
}

impl<'s> Ending<'s> {
    /// Names the range of a [`Strategy::Packed`] mapping again, to end it. All others are in
    /// [`Ending::segments`].
    #[inline]
    pub(crate) fn packed(self, granule: Option<Granule>) -> Option<Iova> {
        // INVARIANT: by the invariant of `State` the range is linked up to the end of its last run,
        // and it is ended once.
        self.state.packed().map(|range| Iova {
            state: range.state(),
            linked: self.packed_len(granule),
            attrs: self.state.attrs,
        })
    }

    /// Names all ranges again, to end them, but the one of [`Ending::packed`].
    #[inline]
    pub(crate) fn segments(self) -> impl Iterator<Item = Segment> + 's {
        let Self { state, slots } = self;
        let slots = match state.strategy {
            Strategy::Packed => &[],
            _ => state.dma_vecs(slots).slots.as_slice(),
        };
        // SAFETY: by the invariant of `State` each slot holds a range that is mapped, and linked
        // whole if it is an IOVA allocation; by the type invariant it is ended once.
        let reopen = move |slot: &Slot| unsafe { slot.reopen(state.attrs) };
        slots.iter().map(reopen)
    }

    /// Returns the number of bytes that are linked in the range of a [`Strategy::Packed`] state: up
    /// to the end of the granule in which its last run ends.
    #[inline]
    fn packed_len(self, granule: Option<Granule>) -> usize {
        let start = self.state.one.dma_vec().addr().into_raw();
        let last = self
            .state
            .used(self.slots)
            .last()
            .map(|slot| slot.dma_vec());
        // CAST: a `usize` is at most 64 bits wide.
        let end = last.map_or(0, |vec| vec.addr().into_raw() - start + vec.len() as u64);
        let end = granule.and_then(|granule| granule.align_up(end));
        // CAST: not longer than the allocation, whose length is a `usize`.
        end.map_or(0, |end| end as usize)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("strategy", &self.strategy)
            .field("nr", &self.nr)
            .finish()
    }
}

/// Iterates over the ranges of a mapping; see [`State::dma_vecs`].
#[derive(Clone)]
pub struct DmaVecs<'a> {
    slots: core::slice::Iter<'a, Slot>,
}

impl Iterator for DmaVecs<'_> {
    type Item = DmaVec;

    #[inline]
    fn next(&mut self) -> Option<DmaVec> {
        self.slots.next().map(|slot| slot.dma_vec())
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slots.size_hint()
    }
}

impl ExactSizeIterator for DmaVecs<'_> {}
