// SPDX-License-Identifier: GPL-2.0

//! Memory by its physical address, which nobody vouches for, is mapped by safe code.

use kernel::prelude::*;
use phyr::{source::Source, DataDirection, Mapper, Slot, State};

pub fn raw(mapper: &Mapper<'_>, memory: impl Source + Clone, slots: &mut [Slot]) -> Result<State> {
    let dir = DataDirection::ToDevice;
    #[cfg(not(misuse))]
    // SAFETY: it is never called.
    let state = unsafe { mapper.map_into(memory, dir, slots) };
    #[cfg(misuse)]
    let state = mapper.map_into(memory, dir, slots);
    //~^ error[E0133]: call to unsafe function
    state
}
