// SPDX-License-Identifier: GPL-2.0

//! A batch becomes two mappings of the same memory.

use kernel::prelude::*;
use phyr::{batch::Batch, memory::Pages};

pub fn twice(batch: Batch<'_, '_, Pages>) -> Result {
    batch.finalise()?;
    #[cfg(compile_fail)]
    batch.finalise()?;
    //~^ error[E0382]: use of moved value: `batch`
    Ok(())
}
