// SPDX-License-Identifier: GPL-2.0

//! Calls of the kernel crate that drivers make by themselves, with a fail point each.
//!
//! They do what the kernel crate's do. In a build for tests they fail when they are told to
//! ([`phyr::fail`]), so that a driver needs no fail points of its own to have its error paths
//! tested. The one for registers is [`Enabled::iomap_region_sized`].
//!
//! [`Enabled::iomap_region_sized`]: super::pci::Enabled::iomap_region_sized

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::Coherent,
    io::poll,
    prelude::*,
    time::Delta,
    transmute::{
        AsBytes,
        FromBytes, //
    }, //
};
use phyr::fail::{
    self,
    Point, //
};

/// Allocates `count` elements of coherent memory, all zeroes; see [`Coherent::zeroed_slice`].
///
/// Context: may sleep if `flags` allow it.
///
/// # Errors
///
/// - `ENOMEM`: no memory.
/// - `EINVAL`: `count` is zero.
#[inline]
pub fn coherent_slice<T: AsBytes + FromBytes>(
    dev: &Device<Bound>,
    count: usize,
    flags: kernel::alloc::Flags,
) -> Result<Coherent<[T]>> {
    fail::at(Point::dma_alloc_attrs)?;
    Coherent::zeroed_slice(dev, count, flags)
}

/// Calls `op` until `cond` returns true for its result; see
/// [`read_poll_timeout`](poll::read_poll_timeout).
///
/// Context: process context, sleeps.
///
/// # Errors
///
/// - `ETIMEDOUT`: `timeout` is over.
/// - Those of `op`.
#[inline]
#[track_caller]
pub fn read_poll_timeout<T>(
    op: impl FnMut() -> Result<T>,
    cond: impl FnMut(&T) -> bool,
    sleep: Delta,
    timeout: Delta,
) -> Result<T> {
    fail::at(Point::read_poll_timeout)?;
    poll::read_poll_timeout(op, cond, sleep, timeout)
}
