// SPDX-License-Identifier: GPL-2.0

//! A mapping is unlinked when the flush is over.

use phyr::{Slot, State, Unmapping};

pub fn late(mut unmapping: Unmapping<'_, '_>, mut state: State, slots: &[Slot]) {
    // SAFETY: for the example.
    unsafe { unmapping.unmap(&mut state, || slots) };
    let flushed = unmapping.flush();
    #[cfg(compile_fail)]
    // SAFETY: for the example.
    unsafe {
        unmapping.unmap(&mut state, || slots)
        //~^ error[E0382]: borrow of moved value: `unmapping`
    };
    // SAFETY: for the example.
    unsafe { flushed.free(&mut state, || slots) };
}
