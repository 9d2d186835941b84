// SPDX-License-Identifier: GPL-2.0

//! A piece of a page.

use crate::{
    bindings,
    types::{
        Phyr, //
        PhysAddr,
    }, //
};
use kernel::prelude::*;

/// Returns the piece of memory that begins `offset` bytes into the page `page`.
///
/// # Errors
///
/// - `EREMOTEIO`: the page is peer-to-peer memory, which no source carries.
/// - `EINVAL`: `len` is zero.
///
/// # Safety
///
/// `page` points at a valid page, and the `len` bytes after `offset` are in it or in the pages
/// that follow it physically.
#[inline]
pub unsafe fn page_piece(
    page: *const kernel::bindings::page,
    offset: u64,
    len: usize,
) -> Result<Phyr> {
    // SAFETY: the caller promises that `page` is valid.
    let paddr = unsafe { bindings::phyr_helper_page_to_phys(page) };

    // `PHYS_ADDR_MAX` is what the helper returns for peer-to-peer memory.
    if paddr == u64::MAX {
        return Err(EREMOTEIO);
    }
    Ok(Phyr::new(PhysAddr::from_raw(paddr + offset), len)?)
}
