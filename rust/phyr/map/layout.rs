// SPDX-License-Identifier: GPL-2.0

//! Slots while a mapping is made. `exec.rs` reads phyrs from them and writes ranges in their place.

use super::state::Slot;
use crate::pinned::PinnedPhyr;
use core::cell::Cell;
use kernel::prelude::*;

/// Returns the number of phyrs, and of bytes, in the run with which `slots` begin.
pub(super) fn next_run(slots: &[Cell<Slot>]) -> Result<Option<(usize, u64)>> {
    let (mut nr, mut bytes) = (0, 0);
    for slot in slots {
        if nr != 0 && slot.get().begins() {
            break;
        }
        nr += 1;
        // No overflow: the planner has added up all of them.
        // CAST: a `usize` is at most 64 bits wide.
        bytes += slot.get().phyr().ok_or(EINVAL)?.len() as u64;
    }
    Ok((nr != 0).then_some((nr, bytes)))
}

/// Slots that hold phyrs.
///
/// # Invariants
///
/// Each slot holds a phyr of pinned memory until it is written, and is read before that.
#[derive(Clone, Copy)]
pub(super) struct Phyrs<'a>(pub(super) &'a [Cell<Slot>]);

impl Phyrs<'_> {
    /// Reads the phyr in `slot`, which is one of these.
    #[inline]
    pub(super) fn read(self, slot: &Cell<Slot>) -> Result<PinnedPhyr> {
        let phyr = slot.get().phyr().ok_or(EINVAL)?;
        // SAFETY: by the type invariant it is of pinned memory.
        Ok(unsafe { PinnedPhyr::again(phyr) })
    }

    /// Reads the first phyr.
    #[inline]
    pub(super) fn first(self) -> Result<PinnedPhyr> {
        self.read(self.0.first().ok_or(EINVAL)?)
    }
}
