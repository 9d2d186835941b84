// SPDX-License-Identifier: GPL-2.0

//! The device is told of ranges while the CPU has its turn.

use kernel::prelude::*;
use phyr::{mapping::Mapping, memory::Pages, DmaVec};

pub fn both(mapping: &mut Mapping<'_, Pages>, tell: impl Fn(DmaVec)) -> Result {
    let mut cpu = mapping.cpu();
    #[cfg(compile_fail)]
    mapping.dma_vecs().for_each(tell);
    //~^ error[E0502]: cannot borrow `*mapping` as immutable because it is also borrowed as mutable
    cpu.write(0, b"meanwhile")
}
