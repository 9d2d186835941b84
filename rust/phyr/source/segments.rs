// SPDX-License-Identifier: GPL-2.0

//! Sources of memory: the trait, and the iterators that join pieces where they adjoin and cut them
//! to the limits of a queue or a device.
//!
//! Plain Rust, without a kernel call.

use crate::{
    limits::Limits,
    types::{
        BadPhyr,
        Granule,
        Phyr, //
    }, //
};
use core::num::NonZeroUsize;
use kernel::prelude::*;

/// A source of memory to be mapped: phyrs in order, and what is known of them beforehand.
///
/// An iterator of phyrs is a source of which nothing is known. A source that can tell more, such as
/// a block request, saves a look at all phyrs.
pub trait Source {
    /// The phyrs, as the limits of a queue or a device cut them.
    type Phyrs: Iterator<Item = Result<Phyr>> + Clone;

    /// The pieces that the phyrs are joined from.
    type Pieces: Iterator<Item = Result<Phyr>> + Clone;

    /// Returns the phyrs.
    fn phyrs(&self) -> Self::Phyrs;

    /// Returns the only phyr, if it is known that there is no other. `None` does not say that there
    /// are several.
    #[inline]
    fn only(&self) -> Option<Result<Phyr>> {
        let mut phyrs = self.phyrs();
        match (phyrs.next(), phyrs.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// Returns the pieces, if neither the source's own limits nor `limits` would split them, even
    /// if all of them adjoin.
    #[inline]
    fn pieces(&self, _limits: &Limits) -> Option<Self::Pieces> {
        None
    }

    /// Returns the length of all pieces in bytes, if an IOMMU with this granule is known to join
    /// all of them. A hint only: each edge is checked again as it is linked.
    #[inline]
    fn run_len(&self, _granule: Granule) -> Option<NonZeroUsize> {
        None
    }
}

impl<I: Iterator<Item = Result<Phyr>> + Clone> Source for I {
    type Phyrs = I;
    type Pieces = I;

    #[inline]
    fn phyrs(&self) -> I {
        self.clone()
    }
}

impl From<BadPhyr> for Error {
    fn from(bad: BadPhyr) -> Self {
        match bad {
            BadPhyr::Empty => EINVAL,
            BadPhyr::Overflow => EOVERFLOW,
        }
    }
}

/// Joins adjacent pieces of the source `I`, and cuts what is over the limits.
///
/// Each phyr that comes out is as long as the limits allow: it ends at a gap, at the end, or where
/// one more byte would be over a limit.
#[derive(Clone)]
pub struct Segments<I> {
    pieces: I,
    limits: Limits,
    /// Read from the pieces, and not given out yet.
    rest: Option<Phyr>,
}

impl<I: Iterator<Item = Result<Phyr>>> Segments<I> {
    /// Joins and cuts `pieces` to `limits`.
    #[inline]
    pub fn new(pieces: I, limits: Limits) -> Self {
        Self {
            pieces,
            limits,
            rest: None,
        }
    }
}

/// Takes a segment out of `rest` if there is one to which nothing can be added.
#[inline]
fn take_full(rest: &mut Option<Phyr>, limits: Limits) -> Option<Phyr> {
    let phyr = (*rest)?;
    let max = limits.max_len_at(phyr.paddr().into_raw());
    // CAST: a `usize` is at most 64 bits wide.
    if (phyr.len() as u64) < max {
        return None;
    }
    // CAST: at most the length, which is a `usize`.
    match phyr.split(max as usize) {
        Some((head, tail)) => {
            *rest = Some(tail);
            Some(head)
        }
        None => rest.take(),
    }
}

impl<I: Iterator<Item = Result<Phyr>>> Iterator for Segments<I> {
    type Item = Result<Phyr>;

    #[inline]
    fn next(&mut self) -> Option<Result<Phyr>> {
        loop {
            if let Some(full) = take_full(&mut self.rest, self.limits) {
                return Some(Ok(full));
            }
            let piece = match self.pieces.next() {
                Some(Ok(piece)) => piece,
                Some(Err(e)) => return Some(Err(e)),
                None => return self.rest.take().map(Ok),
            };
            match self.rest.replace(piece) {
                None => {}
                Some(phyr) => match phyr.join(piece) {
                    None => return Some(Ok(phyr)),
                    joined => self.rest = joined,
                },
            }
        }
    }
}

/// Joins adjacent pieces of the source `I`, where no limit is in the way.
#[derive(Clone)]
pub(crate) struct JoinedPieces<I> {
    pieces: I,
    /// Read from the pieces, and not given out yet.
    rest: Option<Phyr>,
}

impl<I: Iterator<Item = Result<Phyr>>> JoinedPieces<I> {
    /// Joins `pieces`.
    #[inline(always)]
    pub(crate) fn new(pieces: I) -> Self {
        Self { pieces, rest: None }
    }
}

impl<I: Iterator<Item = Result<Phyr>>> Iterator for JoinedPieces<I> {
    type Item = Result<Phyr>;

    // With the source's own into the loop that maps: what is kept from one phyr to the next stays
    // in registers then, and there is one place that asks for a piece.
    #[inline(always)]
    fn next(&mut self) -> Option<Result<Phyr>> {
        let mut phyr = self.rest.take();
        loop {
            let piece = match self.pieces.next() {
                Some(Ok(piece)) => piece,
                Some(Err(e)) => return Some(Err(e)),
                None => return phyr.map(Ok),
            };
            phyr = match phyr {
                None => Some(piece),
                Some(before) => match before.join(piece) {
                    None => {
                        self.rest = Some(piece);
                        return Some(Ok(before));
                    }
                    joined => joined,
                },
            };
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(phyr_source)]
mod tests {
    use super::*;
    use crate::{
        model::Random,
        types::PhysAddr, //
    };

    /// Runs pieces through [`Segments`], and returns the addresses and lengths that come out.
    fn segments<const N: usize>(
        limits: Option<Limits>,
        pieces: &[(u64, usize)],
    ) -> Option<[(u64, usize); N]> {
        let pieces = pieces
            .iter()
            .map(|&(addr, len)| Ok(Phyr::new(PhysAddr::from_raw(addr), len)?));
        let mut out = [(0, 0); N];
        let mut phyrs = Segments::new(pieces, limits?);
        for out in &mut out {
            let phyr = phyrs.next()?.ok()?;
            *out = (phyr.paddr().into_raw(), phyr.len());
        }
        phyrs.next().is_none().then_some(out)
    }

    #[test]
    fn an_iterator_is_a_source_without_hints() {
        let source = |pieces: &'static [(u64, usize)]| {
            pieces.iter().map(|&(addr, len)| -> Result<Phyr> {
                Ok(Phyr::new(PhysAddr::from_raw(addr), len)?)
            })
        };
        let (one, two) = (source(&[(0, 512)]), source(&[(0, 512), (512, 512)]));
        assert_eq!(two.phyrs().count(), 2);
        assert!(matches!(one.only(), Some(Ok(only)) if only.len() == 512));
        assert!(two.only().is_none());
        assert!(two.pieces(&Limits::NONE).is_none());
        assert!(two.run_len(Granule::ONE).is_none());
    }

    #[test]
    fn adjacent_pieces_join() {
        let none = Some(Limits::NONE);
        assert_eq!(segments(none, &[]), Some([]));
        assert_eq!(
            segments(none, &[(0x1000, 512), (0x1200, 512)]),
            Some([(0x1000, 1024)])
        );
        assert_eq!(
            segments(none, &[(0x1000, 512), (0x1201, 512)]),
            Some([(0x1000, 512), (0x1201, 512)])
        );
    }

    #[test]
    fn limits_cut() {
        let max = Limits::NONE.with_max_segment(1024);
        assert_eq!(segments(max, &[(0, 1024)]), Some([(0, 1024)]));
        assert_eq!(segments(max, &[(0, 1025)]), Some([(0, 1024), (1024, 1)]));
        assert_eq!(
            segments(max, &[(0, 1000), (1000, 1048)]),
            Some([(0, 1024), (1024, 1024)])
        );
        let boundary = Limits::NONE.with_boundary_mask(0xfff);
        assert_eq!(
            segments(boundary, &[(0xe00, 0x400)]),
            Some([(0xe00, 0x200), (0x1000, 0x200)])
        );
    }

    #[test]
    fn a_bad_piece_is_an_error_in_its_place() {
        let pieces = [(0x1000, 512), (0x1200, 0)];
        let pieces = pieces
            .iter()
            .map(|&(addr, len)| Ok(Phyr::new(PhysAddr::from_raw(addr), len)?));
        let mut joined = JoinedPieces::new(pieces.clone());
        assert!(matches!(joined.next(), Some(Err(e)) if e == EINVAL));
        let mut phyrs = Segments::new(pieces, Limits::NONE);
        assert!(matches!(phyrs.next(), Some(Err(e)) if e == EINVAL));
    }

    /// Joining and cutting neither loses nor invents a byte, leaves nothing apart that could be
    /// joined, and nothing over a limit.
    #[test]
    fn random_pieces_come_out_whole() {
        let mut random = Random::new(0x736f7572);
        let mut wrong = 0;

        for _ in 0..3000 {
            let mut pieces = [(0u64, 0usize); 16];
            let mut next = 0x10_0000;
            for piece in &mut pieces {
                let len = 512 * (1 + random.below(16));
                if random.below(2) == 0 {
                    next += 512 * (1 + random.below(8));
                }
                // CAST: a few KiB.
                *piece = (next, len as usize);
                next += len;
            }
            let limits = match random.below(3) {
                0 => Limits::NONE.with_max_segment(512 * (8 + random.below(24))),
                1 => Limits::NONE.with_boundary_mask((4096 << random.below(4)) - 1),
                _ => Some(Limits::NONE),
            }
            .unwrap_or(Limits::NONE);

            let source = pieces
                .iter()
                .map(|&(addr, len)| Ok(Phyr::new(PhysAddr::from_raw(addr), len)?));
            if limits.allow_anywhere(1 << 20) {
                let same =
                    Segments::new(source.clone(), limits).eq(JoinedPieces::new(source.clone()));
                wrong += u32::from(!same);
            }
            let mut bytes = pieces.iter().flat_map(|&(addr, len)| {
                (0..len as u64)
                    .step_by(512)
                    .map(move |offset| addr + offset)
            });
            let mut before: Option<Phyr> = None;
            for phyr in Segments::new(source, limits).flatten() {
                let (addr, len) = (phyr.paddr().into_raw(), phyr.len() as u64);
                let same = (addr..addr + len)
                    .step_by(512)
                    .all(|at| bytes.next() == Some(at));
                let joinable = before.is_some_and(|before| {
                    before.end() == addr
                        && (before.len() as u64) < limits.max_len_at(before.paddr().into_raw())
                });
                if !same || joinable || len > limits.max_len_at(addr) {
                    wrong += 1;
                }
                before = Some(phyr);
            }
            if bytes.next().is_some() {
                wrong += 1;
            }
        }
        assert_eq!(wrong, 0);
    }
}
