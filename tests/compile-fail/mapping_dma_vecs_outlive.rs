// SPDX-License-Identifier: GPL-2.0

//! The iterator over the ranges is used when they are not mapped any more.

use phyr::{mapping::Mapping, memory::Pages, DmaVec};

pub fn outlived(mapping: Mapping<'_, Pages>, tell: impl Fn(DmaVec)) {
    let vecs = mapping.dma_vecs();
    #[cfg(compile_fail)]
    drop(mapping.unmap());
    //~^ error[E0505]: cannot move out of `mapping` because it is borrowed
    vecs.for_each(tell);
}
