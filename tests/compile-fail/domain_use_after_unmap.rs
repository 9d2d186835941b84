// SPDX-License-Identifier: GPL-2.0

//! The IOVA of memory that is not mapped any more.

use phyr::{memory::Chunks, DmaAddr};
use phyr_iommu::Mapping;

pub fn late(mapping: Mapping<'_, Chunks>) -> DmaAddr {
    let iova = mapping.dma_vec().addr();
    drop(mapping.unmap());
    #[cfg(compile_fail)]
    let iova = mapping.dma_vec().addr();
    //~^ error[E0382]: borrow of moved value: `mapping`
    iova
}
