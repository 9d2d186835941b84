// SPDX-License-Identifier: GPL-2.0

//! Memory by its physical address, which nobody vouches for, is mapped by safe code.

use kernel::prelude::*;
use phyr::{source::Source, DataDirection, Mapper, MemoryKind, Pinned, Slot, State};

pub fn raw(
    mapper: &Mapper<'_>,
    memory: impl Source,
    slots: &mut [Slot],
    state: &mut State,
) -> Result {
    let (dir, kind) = (DataDirection::ToDevice, MemoryKind::System);
    #[cfg(not(compile_fail))]
    // SAFETY: it is never called.
    let memory = unsafe { Pinned::new(memory, dir, kind) };
    #[cfg(compile_fail)]
    let memory = Pinned::new(memory, dir, kind);
    //~^ error[E0133]: call to unsafe function
    mapper.map_into(memory?, || Ok(slots), state)
}
