// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: the parts of a mapping, the descriptors that were built for it.
//!
//! They are `phyr:phyr_map` and `phyr:phyr_descriptors` in tracefs. A driver's path pays one branch
//! that is patched out while nobody looks.
//!
//! C header: `trace.h` in this folder.

use super::{
    bindings::phyr_map_counts,
    map::{
        choose::Strategy,
        state::{
            Slot,
            State, //
        }, //
    },
    mapper::Mapper,
    types::Phyr, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};

#[cfg(CONFIG_TRACEPOINTS)]
use super::{
    bindings,
    raw, //
};

/// Returns whether anyone watches the tracepoint with this key.
macro_rules! enabled {
    ($key:ident) => {{
        #[cfg(CONFIG_TRACEPOINTS)]
        // SAFETY: the key of a tracepoint may always be asked.
        let enabled = unsafe {
            kernel::jump_label::static_branch_unlikely!(
                bindings::$key,
                kernel::bindings::tracepoint,
                key
            )
        };
        #[cfg(not(CONFIG_TRACEPOINTS))]
        let enabled = false;
        enabled
    }};
}

/// Returns whether anyone watches `phyr:phyr_map`.
#[inline(always)]
#[doc(hidden)]
pub fn map_enabled() -> bool {
    enabled!(__tracepoint_phyr_map)
}

/// Reports a mapping that was made of `bio_vecs` pieces, which were joined to `phyrs`.
#[doc(hidden)]
#[cold]
pub fn map(
    mapper: &Mapper<'_>,
    bio_vecs: u32,
    source: impl Iterator<Item = Result<Phyr>>,
    state: &State,
    slots: &[Slot],
) {
    let (mut phyrs, mut bytes) = (0u32, 0u64);
    for phyr in source.flatten() {
        phyrs += 1;
        // CAST: a `usize` is at most 64 bits wide.
        bytes += phyr.len() as u64;
    }
    let used = state.used(slots);
    // CAST: the slots of a mapping are counted in 32 bits.
    let ranges = used.iter().filter(|slot| slot.closed().is_some()).count() as u32;
    // CAST: the ranges of a mapping are counted in 32 bits.
    let dma_vecs = state.dma_vecs(slots).len() as u32;
    let (iova_ranges, single_maps) = match state.strategy() {
        Strategy::Unmapped => (0, 0),
        Strategy::Single => (0, 1),
        Strategy::Joined | Strategy::Packed => (1, 0),
        Strategy::Runs | Strategy::Each => (ranges, dma_vecs - ranges),
    };
    let counts = phyr_map_counts {
        bytes,
        bio_vecs,
        phyrs,
        dma_vecs,
        iova_ranges,
        single_maps,
    };
    report(mapper, counts);
}

/// Reports a linear mapping of `bytes` bytes that was made of `phyrs` phyrs.
#[cold]
pub(crate) fn linear(mapper: &Mapper<'_>, phyrs: u32, bytes: u64, iova_ranges: u32) {
    let counts = phyr_map_counts {
        bytes,
        bio_vecs: 0,
        phyrs,
        dma_vecs: 1,
        iova_ranges,
        single_maps: 1 - iova_ranges,
    };
    report(mapper, counts);
}

fn report(mapper: &Mapper<'_>, mut counts: phyr_map_counts) {
    // Behind an IOMMU `dma_map_phys()` allocates a range, too.
    let translated = u32::from(mapper.granule().is_some());
    counts.iova_ranges += translated * counts.single_maps;

    #[cfg(CONFIG_TRACEPOINTS)]
    // SAFETY: the device and the counts are valid for the call.
    unsafe {
        bindings::rust_do_trace_phyr_map(raw::device(mapper.device()), &counts)
    };
    #[cfg(not(CONFIG_TRACEPOINTS))]
    let _ = counts;
}

/// Reports that a driver built `entries` descriptors of the kind `kind` for a command of `dev`.
///
/// Context: any.
#[inline]
pub fn descriptors(dev: &Device<Bound>, kind: &'static CStr, entries: u32) {
    if enabled!(__tracepoint_phyr_descriptors) {
        #[cfg(CONFIG_TRACEPOINTS)]
        // SAFETY: the device and the name are valid for the call.
        unsafe {
            bindings::rust_do_trace_phyr_descriptors(raw::device(dev), kind.as_char_ptr(), entries)
        };
        #[cfg(not(CONFIG_TRACEPOINTS))]
        let _ = (dev, kind, entries);
    }
}
