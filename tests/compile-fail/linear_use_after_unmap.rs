// SPDX-License-Identifier: GPL-2.0

//! The one range is used when it is not mapped any more.

use phyr::{linear::Linear, memory::Pages, DmaVec};

pub fn late(linear: Linear<'_, Pages>) -> DmaVec {
    let vec = linear.dma_vec();
    drop(linear.unmap());
    #[cfg(compile_fail)]
    let vec = linear.dma_vec();
    //~^ error[E0382]: borrow of moved value: `linear`
    vec
}
