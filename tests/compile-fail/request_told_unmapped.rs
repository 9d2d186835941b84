// SPDX-License-Identifier: GPL-2.0

//! The device is told of ranges of a request that is not mapped.

use phyr::DmaVec;
use phyr_blk::{Mapped, Operations, Request};

pub fn told<T: Operations>(rq: Request<'_, '_, T>, io: &Mapped<'_, '_, T>, tell: impl Fn(DmaVec)) {
    io.dma_vecs().for_each(&tell);
    #[cfg(compile_fail)]
    rq.dma_vecs().for_each(&tell);
    //~^ error[E0599]: no method named `dma_vecs` found for
}
