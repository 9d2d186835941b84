// SPDX-License-Identifier: GPL-2.0

//! A mapping is returned without the mapper that made it.

use kernel::prelude::*;
use phyr::{mapping::Mapping, memory::Pages, DataDirection, Mapper};

pub fn returned<'m>(
    mapper: &'m Mapper<'m>,
    own: Mapper<'m>,
    pages: Pages,
) -> Result<Mapping<'m, Pages>> {
    #[cfg(misuse)]
    return Ok(own.map(pages, DataDirection::ToDevice, GFP_KERNEL)?);
    //~^ error[E0515]: cannot return value referencing function parameter `own`
    #[cfg(not(misuse))]
    Ok(mapper.map(pages, DataDirection::ToDevice, GFP_KERNEL)?)
}
