// SPDX-License-Identifier: GPL-2.0

//! A request that the device reported completes twice.

use phyr_blk::{HwCtx, Operations, Status, TagOnly};

pub fn twice<T: Operations<CompletionId = TagOnly>>(hw: &HwCtx<'_, T>, tag: u16) {
    let Some(io) = hw.complete_tag(tag) else {
        return;
    };
    io.complete(Status::Ok);
    #[cfg(compile_fail)]
    io.complete(Status::Ok);
    //~^ error[E0382]: use of moved value: `io`
}
