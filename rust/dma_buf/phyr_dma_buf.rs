// SPDX-License-Identifier: GPL-2.0

//! dma-buf: memory that drivers share, each mapping it for its own device.
//!
//! ```text
//!  exporter                                  importer
//!  Memory, Exporter --export()--> Exported
//!                                    |
//!                                 DmaBuf -- fd --> DmaBuf::get()
//!                                    |                |
//!                  map, sg_table <---+---- Attachment::dynamic() / fixed()
//!                                    |                |  map()
//!                                    |             DmaVec ... dma_vecs(), linear()
//!                  revoke() ---------+--> Invalidate, unmap
//! ```
//!
//! An **exporter** gives its [`Memory`](phyr::memory::Memory) away with [`export()`]: from then on
//! the buffer owns it, maps it for whoever attaches, and drops it with the last reference. An
//! **importer** attaches its device with [`Attachment`] and gets [`DmaVec`](phyr::DmaVec)s. Both
//! work with exporters and importers written in C.
//!
//! What guards a buffer's mappings is its reservation lock (`dma_resv`), on both sides; the types
//! of [`resv`](self) take it where C's convention says so.
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h)

use kernel::prelude::*;

#[doc(hidden)]
pub mod bindings;
mod buffer;
mod cpu;
mod dma_buf;
mod exporter;
mod importer;
mod mapped;
mod ops;
mod peer;
mod ranges;
mod resv;
mod route;
mod table;

pub use self::{
    cpu::{
        Cpu,
        CpuAccess,
        Paged,
        Unpaged, //
    },
    dma_buf::DmaBuf,
    exporter::{
        export,
        Access,
        Exported,
        Exporter,
        Importing, //
    },
    importer::{
        Attachment,
        Invalidate,
        Static, //
    },
    peer::{
        BarMemory,
        BarPieces,
        Peer,
        PeerToPeer, //
    },
    ranges::NotLinear, //
};

module! {
    type: PhyrDmaBufModule,
    name: "phyr_dma_buf",
    authors: ["phyr developers"],
    description: "dma-bufs for Rust drivers",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
}

struct PhyrDmaBufModule;

impl kernel::Module for PhyrDmaBufModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
