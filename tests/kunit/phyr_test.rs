// SPDX-License-Identifier: GPL-2.0

//! KUnit suites on a real device: QEMU's `edu`, whose DMA engine reads and writes through the
//! mappings that the library makes.
//!
//! What the library says of a mapping is checked in two ways: the IOMMU's page table is asked for
//! every granule of every range (`table`), and the engine moves bytes (`edu`). A module for
//! tests only; it looks where a driver must not. The tests of memory of a device run where there is
//! a second one, QEMU's `ivshmem-plain` (`peer`).

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
mod peer;
mod table;

mod test_batch;
mod test_blk;
mod test_blk_callbacks;
mod test_dma_buf;
mod test_dma_buf_life;
mod test_dma_buf_peer;
mod test_dma_buf_revoke;
mod test_forget;
mod test_invariants;
mod test_iommu;
mod test_iommu_attach;
mod test_linear;
mod test_linear_large;
mod test_numbers;
mod test_refused;
mod test_scatter;
mod test_scope;
#[cfg(phyr_fail_points)]
mod test_steps;

struct TestDriver;

/// Whether tests may have the device fault, which the kernel logs.
fn wants_faults() -> bool {
    module_parameters::faults.value() != 0
}

/// Whether the suites map in a domain of the driver's own, rather than with the DMA API.
fn wants_domain() -> bool {
    module_parameters::domain.value() != 0
}

/// Whether tests may forget what is then never freed.
fn forgets() -> bool {
    module_parameters::forget.value() != 0
}

/// Whether what they forget are domains, rather than attachments to dma-bufs.
fn forgets_domains() -> bool {
    module_parameters::forget.value() == 2
}

/// Whether the machine bounces all memory of the device.
fn is_bounced() -> bool {
    module_parameters::bounced.value() != 0
}

/// Whether the IOMMU refuses to forget more than 1 GiB of translations at once.
fn flushes_little() -> bool {
    module_parameters::flushes_little.value() != 0
}

/// Whether the machine must have the second device.
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

/// What a device is for.
#[derive(Clone, Copy)]
enum Role {
    /// It does DMA.
    Engine,
    /// It has memory.
    Memory,
}

/// Forgets the device when the driver is unbound.
struct Published<'bound> {
    role: Role,
    /// What a person who looks at the IOMMU's page table is to see in it.
    _kept: Option<test_iommu::Kept<'bound>>,
}

/// The bits of an address that bounce buffers keep: a page of most devices' descriptors.
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
        // But for the alignment those that a device has of which nobody says any.
        let limits = Limits::NONE
            .with_max_segment(SZ_64K as u64)
            .and_then(|limits| limits.with_boundary_mask(u32::MAX.into()))
            .and_then(|limits| limits.with_min_align_mask(MIN_ALIGN_MASK));
        Ok(DmaParameters::new(DmaMask::new::<64>()).limits(limits.ok_or(EINVAL)?))
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
                    kept = Some(test_iommu::keep(pdev.as_ref(), usize::from(pages))?);
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
