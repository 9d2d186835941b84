// SPDX-License-Identifier: GPL-2.0

//! A linear mapping ends while the CPU has its turn.

use kernel::prelude::*;
use phyr::{linear::Linear, memory::Pages};

pub fn ended(mut linear: Linear<'_, Pages>, to: &mut [u8]) -> Result {
    let cpu = linear.cpu()?;
    #[cfg(compile_fail)]
    drop(linear.unmap());
    //~^ error[E0505]: cannot move out of `linear` because it is borrowed
    cpu.read(0, to)
}
