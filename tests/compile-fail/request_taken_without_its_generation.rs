// SPDX-License-Identifier: GPL-2.0

//! A request is taken by its tag alone, though the device tells its generation.

use phyr_blk::{HwCtx, Operations, TagAndGeneration};

pub fn completed<T: Operations<CompletionId = TagAndGeneration>>(hw: &HwCtx<'_, T>) {
    drop(hw.complete_generation(1, 2));
    #[cfg(compile_fail)]
    drop(hw.complete_tag(1));
    //~^ error[E0271]: type mismatch resolving `<T as DriverTypes>::CompletionId == TagOnly`
}
