// SPDX-License-Identifier: GPL-2.0

//! A batch is forgotten before it is flushed.

use phyr_blk::{HwCtx, Operations};

pub fn forgotten<T: Operations>(hw: &HwCtx<'_, T>) {
    hw.batch(|batch| {
        #[cfg(compile_fail)]
        core::mem::forget(*batch);
        //~^ error[E0507]: cannot move out of `*batch` which is behind a mutable reference
        #[cfg(not(compile_fail))]
        let _ = batch;
    });
}
