// SPDX-License-Identifier: GPL-2.0

//! Memory is freed while it is mapped in a domain.

use kernel::prelude::*;
use phyr::memory::Chunks;
use phyr_iommu::{
    Access,
    Domain, //
};

pub fn freed(domain: &Domain<'_>, memory: Chunks) -> Result {
    let mapping = domain.map(memory, Access::READ_WRITE)?;
    #[cfg(compile_fail)]
    drop(memory);
    //~^ error[E0382]: use of moved value: `memory`
    drop(mapping);
    Ok(())
}
