// SPDX-License-Identifier: GPL-2.0

//! The memory is written through two ways at the same time.

use kernel::prelude::*;
use phyr::{memory::Chunks, CpuAccess};

pub fn beside(cpu: &mut CpuAccess<'_, Chunks>) -> Result {
    let mut vmap = cpu.vmap()?;
    #[cfg(compile_fail)]
    cpu.write(0, b"one")?;
    //~^ error[E0499]: cannot borrow `*cpu` as mutable more than once at a time
    vmap.write(0, b"other")
}
