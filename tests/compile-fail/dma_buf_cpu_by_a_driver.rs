// SPDX-License-Identifier: GPL-2.0

//! A driver opens what is sealed, to have a way of its own to map memory for the CPU.

use phyr::memory::Chunks;
use phyr_dma_buf::{
    Cpu,
    Paged, //
};

pub struct Mine;

#[cfg(misuse)]
impl phyr_dma_buf::cpu::private::Sealed for Mine {}
//~^ error[E0603]: module `cpu` is private

fn ours<C: Cpu<Chunks>>() {}

pub fn paged() {
    ours::<Paged>();
}
