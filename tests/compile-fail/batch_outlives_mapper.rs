// SPDX-License-Identifier: GPL-2.0

//! A batch is open when its mapper is gone.

use kernel::prelude::*;
use phyr::{batch::Capacity, memory::Pages, DataDirection, Mapper};

pub fn outlived(mapper: Mapper<'_>, room: Capacity, piece: Pages) -> Result {
    let mut batch = mapper.batch(room, DataDirection::ToDevice, GFP_KERNEL)?;
    #[cfg(compile_fail)]
    drop(mapper);
    //~^ error[E0505]: cannot move out of `mapper` because it is borrowed
    batch.add(piece)?;
    Ok(())
}
