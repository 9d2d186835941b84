// SPDX-License-Identifier: GPL-2.0

//! A reference model of the linear planner, for tests: byte by byte.
//!
//! Plain Rust, without a kernel call.

use super::error::{
    Edge,
    LinearError, //
};
use crate::{
    model::List,
    types::{
        Granule,
        Phyr, //
    }, //
};

/// Returns the reason for which one range cannot lead to the phyrs of `list`, or `None` if it can:
/// at the first phyr with which it cannot.
pub(crate) fn first_break(list: &List, granule: Option<Granule>) -> Option<LinearError> {
    let nr = (1..=list.iter().count()).find(|&nr| !is_linear(list.iter().take(nr), granule))?;
    let phyr = nr - 1;
    // CAST: a `usize` is at most 64 bits wide.
    let offset = list.iter().take(phyr).map(|phyr| phyr.len() as u64).sum();
    let Some(granule) = granule else {
        return Some(LinearError::NotTranslated { phyr, offset });
    };
    let misaligned = |phyr, edge| LinearError::Misaligned {
        phyr,
        edge,
        offset,
        granule: granule.size(),
    };
    let end = list.iter().nth(phyr - 1)?.end();
    let start = list.iter().nth(phyr)?.paddr().into_raw();
    Some(match (end % granule.size(), start % granule.size()) {
        (0, _) => misaligned(phyr, Edge::Start),
        (_, 0) => misaligned(phyr - 1, Edge::End),
        _ => LinearError::Gap { phyr, offset },
    })
}

/// Returns whether one range can lead to `phyrs`: each granule of the range leads to one granule
/// of memory, or without an IOMMU each byte to the one after the last.
fn is_linear(phyrs: impl Iterator<Item = Phyr> + Clone, granule: Option<Granule>) -> bool {
    let first = phyrs
        .clone()
        .next()
        .map_or(0, |phyr| phyr.paddr().into_raw());
    let mut bytes = phyrs.flat_map(|phyr| phyr.paddr().into_raw()..phyr.end());
    let Some(granule) = granule else {
        return bytes.zip(first..).all(|(byte, expected)| byte == expected);
    };
    let mut memory = None;
    (granule.offset(first)..)
        .zip(&mut bytes)
        .all(|(addr, byte)| {
            if granule.aligned(addr) {
                memory = None;
            }
            granule.offset(addr) == granule.offset(byte)
                && *memory.get_or_insert(granule.align_down(byte)) == granule.align_down(byte)
        })
}
