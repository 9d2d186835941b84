// SPDX-License-Identifier: GPL-2.0

//! A physical address where the device's own is asked for.

use phyr::{
    memory::Chunks,
    DmaAddr,
    PhysAddr, //
};
use phyr_iommu::{
    Access,
    Domain, //
};

pub fn place(domain: &Domain<'_>, memory: Chunks, paddr: PhysAddr) {
    #[cfg(not(compile_fail))]
    let at = DmaAddr::from_raw(0x1000_0000);
    #[cfg(compile_fail)]
    let at = paddr;
    let _ = domain.map_at(memory, at, Access::READ);
    //~^ error[E0308]: mismatched types: expected `DmaAddr`, found `PhysAddr`
}
