// SPDX-License-Identifier: GPL-2.0

//! The mapping ends while the CPU has its turn.

use kernel::prelude::*;
use phyr::{mapping::Mapping, memory::Pages};

pub fn ended(mut mapping: Mapping<'_, Pages>, to: &mut [u8]) -> Result {
    let cpu = mapping.cpu();
    #[cfg(compile_fail)]
    drop(mapping.unmap());
    //~^ error[E0505]: cannot move out of `mapping` because it is borrowed
    cpu.read(0, to)
}
