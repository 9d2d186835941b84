// SPDX-License-Identifier: GPL-2.0

//! What the CPU remembers of a mapping, so that unmapping is exact.
//!
//! A [`State`] is small enough for a request's private data. It holds a mapping of one
//! [`DmaVec`] whole; more of them are in [`Slot`]s, one a segment, that the mapping's owner set
//! aside beforehand. Both are memory that no device can reach: what is unmapped is never read back
//! from a descriptor.

use super::{
    ops::{
        Closed,
        Mode, //
    },
    plan::Place,
    types::{
        BadPhyr,
        DmaAddr,
        DmaVec,
        Phyr, //
        PhysAddr,
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

    /// Marks the length of a phyr with which a run begins.
    const BEGINS: u64 = Self::IOVA;

    /// All marks.
    const MARKS: u64 = 3 << 62;

    /// As planned; `None` if it is so long that its length takes the room of the marks.
    #[inline]
    pub(crate) const fn from_phyr(phyr: Phyr, place: Place) -> Option<Self> {
        // CAST: a `usize` is at most 64 bits wide.
        let len = phyr.len() as u64;
        if len & Self::MARKS != 0 {
            return None;
        }
        Some(Self {
            addr: phyr.paddr().into_raw(),
            len: match place {
                Place::Begins => len | Self::BEGINS,
                Place::Joins => len,
            },
        })
    }

    /// The phyr that the slot was made from.
    #[inline]
    pub(crate) const fn phyr(self) -> Result<Phyr, BadPhyr> {
        // CAST: the length came from a `usize`.
        Phyr::new(
            PhysAddr::from_raw(self.addr),
            (self.len & !Self::MARKS) as usize,
        )
    }

    /// Whether a run begins with the phyr that the slot was made from.
    #[inline]
    pub(crate) const fn begins(self) -> bool {
        self.len & Self::BEGINS != 0
    }

    /// A range that `dma_map_phys` mapped, or that is a part of another.
    #[inline]
    pub(crate) const fn range(addr: DmaAddr, len: usize) -> Self {
        Self {
            addr: addr.into_raw(),
            // CAST: a `usize` is at most 64 bits wide.
            len: len as u64,
        }
    }

    /// A range with an IOVA allocation of its own.
    #[inline]
    pub(crate) const fn iova(range: Closed) -> Self {
        Self {
            addr: range.addr.into_raw(),
            len: range.size | Self::IOVA,
        }
    }

    /// The IOVA allocation, if the range has one of its own.
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

    /// The range as the device sees it.
    #[inline]
    pub(crate) const fn dma_vec(self) -> DmaVec {
        // CAST: without its marks the length is that of a `usize`.
        DmaVec::new(
            DmaAddr::from_raw(self.addr),
            (self.len & !Self::MARKS) as usize,
        )
    }
}

/// How a mapping was made, and so how it is taken down.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// Nothing is mapped.
    Unmapped,
    /// One `dma_map_phys`; the range is in the state.
    Single,
    /// One IOVA allocation with one run; the range is in the state.
    Joined,
    /// One IOVA allocation with several runs; it is in the state, the ranges are in the slots.
    Packed,
    /// Ranges in the slots, each a `dma_map_phys` or an IOVA allocation of its own.
    Each,
}

/// What one mapping was made of; see the [module documentation](self).
///
/// It can be neither copied nor made by hand, so that a mapping is taken down once. A state that is
/// dropped while it is mapped leaves the mapping in place for ever.
///
/// # Invariants
///
/// `one`, and for `Made::Packed` and `Made::Each` the first `nr` slots that the mapping was
/// made with, describe exactly what is mapped.
#[must_use = "a mapping whose state is lost is never taken down"]
pub struct State {
    one: Slot,
    nr: u32,
    made: Made,
    /// Whether the DMA API wants to be told of the end of the mapping.
    unmap: bool,
    mode: Mode,
}

impl State {
    /// The state of that which is not mapped.
    pub const UNMAPPED: Self = Self {
        one: Slot::EMPTY,
        nr: 0,
        made: Made::Unmapped,
        unmap: false,
        mode: Mode::UNMAPPED,
    };

    /// # Safety
    ///
    /// The arguments describe exactly what is mapped, as the type invariant says.
    #[inline]
    pub(crate) unsafe fn new(made: Made, one: Slot, nr: u32, mode: Mode, unmap: bool) -> Self {
        // INVARIANT: by the safety requirements.
        Self {
            one,
            nr,
            made,
            unmap,
            mode,
        }
    }

    #[inline]
    pub(crate) fn made(&self) -> Made {
        self.made
    }

    #[inline]
    pub(crate) fn one(&self) -> Slot {
        self.one
    }

    #[inline]
    pub(crate) fn needs_unmap(&self) -> bool {
        self.unmap
    }

    #[inline]
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether anything is mapped.
    #[inline]
    pub fn is_mapped(&self) -> bool {
        self.made != Made::Unmapped
    }

    /// The ranges that `dma_map_phys` mapped, which are those that `dma_sync_*` knows.
    pub(crate) fn singles<'a>(&'a self, slots: &'a [Slot]) -> impl Iterator<Item = DmaVec> + 'a {
        let none = self.made == Made::Packed;
        let ranges = self.dma_vecs(slots).slots;
        ranges
            .filter(move |slot| !none && slot.closed().is_none())
            .map(|slot| slot.dma_vec())
    }

    /// Leaves [`State::UNMAPPED`] behind and returns what was there.
    #[inline]
    pub fn take(&mut self) -> Self {
        core::mem::replace(self, Self::UNMAPPED)
    }

    /// As [`State::take`] of which nobody wants the result.
    #[inline]
    pub(crate) fn clear(&mut self) {
        // INVARIANT: nothing is what it says to be mapped.
        self.made = Made::Unmapped;
        self.unmap = false;
    }

    /// The range, if there is one that needs no slot.
    #[inline]
    pub fn dma_vec(&self) -> Option<DmaVec> {
        match self.made {
            Made::Single | Made::Joined => Some(self.one.dma_vec()),
            Made::Unmapped | Made::Packed | Made::Each => None,
        }
    }

    /// Those of `slots`, with which the mapping was made, that hold its ranges.
    #[inline]
    pub(crate) fn used<'a>(&self, slots: &'a [Slot]) -> &'a [Slot] {
        let nr = match self.made {
            // CAST: `nr` counted slots of a slice.
            Made::Packed | Made::Each => self.nr as usize,
            _ => 0,
        };
        slots.get(..nr).unwrap_or(&[])
    }

    /// The ranges that the device sees, in the order of the phyrs.
    ///
    /// `slots` are those that the mapping was made with; with others, the ranges are not of this
    /// mapping.
    #[inline]
    pub fn dma_vecs<'a>(&'a self, slots: &'a [Slot]) -> DmaVecs<'a> {
        let slots = match self.made {
            Made::Unmapped => &[],
            Made::Single | Made::Joined => core::slice::from_ref(&self.one),
            Made::Packed | Made::Each => self.used(slots),
        };
        DmaVecs {
            slots: slots.iter(),
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("made", &self.made)
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
