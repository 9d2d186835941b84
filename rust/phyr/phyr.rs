// SPDX-License-Identifier: GPL-2.0

//! phyr: safe DMA mapping.
//!
//! A **phyr** is the input of a mapping: a physical address and a length ([`Phyr`]). A **dma_vec**
//! is its output: a DMA address and a length ([`DmaVec`]). The two never mix.
//!
//! ```text
//!  bio_vec / pages / ranges
//!     |  source     iterate; join physically adjacent; never allocate
//!     v
//!   Phyr ---------- plan     limits, granule -> runs: what joins, how many DmaVecs come out
//!     |
//!     |- scatter    direct: dma_map_phys each; IOMMU: one dma_iova range
//!     |- batch      the same engine, fed by hand
//!     `- linear     exactly one DmaVec, or the reason why not
//!     v
//!   DmaVec -------- descriptors (PRP, SGL)
//!     |
//!     v
//!   unmap           exactly what was mapped
//! ```
//!
//! A driver makes a [`Mapper`] at probe and asks it on every I/O. How the device's DMA goes,
//! through an IOMMU or directly, is the mapper's business.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use kernel::prelude::*;

mod coherent;
mod layout;
mod map_error;
#[cfg(CONFIG_KUNIT = "y")]
mod model;
mod not_mapped;
mod ops;
mod strategy;

pub mod batch;
pub mod binding;
pub mod bound;
pub mod dma_buf;
pub mod event;
#[doc(hidden)]
pub mod fail;
pub mod gate;
pub mod iommu;
pub mod irq;
pub mod linear;
pub mod mapper;
pub mod mapping;
pub mod memory;
pub mod part;
pub mod pci;
pub mod plan;
pub mod scatter;
pub mod scope;
pub mod source;
pub mod state;
pub mod trace;
pub mod types;

#[doc(hidden)]
pub mod raw;

/// What the kernel's own bindings do not carry, for the libraries of this project.
#[doc(hidden)]
// Generated: which of these lints it trips depends on the kernel's configuration.
#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    non_snake_case,
    improper_ctypes,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_imports
)]
pub mod bindings {
    include!(concat!(env!("PHYR_GENERATED"), "/bindings_generated.rs"));
}

pub use self::{
    mapper::Mapper,
    not_mapped::NotMapped,
    plan::Limits,
    state::{
        DmaVecs,
        Slot,
        State, //
    },
    types::{
        BadPhyr,
        DmaAddr,
        DmaVec,
        Granule,
        Phyr, //
        PhysAddr,
    }, //
};
pub use kernel::dma::DataDirection;

module! {
    type: PhyrModule,
    name: "phyr",
    authors: ["phyr developers"],
    description: "Safe DMA mapping: phyr in, dma_vec out",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
}

struct PhyrModule {
    _iommu: iommu::Exit,
    #[cfg(phyr_fail_points)]
    _knobs: fail::Knobs,
}

impl kernel::Module for PhyrModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: once, and nobody uses the crate before its module is loaded.
        unsafe { pci::init() };
        Ok(Self {
            // SAFETY: once, and nobody uses the crate before its module is loaded.
            _iommu: unsafe { iommu::init() }?,
            #[cfg(phyr_fail_points)]
            _knobs: fail::knobs()?,
        })
    }
}
