// SPDX-License-Identifier: GPL-2.0

//! phyr: safe DMA mapping; the core, on which the other libraries build.
//!
//! A **phyr** is the input of a mapping: a physical address and a length ([`Phyr`]). A **dma_vec**
//! is its output: a DMA address and a length ([`DmaVec`]). The two never mix.
//!
//! A driver makes a [`Mapper`] at probe and asks it on every I/O. How the device's DMA goes,
//! through an IOMMU or directly, is the mapper's business. The files, in the order in which memory
//! passes them:
//!
//! - [`memory`], [`source`]: memory that a mapping owns, and iterators of [`Phyr`]s; `pinned`: the
//!   promise that it stays in place.
//! - `mapper`: facts of the device (`device`, `limits`, `ownership`), and the entry point of all
//!   that follows.
//! - `map`: scatter and batch. A folder with a list of its own.
//! - [`linear`]: exactly one [`DmaVec`], or the reason why not.
//! - [`space`]: the address space in which it is mapped, the DMA API's or another.
//! - `types`, `attrs`, `access`: what the others hand on; `dma_vec`, `dma_table`: parts of
//!   what is mapped, and all of it for C.
//! - [`trace`], `fail`, `raw`, `bindings`, `model`: tracepoints, fault injection, what the kernel's
//!   own crate keeps to itself, random lists for tests.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use kernel::prelude::*;

mod access;
mod attrs;
#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod device;
mod dma_table;
mod dma_vec;
#[doc(hidden)]
pub mod fail;
#[doc(hidden)]
pub mod iotlb;
mod limits;
pub mod linear;
mod map;
mod mapper;
pub mod memory;
#[cfg(CONFIG_KUNIT = "y")]
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod ownership;
mod pinned;
#[doc(hidden)]
pub mod raw;
pub mod source;
pub mod space;
pub mod trace;
mod types;

#[doc(hidden)]
pub use self::map::plan::Planner;
pub use self::{
    access::{
        Access,
        Direction,
        ToDevice, //
    },
    attrs::{
        MapAttrs,
        MemoryKind, //
    },
    dma_table::DmaTable,
    dma_vec::part,
    limits::Limits,
    map::{
        batch,
        mapping::{
            self,
            unmap_all,
            CpuAccess, //
        },
        state::{
            DmaVecs,
            Hold,
            Slot,
            State, //
        },
        unmap_batch::{
            Flushed,
            IotlbGather,
            Unmapping, //
        },
        unsynced::Unsynced, //
    },
    mapper::Mapper,
    memory::MapError,
    pinned::{
        Pinned,
        PinnedPhyr, //
    },
    types::{
        BadPhyr,
        DmaAddr,
        DmaVec,
        Granule,
        Phyr,
        PhysAddr, //
    }, //
};
pub use kernel::dma::DataDirection;

module! {
    type: PhyrModule,
    name: "phyr",
    authors: ["phyr developers"],
    description: "Safe DMA mapping: phyr in, dma_vec out",
    license: "GPL",
}

struct PhyrModule {
    #[cfg(phyr_fail_points)]
    _knobs: fail::Knobs,
}

impl kernel::Module for PhyrModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: once, and nobody uses the crate before its module is loaded.
        unsafe { ownership::init() };
        Ok(Self {
            #[cfg(phyr_fail_points)]
            _knobs: fail::knobs()?,
        })
    }
}
