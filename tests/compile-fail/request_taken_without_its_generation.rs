// SPDX-License-Identifier: GPL-2.0

//! A request is taken by its tag alone, though the device tells its generation.

use phyr_blk::{Generation, HwCtx, Operations};

pub fn completed<T: Operations<Completion = Generation>>(hw: &HwCtx<'_, T>) {
    drop(hw.take_generation(1, 2));
    #[cfg(misuse)]
    drop(hw.take(1));
    //~^ error[E0271]: type mismatch resolving `<T as Operations>::Completion == TagOnly`
}
