// SPDX-License-Identifier: GPL-2.0

//! dma-buf: memory that drivers share, each mapping it for its own device.
//!
//! ```text
//!  exporter                                  importer
//!  Memory, Exporter --export()--> Exported
//!                                    |
//!                                 DmaBuf -- fd --> DmaBuf::get()
//!                                    |                |
//!                  map, sg_table <---+---- Attachment::dynamic() / static_importer()
//!                                    |                |  map()
//!                                    |             DmaVec ... dma_vecs(), linear()
//!                  revoke() ---------+--> Invalidate, unmap
//! ```
//!
//! An **exporter** gives its [`Memory`](phyr::memory::Memory) away with [`export()`]: from then on
//! the buffer owns it, maps it for each importer, and drops it with the last reference. An
//! **importer** attaches its device with [`Attachment`] and gets [`DmaVec`](phyr::DmaVec)s. Both
//! work with exporters and importers written in C.
//!
//! The reservation lock (`dma_resv`) of a buffer guards its mappings, on both sides; the library
//! takes it where C's convention says so.
//!
//! # Files
//!
//! Each imports only from those before it.
//!
//! ```text
//!  bindings      C helpers
//!  dma_buf       DmaBuf: a reference to a buffer
//!  resv          the reservation lock, what it guards, and fences
//!  cpu           CpuAccess: the kernel reads and writes a buffer
//!  ranges        DMA ranges: cut, counted, joined
//!  attached      Invalidate, and the C side of an attachment
//!  importer      Attachment: attach, map, and the ranges that the device sees
//!  ------------- an attachment arrives at an exporter of this crate:
//!  route         Route: by bus address, or through the host bridge
//!  exporter      Exporter: callbacks, memory, access mode; AttachmentRef
//!  bar           BarMemory: ranges of a BAR, and the importer's route to them
//!  mmap          mapping pages into user space
//!  mapped        DeviceMapping: the memory, mapped for the importer's device
//!  table         Table: its sg_table
//!  backing       an exporter and its memory, of any type
//!  buffer        Buffer: who has attached, pinned and mapped; revocation
//!  ops           struct dma_buf_ops: what C calls
//!  export        export(), Exported
//!  peer          PeerToPeer: exports BARs
//! ```
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h)

use kernel::prelude::*;

mod attached;
mod backing;
mod bar;
#[doc(hidden)]
pub mod bindings;
mod buffer;
mod cpu;
mod dma_buf;
mod export;
mod exporter;
mod importer;
mod mapped;
mod mmap;
mod ops;
mod peer;
mod ranges;
mod resv;
mod route;
mod table;

pub use self::{
    attached::Invalidate,
    bar::BarMemory,
    cpu::CpuAccess,
    dma_buf::DmaBuf,
    export::{
        export,
        Exported, //
    },
    exporter::{
        AccessMode,
        AttachmentRef,
        CpuMapping,
        DeviceOnly,
        Exporter,
        MmapVmap, //
    },
    importer::{
        Attachment,
        Static, //
    },
    peer::PeerToPeer, //
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
