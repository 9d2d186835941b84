// SPDX-License-Identifier: GPL-2.0

//! Two write through one turn of the CPU.

use kernel::prelude::*;
use phyr::{memory::Pages, CpuAccess};

pub fn shared(cpu: &CpuAccess<'_, Pages>, to: &mut [u8]) -> Result {
    #[cfg(compile_fail)]
    cpu.write(0, to)?;
    //~^ error[E0596]: cannot borrow `*cpu` as mutable, as it is behind a `&` reference
    cpu.read(0, to)
}
