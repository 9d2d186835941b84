// SPDX-License-Identifier: GPL-2.0

//! Address spaces of a device other than that of the DMA API.

use super::{
    ops::Mode,
    types::{
        DmaAddr,
        Phyr,
        PhysAddr, //
    }, //
};
use kernel::prelude::*;

/// An address space in which a [`Mapper`](super::Mapper) maps, in place of the DMA API's.
///
/// Its granule is that of the mapper. All of it may be called in any context.
///
/// # Safety
///
/// - [`IovaSpace::alloc`] gives out each address once until it is [freed](IovaSpace::free).
/// - The device reaches what is mapped, and nothing else, through the addresses that it is mapped
///   at; what [`IovaSpace::unmap`] has unmapped is out of its reach when that returns.
pub unsafe trait IovaSpace: Send + Sync {
    /// Returns the first address.
    fn first(&self) -> u64;

    /// Returns the last address.
    fn last(&self) -> u64;

    /// Returns the length in bytes of the longest range that there can be.
    fn max_len(&self) -> u64;

    /// Takes room for `len` bytes that begin as far into a granule as `paddr` does. Returns where
    /// they do, or `None` if there is no room. `len` is not zero.
    fn alloc(&self, paddr: PhysAddr, len: usize) -> Option<DmaAddr>;

    /// Gives back the room of `len` bytes at `addr`.
    ///
    /// # Safety
    ///
    /// [`IovaSpace::alloc`] took it for just that, nothing is mapped there, and it is not used
    /// again.
    unsafe fn free(&self, addr: DmaAddr, len: usize);

    /// Maps the granules in which `len` bytes at `paddr` are, at those of `addr`.
    ///
    /// # Errors
    ///
    /// What the IOMMU's driver returns; nothing is mapped.
    ///
    /// # Safety
    ///
    /// - The memory is such as the device may access until it is unmapped, as `mode` says, with all
    ///   of its granules.
    /// - The granules of `addr` are taken, nothing is mapped there, and `addr` begins as far into a
    ///   granule as `paddr` does.
    unsafe fn map(&self, addr: DmaAddr, paddr: PhysAddr, len: usize, mode: Mode) -> Result;

    /// Maps all of `source`, one behind the other at `addr`, with few flushes. Adds to `done` what
    /// is mapped.
    ///
    /// # Errors
    ///
    /// What `source` fails with, or the IOMMU's driver; then just `done` is mapped.
    ///
    /// # Safety
    ///
    /// Those of [`IovaSpace::map`], for each phyr; each but the first begins at a granule, each but
    /// the last ends at one.
    unsafe fn map_all(
        &self,
        addr: DmaAddr,
        source: &mut dyn Iterator<Item = Result<Phyr>>,
        mode: Mode,
        done: &mut usize,
    ) -> Result;

    /// Unmaps the granules of `len` bytes at `addr`, and flushes. Returns whether all of them were
    /// mapped.
    ///
    /// # Safety
    ///
    /// They were mapped by [`IovaSpace::map`] or [`IovaSpace::map_all`], and the device is done
    /// with them.
    #[must_use]
    unsafe fn unmap(&self, addr: DmaAddr, len: usize) -> bool;
}
