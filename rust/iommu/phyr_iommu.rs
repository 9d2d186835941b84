// SPDX-License-Identifier: GPL-2.0

//! An IOMMU domain that a driver owns: memory where the driver says.
//!
//! The DMA API chooses the IOVA of a mapping. A driver whose device has an address space of its own
//! to manage (a GPU, an accelerator, DMA on behalf of user space) makes a [`Domain`] instead:
//!
//! ```text
//!   Domain::attach(dev)            the device sees this domain and nothing else
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
//! Code that is written for a [`Mapper`](phyr::Mapper), for scattered or linear memory, does as
//! well in such a domain: [`Domain::mapper`].
//!
//! A device whose driver is bound belongs to that driver as far as the IOMMU is concerned: the
//! driver core has claimed its group for drivers of the kernel, so that neither VFIO nor a second
//! owned domain can take it (`iommu_device_use_default_domain()`).
//!
//! C header: [`include/linux/iommu.h`](srctree/include/linux/iommu.h)

use kernel::prelude::*;

mod attach;
mod bindings;
mod direct;
mod domain;
mod fault;
mod gather;
mod life;
mod list;
mod mapping;
mod msi;
pub mod pages;
mod space;
mod window;

#[cfg(CONFIG_KUNIT = "y")]
#[doc(hidden)]
pub use self::direct::Region;
pub use self::{
    attach::{
        translation,
        NotAttached,
        Translation, //
    },
    domain::{
        Access,
        Domain, //
    },
    fault::{
        Fault,
        FaultHandler, //
    },
    gather::{
        Gather,
        NotUnmapped, //
    },
    mapping::{
        Mapping,
        Reason, //
    }, //
};

module! {
    type: PhyrIommuModule,
    name: "phyr_iommu",
    authors: ["phyr developers"],
    description: "IOMMU domains of a driver's own",
    license: "GPL",
}

struct PhyrIommuModule {
    _faults: life::Exit,
}

impl kernel::Module for PhyrIommuModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            // SAFETY: once, and nobody uses the crate before its module is loaded.
            _faults: unsafe { life::init() }?,
        })
    }
}
