// SPDX-License-Identifier: GPL-2.0

//! The device is told of ranges whose mapping has ended.

use phyr::{mapping::Mapping, memory::Pages, DmaVec};

pub fn told(mapping: Mapping<'_, Pages>, tell: impl Fn(DmaVec)) {
    mapping.dma_vecs().for_each(&tell);
    drop(mapping.unmap());
    #[cfg(compile_fail)]
    mapping.dma_vecs().for_each(&tell);
    //~^ error[E0382]: borrow of moved value: `mapping`
}
