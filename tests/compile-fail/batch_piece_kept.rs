// SPDX-License-Identifier: GPL-2.0

//! A piece is written to when it is the batch's.

use kernel::prelude::*;
use phyr::{
    batch::Batch,
    memory::{Memory, Pages},
};

pub fn kept(batch: &mut Batch<'_, '_, Pages>, mut piece: Pages) -> Result {
    piece.write(0, b"before")?;
    batch.add(piece)?;
    #[cfg(compile_fail)]
    piece.write(0, b"meanwhile")?;
    //~^ error[E0382]: borrow of moved value: `piece`
    Ok(())
}
