// SPDX-License-Identifier: GPL-2.0

//! The one promise of the mapping core: this memory stays in place while it is mapped.
//!
//! Whoever maps memory makes it once, as a value: [`Pinned::new`] is unsafe, what takes a
//! [`Pinned`] is safe. Memory that owns itself, a [`Memory`](super::memory::Memory), has made it in
//! its `unsafe impl`.

use super::{
    attrs::{
        MapAttrs,
        MemoryKind, //
    },
    limits::Limits,
    source::{
        JoinedPieces,
        Source, //
    },
    types::{
        Granule,
        Phyr, //
    }, //
};
use kernel::{
    dma::DataDirection,
    prelude::*, //
};

/// A source of memory that stays in place while it is mapped.
///
/// # Invariants
///
/// Until each mapping that is made of it, or of a clone, has ended, for ever if one does not end:
/// the memory that `source` or a clone of it yields, by whichever method and however often, stays
/// allocated, is of the kind that `attrs` says, and is such as any device that it is mapped for may
/// access in their direction.
#[derive(Clone)]
pub struct Pinned<S> {
    source: S,
    attrs: MapAttrs,
}

impl<S: Source> Pinned<S> {
    /// Promises that the memory of `source` stays in place.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `dir` is [`DataDirection::None`].
    ///
    /// # Safety
    ///
    /// Until each mapping that is made of the value, or of a clone of it, has ended, and for ever
    /// if one is leaked: what `source` or a clone of it yields, by whichever method and however
    /// often, stays allocated, is of the kind `kind`, and is such as any device that it is mapped
    /// for may access in the direction `dir`.
    #[inline]
    pub unsafe fn new(source: S, dir: DataDirection, kind: MemoryKind) -> Result<Self> {
        // INVARIANT: the caller's promise has each part of it.
        Ok(Self {
            source,
            attrs: MapAttrs::new(dir, kind)?,
        })
    }

    /// Returns the direction and the kind.
    #[inline]
    pub fn attrs(&self) -> MapAttrs {
        self.attrs
    }

    /// Returns the only phyr, if the source knows at once that there is no other.
    #[inline]
    pub(crate) fn only(&self) -> Option<Result<PinnedPhyr>> {
        // INVARIANT: the source yields it.
        Some(self.source.only()?.map(PinnedPhyr))
    }

    /// Returns the phyrs.
    #[inline]
    pub(crate) fn phyrs(&self) -> PinnedPhyrs<S::Phyrs> {
        PinnedPhyrs(self.source.phyrs())
    }

    /// Returns the pieces that the phyrs are joined from, if all of the source is within `limits`
    /// wherever it is cut.
    #[inline]
    pub(crate) fn pieces(&self, limits: &Limits) -> Option<PinnedPhyrs<S::Pieces>> {
        self.source.pieces(limits).map(PinnedPhyrs)
    }

    /// Returns the source.
    #[inline]
    pub(crate) fn source(&self) -> &S {
        &self.source
    }
}

/// Iterates over the phyrs of pinned memory.
///
/// # Invariants
///
/// The iterator is one of the source of a [`Pinned`], or joins what that yields.
#[derive(Clone)]
pub(crate) struct PinnedPhyrs<I>(I);

impl<I: Iterator<Item = Result<Phyr>>> PinnedPhyrs<I> {
    /// Joins phyrs that adjoin, without a limit.
    #[inline(always)]
    pub(crate) fn joined(self) -> PinnedPhyrs<JoinedPieces<I>> {
        // INVARIANT: joined of what a source yields.
        PinnedPhyrs(JoinedPieces::new(self.0))
    }
}

impl<I: Iterator<Item = Result<Phyr>>> Iterator for PinnedPhyrs<I> {
    type Item = Result<PinnedPhyr>;

    // With the source's own into the loop that maps.
    #[inline(always)]
    fn next(&mut self) -> Option<Result<PinnedPhyr>> {
        // INVARIANT: by the type invariant the phyr is of pinned memory.
        Some(self.0.next()?.map(PinnedPhyr))
    }
}

/// A [`Phyr`] of pinned memory.
///
/// # Invariants
///
/// The memory is as [`Pinned`] says, or lies in a granule with memory that is, of a device that may
/// see all of a granule.
#[derive(Clone, Copy)]
pub struct PinnedPhyr(Phyr);

impl PinnedPhyr {
    /// Names memory that was pinned before.
    ///
    /// # Safety
    ///
    /// `phyr` is a part of memory that is pinned, by a value that is still there.
    #[inline]
    pub(crate) unsafe fn again(phyr: Phyr) -> Self {
        // INVARIANT: the caller promises it.
        Self(phyr)
    }

    /// Returns the memory.
    #[inline]
    pub fn phyr(self) -> Phyr {
        self.0
    }

    /// Returns the whole granules around it, or `None` on overflow; for a mapper that
    /// [packs](super::Mapper::packs), whose device may see them.
    #[inline]
    pub(crate) fn around(self, granule: Granule) -> Option<Self> {
        // INVARIANT: the rest of the granules lies in granules with the memory.
        granule.around(self.0).map(Self)
    }
}
