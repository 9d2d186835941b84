// SPDX-License-Identifier: GPL-2.0

//! Sources: iterators of [`Phyr`], made from what drivers hold.
//!
//! No source allocates. Each yields the memory in order, with physically adjacent pieces joined and
//! cut again where the limits of a queue or a device ask for it; [`Segments`] does that for all of
//! them. A piece that cannot be mapped (peer-to-peer memory) is an error of the iterator.
//!
//! - [`request::RequestPhyrs`]: a block request.
//! - [`bvec::BioVecs`]: a slice of bio_vecs.
//! - [`Pages`](crate::memory::Pages): pages that the caller owns.

use super::{
    bindings,
    plan::Limits,
    types::{
        BadPhyr,
        PhysAddr,
        Phyr, //
    },
};
use kernel::prelude::*;

pub mod bvec;
pub mod request;

/// A source of memory to be mapped: an iterator of phyrs, in order.
pub trait Source: Iterator<Item = Result<Phyr>> {}

impl<I: Iterator<Item = Result<Phyr>>> Source for I {}

impl From<BadPhyr> for Error {
    fn from(bad: BadPhyr) -> Self {
        match bad {
            BadPhyr::Empty => EINVAL,
            BadPhyr::Overflow => EOVERFLOW,
        }
    }
}

/// The piece of memory that begins `offset` bytes into the page `page`.
///
/// # Errors
///
/// - `EREMOTEIO`: the page is peer-to-peer memory, which no source carries.
/// - `EINVAL`: `len` is zero.
///
/// # Safety
///
/// `page` points at a valid page, and the `len` bytes behind `offset` are in it or in the pages
/// that follow it physically.
#[inline]
pub(crate) unsafe fn page_piece(
    page: *const kernel::bindings::page,
    offset: u64,
    len: usize,
) -> Result<Phyr> {
    // SAFETY: `page` is valid by the requirements of this function.
    let paddr = unsafe { bindings::phyr_helper_page_to_phys(page) };

    // `PHYS_ADDR_MAX` is what the helper returns for peer-to-peer memory.
    if paddr == u64::MAX {
        return Err(EREMOTEIO);
    }
    Ok(Phyr::new(PhysAddr::from_raw(paddr + offset), len)?)
}

/// Joins adjacent pieces of the source `I`, and cuts what is over the limits.
///
/// Each phyr that comes out is as long as the limits allow: it ends at a gap, at the end, or where
/// one more byte would be over a limit.
pub struct Segments<I> {
    pieces: I,
    limits: Limits,
    /// What has been read of the pieces and not been given out.
    rest: Option<Phyr>,
}

impl<I: Source> Segments<I> {
    /// Joins and cuts `pieces` to `limits`.
    #[inline]
    pub fn new(pieces: I, limits: Limits) -> Self {
        Self {
            pieces,
            limits,
            rest: None,
        }
    }

    /// Gives out `phyr`, or as much of it as the limits allow.
    #[inline]
    fn cut(&mut self, phyr: Phyr) -> Result<Phyr> {
        let room = self.limits.room(phyr.paddr().into_raw());
        // CAST: a `usize` is at most 64 bits wide.
        if phyr.len() as u64 <= room {
            return Ok(phyr);
        }
        // CAST: less than the length, which is a `usize`.
        let (head, tail) = phyr.split(room as usize).ok_or(EINVAL)?;
        self.rest = Some(tail);
        Ok(head)
    }
}

impl<I: Source> Iterator for Segments<I> {
    type Item = Result<Phyr>;

    #[inline]
    fn next(&mut self) -> Option<Result<Phyr>> {
        let mut phyr = match self.rest.take() {
            Some(rest) => rest,
            None => match self.pieces.next()? {
                Ok(piece) => piece,
                Err(e) => return Some(Err(e)),
            },
        };
        let room = self.limits.room(phyr.paddr().into_raw());

        // CAST: a `usize` is at most 64 bits wide.
        while (phyr.len() as u64) < room {
            match self.pieces.next() {
                None => return Some(Ok(phyr)),
                Some(Err(e)) => return Some(Err(e)),
                Some(Ok(piece)) => match phyr.join(piece) {
                    Some(joined) => phyr = joined,
                    None => {
                        self.rest = Some(piece);
                        return Some(Ok(phyr));
                    }
                },
            }
        }
        Some(self.cut(phyr))
    }
}
