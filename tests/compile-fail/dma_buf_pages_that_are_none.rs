// SPDX-License-Identifier: GPL-2.0

//! Memory that is not whole pages is offered to user space to be mapped.

use phyr::memory::{
    Memory,
    Pages, //
};
use phyr_dma_buf::{
    Cpu,
    Paged,
    Unpaged, //
};

fn offer<M: Memory, C: Cpu<M>>(_: &M) {}

pub fn offered(pages: &Pages) {
    offer::<_, Unpaged>(pages);
    #[cfg(misuse)]
    offer::<_, Paged>(pages);
    //~^ error[E0277]: the trait bound `Pages: PageMemory` is not satisfied
}
