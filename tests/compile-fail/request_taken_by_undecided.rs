// SPDX-License-Identifier: GPL-2.0

//! A request is taken by its tag for a device of which nobody has said whether that is enough.

use phyr_blk::{HwCtx, Operations, TagOnly};

pub fn decided<T: Operations<CompletionId = TagOnly>>(hw: &HwCtx<'_, T>) {
    drop(hw.complete_tag(1));
}

pub fn undecided<T: Operations>(hw: &HwCtx<'_, T>) {
    hw.drain(|io| drop(io));
    #[cfg(compile_fail)]
    drop(hw.complete_tag(1));
    //~^ error[E0271]: type mismatch resolving `<T as DriverTypes>::CompletionId == TagOnly`
}
