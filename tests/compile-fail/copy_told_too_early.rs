// SPDX-License-Identifier: GPL-2.0

//! The device is told of a copy that it was not handed.

use kernel::prelude::*;
use phyr::{linear::LinearCopy, memory::Pages, DmaVec};

pub fn told(copy: &mut LinearCopy<'_, Pages>, tell: impl Fn(DmaVec)) -> Result {
    #[cfg(compile_fail)]
    tell(copy.dma_vec());
    //~^ error[E0599]: no method named `dma_vec` found for
    tell(copy.hand_over()?.dma_vec());
    Ok(())
}
