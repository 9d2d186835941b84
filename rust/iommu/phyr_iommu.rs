// SPDX-License-Identifier: GPL-2.0

//! IOMMU domains of a driver's own: memory at the IOVAs that the driver chooses.
//!
//! The DMA API chooses the IOVA of a mapping. A driver whose device has an address space of its own
//! to manage (a GPU, an accelerator, DMA on behalf of user space) attaches it to a [`Domain`]:
//!
//! ```text
//!   Domain::attach(dev)            the device reaches this domain and nothing else
//!     |
//!     |- map(memory, access)       at an IOVA that the domain chooses
//!     |- map_at(memory, iova, ..)  at one that the driver chooses
//!     v
//!   Mapping                        owns its memory; unmap() gives it back, exactly
//!     |
//!     v
//!   Gather                         many of them ended with one flush of the IOTLB
//! ```
//!
//! The files, in the order in which a domain is attached, mapped in, and ended; each uses those
//! above it only:
//!
//! ```text
//!   error            AttachError, DomainError
//!   fault            reports of faults, to the driver's handler
//!   paging           PagingDomain: the page table, freed when no report is under way
//!   reserved         regions that the platform has reserved
//!   iova_tree        IovaTree: which IOVAs are allocated
//!   platform, msi    what the device needs all the time: direct regions, interrupts
//!   attach           AttachedDomain: the device in the domain, until it is dropped
//!   map_sg           many pieces mapped with one flush
//!   range            DomainRange: IOVAs and what is mapped there, until it is dropped
//!   mapping, gather  Mapping: memory in such a range. Gather: many ended at once
//!   iova_allocator   IovaAllocator: IOVAs in any context
//!   region           IovaRegion: a mapper's IOVAs in the domain
//!   domain           Domain: the handle
//! ```
//!
//! While a domain is attached, what the DMA API has mapped for the device is out of its reach, and
//! is so until the device is back; a [`Mapper`](phyr::Mapper) by the DMA API makes no more such
//! mappings (`EBUSY`), nor does an attachment to a dma-buf. When
//! the domain and all that is mapped in it are dropped, or at the latest when the driver is
//! unbound, the device is back in the domain of the DMA API.
//!
//! In such a domain, too, the device reaches the regions that the platform wants it to reach all
//! the time, one to one (`direct` in `/sys/kernel/iommu_groups/*/reserved_regions`), and the pages
//! that its interrupts go to.
//!
//! Code that is written for a [`Mapper`](phyr::Mapper), for scattered or linear memory, works in
//! such a domain as well: [`Domain::mapper`].
//!
//! A device whose driver is bound belongs to that driver as far as the IOMMU is concerned: the
//! driver core has claimed its group for drivers of the kernel, so that neither VFIO nor a second
//! owned domain can take it (`iommu_device_use_default_domain()`).
//!
//! C header: [`include/linux/iommu.h`](srctree/include/linux/iommu.h)

use kernel::prelude::*;

mod attach;
mod bindings;
mod domain;
mod error;
mod fault;
mod gather;
mod iova_allocator;
mod iova_tree;
mod map_sg;
mod mapping;
mod msi;
mod paging;
mod platform;
mod range;
mod region;
mod reserved;

#[doc(hidden)]
pub use self::reserved::ReservedRegion;
pub use self::{
    domain::Domain,
    error::{
        AttachError,
        DomainError, //
    },
    fault::{
        Fault,
        FaultHandler, //
    },
    gather::{
        Gather,
        UnmapError, //
    },
    mapping::Mapping, //
};
pub use phyr::Access;

module! {
    type: PhyrIommuModule,
    name: "phyr_iommu",
    authors: ["phyr developers"],
    description: "IOMMU domains of a driver's own",
    license: "GPL",
}

struct PhyrIommuModule {
    _free_queue: paging::FreeQueueGuard,
}

impl kernel::Module for PhyrIommuModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            // SAFETY: this is called once, and nobody uses the crate before.
            _free_queue: unsafe { paging::init() }?,
        })
    }
}
