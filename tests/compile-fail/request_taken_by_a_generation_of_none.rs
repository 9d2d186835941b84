// SPDX-License-Identifier: GPL-2.0

//! A request is taken by a generation that the device has no room for.

use phyr_blk::{HwCtx, Operations, TagOnly};

pub fn completed<T: Operations<CompletionId = TagOnly>>(hw: &HwCtx<'_, T>) {
    drop(hw.complete_tag(1));
    #[cfg(compile_fail)]
    drop(hw.complete_generation(1, 2));
    //~^ error[E0271]: type mismatch resolving `<T as DriverTypes>::CompletionId ==
    //TagAndGeneration`
}
