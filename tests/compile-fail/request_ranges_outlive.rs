// SPDX-License-Identifier: GPL-2.0

//! The ranges of a request are used when it is not mapped any more.

use phyr::DmaVec;
use phyr_blk::{Mapped, Operations, Status};

pub fn outlived<T: Operations>(io: Mapped<'_, '_, T>, tell: impl Fn(DmaVec)) {
    let vecs = io.dma_vecs();
    #[cfg(compile_fail)]
    io.complete(Status::Ok);
    //~^ error[E0505]: cannot move out of `io` because it is borrowed
    vecs.for_each(tell);
}
