// SPDX-License-Identifier: GPL-2.0

//! What the CPU remembers of a mapping, so that unmapping is exact.
//!
//! A [`State`] is small enough for a request's private data. It holds a mapping of one
//! [`DmaVec`] whole; more of them are in [`Slot`]s, one a segment, that the mapping's owner set
//! aside beforehand. Both are memory that no device can reach: what is unmapped is never read back
//! from a descriptor.

use super::types::{
    DmaAddr,
    DmaVec,
    Phyr, //
    PhysAddr,
};
use core::fmt;

/// Room for one segment: 16 bytes.
///
/// While a mapping is made a slot holds a phyr, afterwards a DMA range. Where a range was linked in
/// an IOVA allocation of its own, `Slot::IOVA` is set in its length.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slot {
    addr: u64,
    len: u64,
}

impl Slot {
    /// A slot with nothing in it.
    pub const EMPTY: Self = Self { addr: 0, len: 0 };

    /// Marks the length of a range that has an IOVA allocation of its own.
    ///
    /// Bit 63 is the DMA API's own mark in the same word (`DMA_IOVA_USE_SWIOTLB` in
    /// drivers/iommu/dma-iommu.c), which has to be kept from link to destroy.
    const IOVA: u64 = 1 << 62;

    /// All marks.
    const MARKS: u64 = 3 << 62;

    #[inline]
    pub(crate) const fn from_phyr(phyr: Phyr) -> Self {
        Self {
            addr: phyr.paddr().into_raw(),
            // CAST: a `usize` is at most 64 bits wide.
            len: phyr.len() as u64,
        }
    }

    #[inline]
    pub(crate) const fn phyr_addr(self) -> PhysAddr {
        PhysAddr::from_raw(self.addr)
    }

    /// A range that `dma_map_phys` mapped.
    #[inline]
    pub(crate) const fn single(addr: u64, len: u64) -> Self {
        Self { addr, len }
    }

    /// A range with an IOVA allocation of its own; `size` is the DMA API's word, with its mark.
    #[inline]
    pub(crate) const fn iova(addr: u64, size: u64) -> Self {
        Self {
            addr,
            len: size | Self::IOVA,
        }
    }

    #[inline]
    pub(crate) const fn is_iova(self) -> bool {
        self.len & Self::IOVA != 0
    }

    #[inline]
    pub(crate) const fn addr(self) -> u64 {
        self.addr
    }

    /// The length in bytes.
    #[inline]
    pub(crate) const fn len(self) -> u64 {
        self.len & !Self::MARKS
    }

    /// The DMA API's word for the size of an IOVA allocation, with its mark.
    #[inline]
    pub(crate) const fn size_word(self) -> u64 {
        self.len & !Self::IOVA
    }

    #[inline]
    const fn dma_vec(self) -> DmaVec {
        // CAST: the length came from a `usize`.
        DmaVec::new(DmaAddr::from_raw(self.addr), self.len() as usize)
    }
}

/// How a mapping was made, and so how it is taken down.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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
/// `one`, and for `Kind::Packed` and `Kind::Each` the first `nr` slots that the mapping was
/// made with, describe exactly what is mapped.
#[must_use = "a mapping whose state is lost is never taken down"]
pub struct State {
    one: Slot,
    nr: u32,
    kind: Kind,
    /// Whether the DMA API wants to be told of the end of the mapping.
    unmap: bool,
    /// Whether the device may write.
    dir: u8,
}

impl State {
    /// The state of that which is not mapped.
    pub const UNMAPPED: Self = Self {
        one: Slot::EMPTY,
        nr: 0,
        kind: Kind::Unmapped,
        unmap: false,
        dir: 0,
    };

    /// # Safety
    ///
    /// The arguments describe exactly what is mapped, as the type invariant says.
    #[inline]
    pub(crate) unsafe fn new(kind: Kind, one: Slot, nr: u32, dir: u8, unmap: bool) -> Self {
        // INVARIANT: by the safety requirements.
        Self {
            one,
            nr,
            kind,
            unmap,
            dir,
        }
    }

    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
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
    pub(crate) fn dir(&self) -> u8 {
        self.dir
    }

    /// Whether anything is mapped.
    #[inline]
    pub fn is_mapped(&self) -> bool {
        self.kind != Kind::Unmapped
    }

    /// Whether the ranges were linked in one IOVA range, rather than mapped one by one.
    #[inline]
    pub(crate) fn is_linked(&self) -> bool {
        matches!(self.kind, Kind::Joined | Kind::Packed)
    }

    /// Leaves [`State::UNMAPPED`] behind and returns what was there.
    #[inline]
    pub fn take(&mut self) -> Self {
        core::mem::replace(self, Self::UNMAPPED)
    }

    /// How many slots are in use.
    #[inline]
    pub(crate) fn slots_used(&self) -> usize {
        match self.kind {
            // CAST: `nr` counted slots of a slice.
            Kind::Packed | Kind::Each => self.nr as usize,
            _ => 0,
        }
    }

    /// The ranges that the device sees, in the order of the phyrs.
    ///
    /// `slots` are those that the mapping was made with; with others, the ranges are not of this
    /// mapping.
    #[inline]
    pub fn dma_vecs<'a>(&'a self, slots: &'a [Slot]) -> DmaVecs<'a> {
        let slots = match self.kind {
            Kind::Unmapped => &[],
            Kind::Single | Kind::Joined => core::slice::from_ref(&self.one),
            Kind::Packed | Kind::Each => slots.get(..self.slots_used()).unwrap_or(&[]),
        };
        DmaVecs {
            slots: slots.iter(),
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("kind", &self.kind)
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
