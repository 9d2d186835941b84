// SPDX-License-Identifier: GPL-2.0

//! Sources: iterators of [`Phyr`](crate::Phyr), made from what drivers hold.
//!
//! No source allocates. Each yields the memory in order, with physically adjacent pieces joined and
//! cut again where the limits of a queue or a device ask for it; [`Segments`] does that for all of
//! them. A piece that cannot be mapped (peer-to-peer memory) is an error of the iterator.
//!
//! - [`bvec::BioVecs`]: a slice of bio_vecs.
//! - [`Pages`](crate::memory::Pages): pages that the caller owns.
//! - [`SgPages`]: the pages of an `sg_table` of any C code's.
//! - A block request: `phyr_blk` has it.

pub mod bvec;
#[doc(hidden)]
pub mod page;
pub(crate) mod segments;
mod sg_pages;

pub(crate) use self::segments::JoinedPieces;
pub use self::{
    segments::{
        Segments,
        Source, //
    },
    sg_pages::SgPages, //
};
