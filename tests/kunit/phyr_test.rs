// SPDX-License-Identifier: GPL-2.0

//! KUnit suites on a real device: QEMU's `edu`, whose DMA engine reads and writes through the
//! mappings that the library makes.
//!
//! A mapping is checked in two ways: against the IOMMU's page table, granule by granule (`table`),
//! and by bytes that the engine moves (`edu`). The tests of device memory run where there is a
//! second device, QEMU's `ivshmem-plain` (`peer`). The module is for tests only: it looks where a
//! driver must not.

use kernel::{
    device::Core,
    dma::DmaMask,
    pci,
    prelude::*,
    sizes::SZ_64K, //
};
use phyr::Limits;
use phyr_driver::{
    pci::DmaParameters,
    scope::Scope, //
};

#[macro_use]
mod check;

mod buffers;
mod edu;
mod fixture;
mod foreign;
mod oracle;
mod peer;
mod table;

mod test_batch;
mod test_blk;
mod test_blk_callbacks;
mod test_dma_buf;
mod test_dma_buf_life;
mod test_dma_buf_peer;
mod test_dma_buf_revoke;
#[cfg(phyr_fail_points)]
mod test_fault_injection;
mod test_forget;
mod test_invariants;
mod test_iommu;
mod test_iommu_attach;
mod test_linear;
mod test_linear_large;
mod test_memory;
mod test_numbers;
mod test_refused;
mod test_registered;
mod test_scatter;
mod test_scope;
mod test_unmap;

struct TestDriver;

/// Returns whether tests may make the device fault, which the kernel logs.
fn wants_faults() -> bool {
    module_parameters::faults.value() != 0
}

/// Returns whether the suites map in a domain of the driver's own, rather than with the DMA API.
fn wants_domain() -> bool {
    module_parameters::domain.value() != 0
}

/// Returns whether tests may forget values, which leaks their memory.
fn forgets() -> bool {
    module_parameters::forget.value() != 0
}

/// Returns whether they forget domains, rather than attachments to dma-bufs.
fn forgets_domains() -> bool {
    module_parameters::forget.value() == 2
}

/// Returns whether the machine bounces all memory of the device.
fn is_bounced() -> bool {
    module_parameters::bounced.value() != 0
}

/// Returns whether the IOMMU invalidates no more than 1 GiB at once.
fn flushes_little() -> bool {
    module_parameters::flushes_little.value() != 0
}

/// Returns whether no mapping may end that fills a page table, and reports the case as skipped
/// then.
fn keeps_tables() -> bool {
    let keeps = module_parameters::keeps_tables.value() != 0;
    if keeps {
        fixture::skip(c"QEMU's amd-iommu fails an assertion as an unmap empties a page table");
    }
    keeps
}

/// Returns the device's DMA mask.
///
/// # Errors
///
/// - `EINVAL`: more than 64 bits.
fn dma_mask() -> Result<DmaMask> {
    DmaMask::try_new(module_parameters::mask.value().into())
}

/// Returns whether the machine must have the second device.
fn wants_peer() -> bool {
    module_parameters::peer.value() != 0
}

kernel::pci_device_table!(
    PCI_TABLE,
    <TestDriver as phyr_driver::pci::Driver>::IdInfo,
    [
        (
            pci::DeviceId::from_class(edu::CLASS, edu::CLASS_MASK),
            Role::Engine
        ),
        (
            pci::DeviceId::from_id(peer::VENDOR, peer::DEVICE),
            Role::Memory
        )
    ]
);

/// Role of a device in the tests.
#[derive(Clone, Copy)]
enum Role {
    /// Does DMA.
    Engine,
    /// Has memory that the other one reaches.
    Memory,
}

/// Driver data; withdraws the device from the tests when dropped.
struct Published<'bound> {
    role: Role,
    /// Mappings for somebody who looks at the IOMMU's page table.
    _kept: Option<test_iommu::model::Kept<'bound>>,
}

/// Bits of an address that bounce buffers keep: a page, as the descriptors of most devices need.
const MIN_ALIGN_MASK: u32 = 4095;

impl Drop for Published<'_> {
    fn drop(&mut self) {
        match self.role {
            Role::Engine => fixture::withdraw(),
            Role::Memory => peer::withdraw(),
        }
    }
}

#[vtable]
impl phyr_driver::pci::Driver for TestDriver {
    type IdInfo = Role;
    type Data<'bound> = Published<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn dma(_pdev: &pci::Device, _info: Option<&Self::IdInfo>) -> Result<DmaParameters> {
        // The defaults of a device without limits, but for the alignment.
        let limits = Limits::NONE
            .with_max_segment(SZ_64K as u64)
            .and_then(|limits| limits.with_boundary_mask(u32::MAX.into()))
            .and_then(|limits| limits.with_min_align_mask(MIN_ALIGN_MASK));
        Ok(DmaParameters::new(dma_mask()?).limits(limits.ok_or(EINVAL)?))
    }

    fn probe<'bound>(
        scope: Scope<'bound>,
        pdev: &'bound pci::Device<Core<'_>>,
        info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Published<'bound>, Error> + 'bound {
        let role = *info.ok_or(ENODEV)?;
        let mut kept = None;
        match role {
            Role::Engine => {
                edu::prepare(pdev)?;
                // The reason is in the log.
                test_forget::probe(scope).map_err(|_| EIO)?;
                if let Some(pages) = module_parameters::keep.value().checked_sub(1) {
                    kept = Some(test_iommu::model::keep(pdev.as_ref(), usize::from(pages))?);
                }
                fixture::publish(scope, pdev)?;
            }
            Role::Memory => peer::publish(pdev)?,
        }
        Ok(Published { role, _kept: kept })
    }
}

phyr_driver::module_pci_driver! {
    type: TestDriver,
    name: "phyr_test",
    authors: ["phyr developers"],
    description: "KUnit suites of phyr on a device that does DMA",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
    params: {
        bounced: u8 {
            default: 0,
            description: "The machine bounces all memory of the device, as under swiotlb=force (0)",
        },
        domain: u8 {
            default: 0,
            description: "Map in an IOMMU domain of the driver's own, not with the DMA API (0)",
        },
        faults: u8 {
            default: 0,
            description: "Have the device fault in the IOMMU, where a test says so (0)",
        },
        keep: u8 {
            default: 0,
            description: "Pages left in a domain to stay in, and one more; 255: a large one (0)",
        },
        flushes_little: u8 {
            default: 0,
            description: "The IOMMU invalidates no more than 1 GiB at once, as QEMU's does (0)",
        },
        keeps_tables: u8 {
            default: 0,
            description: "Never unmap all that a page table maps: QEMU's amd-iommu ends then (0)",
        },
        mask: u8 {
            default: 64,
            description: "Bits of the device's DMA mask (64)",
        },
        forget: u8 {
            default: 0,
            description: "Forget what is then never freed: 2 with domains, 1 with dma-bufs (0)",
        },
        peer: u8 {
            default: 0,
            description: "The machine has a second device, whose memory the first one gets at (0)",
        },
    },
}
