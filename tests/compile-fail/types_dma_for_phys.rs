// SPDX-License-Identifier: GPL-2.0

//! The device's address is taken for a physical one, to be mapped again.

use phyr::{BadPhyr, DmaVec, Phyr, PhysAddr};

pub fn again(vec: DmaVec, paddr: PhysAddr) -> Result<Phyr, BadPhyr> {
    #[cfg(compile_fail)]
    let paddr = vec.addr();
    Phyr::new(paddr, vec.len())
    //~^ error[E0308]: mismatched types: expected `PhysAddr`, found `DmaAddr`
}
