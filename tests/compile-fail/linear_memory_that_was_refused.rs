// SPDX-License-Identifier: GPL-2.0

//! Memory that could not be linear is used as if it had not been given away.

use kernel::prelude::*;
use phyr::{
    memory::{Memory, Pages},
    DataDirection, Mapper,
};

pub fn refused(mapper: &Mapper<'_>, mut pages: Pages) -> Result {
    let Err(mut refused) = mapper.linear(pages, DataDirection::ToDevice) else {
        return Ok(());
    };
    #[cfg(compile_fail)]
    pages.write(0, b"mine?")?;
    //~^ error[E0382]: borrow of moved value: `pages`
    refused.value.write(0, b"mine")
}
