// SPDX-License-Identifier: GPL-2.0

//! A request ends that was put in a batch, whose flush is not done.

use phyr_blk::{HwCtx, Operations, Status, TagOnly};

pub fn completed<T: Operations<CompletionId = TagOnly>>(hw: &HwCtx<'_, T>) {
    hw.batch(|batch| {
        let Some(io) = hw.complete_tag(0) else {
            return;
        };
        io.complete_in(batch, Status::Ok);
        #[cfg(compile_fail)]
        io.unmap().end(Status::Ok);
        //~^ error[E0382]: use of moved value: `io`
    });
}
