// SPDX-License-Identifier: GPL-2.0

//! Memory that is not whole pages is mapped in pages, with what else is in them.

use kernel::prelude::*;
use phyr::{
    memory::{Chunks, Pages},
    CpuAccess, //
};

pub fn parts(whole: &mut CpuAccess<'_, Chunks>, part: &mut CpuAccess<'_, Pages>) -> Result {
    whole.vmap()?;
    #[cfg(compile_fail)]
    part.vmap()?;
    //~^ error[E0277]: the trait bound `Pages: PageMemory` is not satisfied
    Ok(())
}
