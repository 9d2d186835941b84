// SPDX-License-Identifier: GPL-2.0

//! A batch is added to when it has become a mapping.

use kernel::prelude::*;
use phyr::{batch::Batch, memory::Pages};

pub fn after(mut batch: Batch<'_, '_, Pages>, piece: Pages, late: Pages) -> Result {
    batch.add(piece)?;
    let mapping = batch.finalise()?;
    #[cfg(compile_fail)]
    batch.add(late)?;
    //~^ error[E0382]: borrow of moved value: `batch`
    drop(mapping);
    Ok(())
}
