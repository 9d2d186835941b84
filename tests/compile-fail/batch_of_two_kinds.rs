// SPDX-License-Identifier: GPL-2.0

//! Memory of another kind goes into a batch.

use kernel::prelude::*;
use phyr::{
    batch::Batch,
    memory::{Chunks, Pages},
};

pub fn mixed(batch: &mut Batch<'_, '_, Pages>, pages: Pages, chunks: Chunks) -> Result {
    batch.add(pages)?;
    #[cfg(compile_fail)]
    batch.add(chunks)?;
    //~^ error[E0308]: mismatched types: expected `Pages`, found `Chunks`
    Ok(())
}
