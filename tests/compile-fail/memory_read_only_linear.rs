// SPDX-License-Identifier: GPL-2.0

//! Memory that no device may write is mapped as one range for one that does.

use kernel::prelude::*;
use phyr::{memory::Memory, DataDirection, Mapper, ToDevice};

pub fn receive<M: Memory<Direction = ToDevice>>(mapper: &Mapper<'_>, table: M) -> Result {
    #[cfg(not(compile_fail))]
    let dir = ToDevice;
    #[cfg(compile_fail)]
    let dir = DataDirection::FromDevice;
    mapper.linear(table, dir)?;
    //~^ error[E0308]: mismatched types: expected `ToDevice`, found `DataDirection`
    Ok(())
}
