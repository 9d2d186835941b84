// SPDX-License-Identifier: GPL-2.0

//! Memory that no device may write is put into a batch for one that does.

use kernel::prelude::*;
use phyr::{batch::Capacity, memory::Memory, DataDirection, Mapper, ToDevice};

pub fn receive<M>(mapper: &Mapper<'_>, room: Capacity, table: M) -> Result
where
    M: Memory<Direction = ToDevice>,
{
    #[cfg(not(compile_fail))]
    let dir = ToDevice;
    #[cfg(compile_fail)]
    let dir = DataDirection::Bidirectional;
    let mut batch = mapper.batch::<M>(room, dir, GFP_KERNEL)?;
    //~^ error[E0308]: mismatched types: expected `ToDevice`, found `DataDirection`
    batch.add(table)?;
    Ok(())
}
