// SPDX-License-Identifier: GPL-2.0

//! The CPU writes to memory that is the device's.

use kernel::prelude::*;
use phyr::{
    memory::{Memory, Pages},
    DataDirection, Mapper,
};

pub fn meanwhile(mapper: &Mapper<'_>, mut pages: Pages) -> Result {
    pages.write(0, b"before")?;
    let mapping = mapper.map(pages, DataDirection::ToDevice, GFP_KERNEL)?;
    #[cfg(compile_fail)]
    pages.write(0, b"meanwhile")?;
    //~^ error[E0382]: borrow of moved value: `pages`
    drop(mapping);
    Ok(())
}
