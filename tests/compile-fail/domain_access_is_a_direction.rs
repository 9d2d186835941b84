// SPDX-License-Identifier: GPL-2.0

//! A direction of the DMA API is told to a domain, where it says nothing of writing.

use kernel::prelude::*;
use phyr::{
    memory::Chunks,
    DataDirection, //
};
use phyr_iommu::{
    Access,
    Domain, //
};

pub fn mixed(domain: &Domain<'_>, memory: Chunks) -> Result {
    #[cfg(not(compile_fail))]
    let access = Access::WRITE;
    #[cfg(compile_fail)]
    let access = DataDirection::FromDevice;
    domain.map(memory, access)?;
    //~^ error[E0308]: mismatched types: expected `Access`, found `DataDirection`
    Ok(())
}
