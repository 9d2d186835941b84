// SPDX-License-Identifier: GPL-2.0

//! A driver opens what is sealed, to have a way of its own to map memory for the CPU.

use phyr::memory::Chunks;
use phyr_dma_buf::{
    CpuMapping,
    MmapVmap, //
};

pub struct Mine;

#[cfg(compile_fail)]
impl phyr_dma_buf::exporter::private::Sealed for Mine {}
//~^ error[E0603]: module `exporter` is private

fn ours<C: CpuMapping<Chunks>>() {}

pub fn paged() {
    ours::<MmapVmap>();
}
