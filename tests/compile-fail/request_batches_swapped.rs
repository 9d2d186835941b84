// SPDX-License-Identifier: GPL-2.0

//! A batch outlives the call that flushes it, in the place of another.

use phyr_blk::{HwCtx, Operations};

pub fn swapped<T: Operations>(hw: &HwCtx<'_, T>) {
    hw.batch(|outer| {
        hw.batch(|inner| {
            #[cfg(compile_fail)]
            core::mem::swap(outer, inner);
            //~^ error[E0521]: borrowed data escapes outside of closure
            #[cfg(not(compile_fail))]
            let _ = (&outer, inner);
        });
    });
}
