// SPDX-License-Identifier: GPL-2.0

//! A mapping is used when it is on its way to its end.

use kernel::prelude::*;
use phyr::memory::Chunks;
use phyr_iommu::{
    Gather,
    Mapping, //
};

pub fn kept<'d>(gather: &mut Gather<'d, Chunks>, mapping: Mapping<'d, Chunks>) -> Result {
    gather.unmap(mapping).map_err(|_| EXDEV)?;
    #[cfg(compile_fail)]
    let _ = mapping.dma_vec().addr();
    //~^ error[E0382]: borrow of moved value: `mapping`
    Ok(())
}
