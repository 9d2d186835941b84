// SPDX-License-Identifier: GPL-2.0

//! A DMA address is turned back into a physical one.

use phyr::{DmaVec, PhysAddr};

pub fn back(vec: DmaVec) -> u64 {
    #[cfg(compile_fail)]
    let _ = PhysAddr::from(vec.addr());
    //~^ error[E0308]: mismatched types: expected `PhysAddr`, found `DmaAddr`
    vec.addr().into_raw()
}
