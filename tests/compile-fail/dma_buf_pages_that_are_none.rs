// SPDX-License-Identifier: GPL-2.0

//! Memory that is not whole pages is offered to user space to be mapped.

use phyr::memory::{
    Memory,
    Pages, //
};
use phyr_dma_buf::{
    CpuMapping,
    DeviceOnly,
    MmapVmap, //
};

fn offer<M: Memory, C: CpuMapping<M>>(_: &M) {}

pub fn offered(pages: &Pages) {
    offer::<_, DeviceOnly>(pages);
    #[cfg(compile_fail)]
    offer::<_, MmapVmap>(pages);
    //~^ error[E0277]: the trait bound `Pages: PageMemory` is not satisfied
}
