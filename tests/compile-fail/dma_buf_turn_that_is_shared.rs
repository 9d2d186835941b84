// SPDX-License-Identifier: GPL-2.0
//! One who shares an access of the CPU to a buffer writes.
//! The buffer goes by its name only: an access keeps a reference, and writes by one owner.

use kernel::prelude::*;
use phyr_dma_buf::CpuAccess;

pub fn shared(cpu: &CpuAccess, bytes: &mut [u8]) -> Result {
    #[cfg(compile_fail)]
    cpu.write(0, bytes)?;
    //~^ error[E0596]: cannot borrow `*cpu` as mutable, as it is behind a `&` reference
    cpu.read(0, bytes)
}
