// SPDX-License-Identifier: GPL-2.0

//! Works out why the DMA API did not map memory, and logs failures that last.
//!
//! C headers: [`include/linux/dma-direct.h`](srctree/include/linux/dma-direct.h),
//! [`include/linux/swiotlb.h`](srctree/include/linux/swiotlb.h)

use super::failure::{
    Facts,
    Failure, //
};
use crate::{
    attrs::MapAttrs,
    bindings as helpers,
    device,
    mapper::Mapper,
    raw,
    types::{
        Phyr,
        PhysAddr, //
    }, //
};
use kernel::{
    bindings,
    prelude::*, //
};

/// Checks that the DMA API can map a range for the device, where it translates nothing.
///
/// # Errors
///
/// - `ERANGE`, `ENOBUFS`, `EFBIG`: those of
///   [`IovaSpace::map_phys`](crate::space::IovaSpace::map_phys).
pub(crate) fn check_reach(mapper: &Mapper<'_>, phyr: Phyr, attrs: MapAttrs) -> Result {
    let reason = facts(mapper, phyr, attrs).reason();
    if reason.is_final().is_some() {
        return Err(say(mapper, reason));
    }
    Ok(())
}

/// Returns the errno for memory that the DMA API did not map, and logs a failure that lasts.
#[cold]
#[inline(never)]
pub(super) fn why(mapper: &Mapper<'_>, phyr: Phyr, attrs: MapAttrs) -> Error {
    say(mapper, facts(mapper, phyr, attrs).reason())
}

/// Returns the errno of `reason`, and logs it if it lasts.
#[cold]
fn say(mapper: &Mapper<'_>, reason: Failure) -> Error {
    // SAFETY: always allowed.
    let may_say = |nr| unsafe { helpers::phyr_helper_may_say(nr) };
    if reason.is_final().is_some_and(may_say) {
        dev_err!(mapper.device(), "phyr: not mapped: {}\n", reason);
    }
    reason.into()
}

/// Looks up what says why a range was not mapped by the DMA API, or whether it can be.
#[cold]
fn facts(mapper: &Mapper<'_>, phyr: Phyr, attrs: MapAttrs) -> Facts {
    let (paddr, len) = (phyr.paddr(), phyr.len());
    let dev = raw::device(mapper.device());
    let (mask, start) = (mapper.last_addr(), paddr.into_raw());
    // CAST: a `usize` is at most 64 bits wide.
    let bytes = len as u64;
    let max_copy = if attrs.is_mmio() {
        0
    } else {
        // CAST: a `usize` is at most 64 bits wide.
        mapper.max_copy() as u64
    };
    // SAFETY: the device is valid.
    let is_small =
        unsafe { helpers::phyr_helper_dma_kmalloc_bounces(dev, len, attrs.raw_direction()) };

    if let Some(granule) = mapper.granule() {
        // What of it is no whole granules is bounced.
        let is_cut = !(granule.aligned(start) && granule.aligned(bytes));
        let bounces = cfg!(CONFIG_SWIOTLB) && (is_small || !mapper.is_trusted());
        return Facts {
            len: bytes,
            mask,
            is_translated: true,
            is_reached: bytes <= mask,
            is_copied: is_cut && bounces && !attrs.is_mmio(),
            max_copy,
            has_space: has_space(mapper, paddr, len),
        };
    }
    let to_dma = |paddr| device::to_dma(mapper.device(), paddr);
    // All ones: there is no such address.
    let (first, last) = (to_dma(start), to_dma(start.wrapping_add(bytes - 1)));
    Facts {
        len: bytes,
        mask,
        is_translated: false,
        is_reached: first != u64::MAX && last != u64::MAX && first <= last && last <= mask,
        is_copied: is_small || device::always_bounces(mapper.device()),
        max_copy,
        has_space: true,
    }
}

/// Returns whether the DMA API has room for a range now: takes it, and gives it back.
#[cold]
fn has_space(mapper: &Mapper<'_>, paddr: PhysAddr, len: usize) -> bool {
    let dev = raw::device(mapper.device());
    let mut state = bindings::dma_iova_state::default();
    // SAFETY: the device is bound and `state` may be written; what was allocated is freed once.
    unsafe {
        let there = bindings::dma_iova_try_alloc(dev, &mut state, paddr.into_raw(), len);
        if there {
            bindings::dma_iova_free(dev, &mut state);
        }
        there
    }
}

/// Returns the errno of what was not linked with `error`: `ENOMEM` also stands for what was to be
/// bounced.
#[cold]
#[inline(never)]
pub(super) fn why_not_linked(
    mapper: &Mapper<'_>,
    error: Error,
    phyr: Phyr,
    attrs: MapAttrs,
) -> Error {
    let Some(granule) = mapper.granule().filter(|_| error == ENOMEM) else {
        return error;
    };
    let mut facts = facts(mapper, phyr, attrs);
    // The room is taken, and only what is no whole granule is bounced.
    facts.has_space = true;
    facts.len = facts.len.min(granule.size());
    say(mapper, facts.reason())
}
