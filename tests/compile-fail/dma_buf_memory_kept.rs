// SPDX-License-Identifier: GPL-2.0

//! Memory is written by its old owner when it was given away.

use kernel::prelude::*;
use phyr::memory::Memory;
use phyr_dma_buf::{
    export,
    AccessMode,
    Exported,
    Exporter, //
};

pub fn kept<E: Exporter>(
    mut memory: E::Memory,
    exporter: E,
    access: AccessMode,
) -> Result<Exported<E>> {
    memory.write(0, b"before")?;
    let exported = export(memory, exporter, access)?;
    #[cfg(compile_fail)]
    memory.write(0, b"meanwhile")?;
    //~^ error[E0382]: borrow of moved value: `memory`
    Ok(exported)
}
