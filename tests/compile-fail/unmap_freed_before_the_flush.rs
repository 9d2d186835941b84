// SPDX-License-Identifier: GPL-2.0

//! The addresses of a mapping are freed before the IOTLB is flushed.

use phyr::{Slot, State, Unmapping};

pub fn end(mut unmapping: Unmapping<'_, '_>, mut state: State, slots: &[Slot]) {
    // SAFETY: for the example.
    unsafe { unmapping.unmap(&mut state, || slots) };
    #[cfg(compile_fail)]
    // SAFETY: for the example.
    unsafe {
        unmapping.free(&mut state, || slots)
        //~^ error[E0599]: no method named `free` found for
    };
    #[cfg(not(compile_fail))]
    // SAFETY: for the example.
    unsafe {
        unmapping.flush().free(&mut state, || slots)
    };
}
