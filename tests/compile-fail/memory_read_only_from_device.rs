// SPDX-License-Identifier: GPL-2.0

//! Memory that no device may write is mapped for one that does, in each way to map.

use kernel::prelude::*;
use phyr::{batch::Capacity, memory::Bytes, DataDirection, Mapper, ToDevice};

type Table = Bytes<VVec<u8>, ToDevice>;

pub fn send(mapper: &Mapper<'_>, room: Capacity, tables: [Table; 4]) -> Result {
    let [one, two, three, four] = tables;
    mapper.map(one, ToDevice, GFP_KERNEL)?;
    mapper.linear(two, ToDevice)?;
    mapper.linear_copy(three, ToDevice)?;
    mapper.batch(room, ToDevice, GFP_KERNEL)?.add(four)?;
    Ok(())
}

#[cfg(compile_fail)]
pub fn receive(mapper: &Mapper<'_>, room: Capacity, tables: [Table; 4]) -> Result {
    let dir = DataDirection::FromDevice;
    let [one, two, three, four] = tables;
    mapper.map(one, dir, GFP_KERNEL)?;
    //~^ error[E0308]: mismatched types: expected `ToDevice`, found `DataDirection`
    mapper.linear(two, dir)?;
    //~^ error[E0308]: mismatched types: expected `ToDevice`, found `DataDirection`
    mapper.linear_copy(three, dir)?;
    //~^ error[E0308]: mismatched types: expected `ToDevice`, found `DataDirection`
    mapper.batch::<Table>(room, dir, GFP_KERNEL)?.add(four)?;
    //~^ error[E0308]: mismatched types: expected `ToDevice`, found `DataDirection`
    Ok(())
}
