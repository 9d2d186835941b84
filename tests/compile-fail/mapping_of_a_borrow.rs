// SPDX-License-Identifier: GPL-2.0

//! Memory is mapped that is only lent, and comes back to its owner while it is mapped.

use kernel::prelude::*;
use phyr::{memory::Pages, DataDirection, Mapper};

pub fn lent(mapper: &Mapper<'_>, mut pages: Pages) -> Result {
    #[cfg(compile_fail)]
    mapper.map(&mut pages, DataDirection::FromDevice, GFP_KERNEL)?;
    //~^ error[E0277]: the trait bound `&mut Pages: Memory` is not satisfied
    mapper.map(pages, DataDirection::FromDevice, GFP_KERNEL)?;
    Ok(())
}
