// SPDX-License-Identifier: GPL-2.0

//! Memory that somebody else has, and may free, is mapped.

use kernel::prelude::*;
use phyr::{memory::Pages, DataDirection, Mapper};

pub fn borrowed(mapper: &Mapper<'_>, pages: Pages, bytes: &mut [u8]) -> Result {
    let dir = DataDirection::ToDevice;
    mapper.map(pages, dir, GFP_KERNEL)?;
    #[cfg(compile_fail)]
    mapper.map(bytes, dir, GFP_KERNEL)?;
    //~^ error[E0277]: the trait bound `&mut [u8]: Memory` is not satisfied
    Ok(())
}
