// SPDX-License-Identifier: GPL-2.0

//! Access by the CPU to memory that is mapped: a guard that synchronises on entry and exit.

use crate::memory::{
    Memory,
    PageMemory,
    Vmap, //
};
use kernel::prelude::*;

/// A mapping that the CPU and the device use in turns.
pub(crate) trait InTurns: Sync {
    /// Lets the CPU see what the device wrote.
    fn sync_for_cpu(&self);

    /// Lets the device see what the CPU wrote.
    fn sync_for_device(&self);
}

/// The CPU's turn with the memory of a mapping; see [`Mapping::cpu`](crate::mapping::Mapping::cpu)
/// and [`Linear::cpu`](crate::linear::Linear::cpu).
pub struct CpuAccess<'a, M: Memory> {
    mapped: &'a dyn InTurns,
    memory: &'a mut M,
}

impl<'a, M: Memory> CpuAccess<'a, M> {
    /// Gives the CPU its turn with `memory`, of which `mapped` is the mapping.
    pub(crate) fn new(mapped: &'a dyn InTurns, memory: &'a mut M) -> Self {
        mapped.sync_for_cpu();
        Self { mapped, memory }
    }

    /// Copies from the memory at `offset` to `to`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the memory ends before.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.memory.read(offset, to)
    }

    /// Copies `from` to the memory at `offset`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the memory ends before.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.memory.write(offset, from)
    }

    /// Maps the memory as one range of the kernel's address space; for what takes more than a few
    /// accesses.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory, or no room in the address space.
    pub fn vmap(&mut self) -> Result<Vmap<'_>>
    where
        M: PageMemory,
    {
        Vmap::new(self.memory)
    }
}

impl<M: Memory> Drop for CpuAccess<'_, M> {
    fn drop(&mut self) {
        self.mapped.sync_for_device();
    }
}
