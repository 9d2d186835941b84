// SPDX-License-Identifier: GPL-2.0

//! A mapping is used when its mapper is gone, which its end needs.

use kernel::prelude::*;
use phyr::{memory::Pages, DataDirection, Mapper};

pub fn outlived(mapper: Mapper<'_>, pages: Pages) -> Result {
    let mapping = mapper.map(pages, DataDirection::ToDevice, GFP_KERNEL)?;
    #[cfg(misuse)]
    drop(mapper);
    //~^ error[E0505]: cannot move out of `mapper` because it is borrowed
    drop(mapping);
    Ok(())
}
