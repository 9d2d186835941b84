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
    types::{
        Phyr, //
        PhysAddr,
    },
};
use kernel::prelude::*;

pub mod bvec;
pub mod request;
mod segments;

pub(crate) use self::segments::Joined;
pub use self::segments::{
    Segments,
    Source, //
};

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
