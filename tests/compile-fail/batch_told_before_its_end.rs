// SPDX-License-Identifier: GPL-2.0

//! The device is told of ranges of a batch that is still open.

use kernel::prelude::*;
use phyr::{batch::Batch, memory::Pages, DmaVec};

pub fn early(batch: Batch<'_, '_, Pages>, tell: impl Fn(DmaVec)) -> Result {
    #[cfg(compile_fail)]
    batch.dma_vecs().for_each(&tell);
    //~^ error[E0599]: no method named `dma_vecs` found for
    batch.finalise()?.dma_vecs().for_each(&tell);
    Ok(())
}
