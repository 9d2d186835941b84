// SPDX-License-Identifier: GPL-2.0

//! The access of a mapping in a domain is passed to the DMA API as a direction.

use kernel::prelude::*;
use phyr::{memory::Pages, Access, DataDirection, Mapper};

pub fn mixed(mapper: &Mapper<'_>, pages: Pages) -> Result {
    #[cfg(not(compile_fail))]
    let dir = DataDirection::ToDevice;
    #[cfg(compile_fail)]
    let dir = Access::READ;
    mapper.map(pages, dir, GFP_KERNEL)?;
    //~^ error[E0308]: mismatched types: expected `DataDirection`, found `Access`
    Ok(())
}
