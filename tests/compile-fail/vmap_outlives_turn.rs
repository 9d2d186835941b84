// SPDX-License-Identifier: GPL-2.0

//! The memory is handed back to the device while the CPU has it in one range of its addresses.

use kernel::prelude::*;
use phyr::{mapping::Mapping, memory::Chunks};

pub fn outlived(mapping: &mut Mapping<'_, Chunks>) -> Result {
    let mut cpu = mapping.cpu();
    let mut vmap = cpu.vmap()?;
    #[cfg(compile_fail)]
    drop(cpu);
    //~^ error[E0505]: cannot move out of `cpu` because it is borrowed
    vmap.write(0, b"too late")
}
