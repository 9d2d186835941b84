// SPDX-License-Identifier: GPL-2.0

//! NVMe over PCIe: a block driver on top of `phyr` and `phyr_blk`.
//!
//! Every namespace becomes a disk `/dev/rnvme<controller>n<namespace>` that reads, writes,
//! flushes, discards and writes zeroes; and a character device, by which user space reads and
//! writes straight into and out of dma-bufs (`rust_nvme.h`), and sends NVMe commands of its own
//! (`nvme_ioctl.h`). It is a sample: there is no multipath, no metadata, no power management, no
//! INTx.
//!
//! C: [`drivers/nvme/host/pci.c`](srctree/drivers/nvme/host/pci.c)
//!
//! # The way of a request
//!
//! ```text
//! io            queue_rq(): map the request; timeouts; the interrupt handler
//! setup         mapped request -> command
//!   format      PRPs or SGLs: the place for a new format of descriptors
//!   prp, sgl    DMA ranges -> descriptors                desc    types that both share
//!   list        memory for descriptor lists              cmd     the command itself
//! io_queue      in flight, into the ring; completions: out of flight
//!   queue       rings and doorbells                      completion    entries and status codes
//! request       retried or completed; the log of failures
//! ```
//!
//! A command of user space joins it as a request:
//!
//! ```text
//! generic       the character device: registers buffers, sends commands
//!   uapi        structures of rust_nvme.h                user_copy     from and to user space
//!   user_command  checked commands
//!   buffer      dma-bufs and memory of programs          map           their DMA ranges
//! transfer      a command with its buffer, as a request
//! ```
//!
//! A command that user space has made itself is a request with the user's memory:
//!
//! ```text
//! passthru      checked; sent, and waited for          nvme_ioctl    structures of C's interface
//!   user_entry  the words of the command               effects       commands and their effects
//! payload       a request of either kind
//! admin_dev     character device of the controller     admin_queue   requests for the admin queue
//! ```
//!
//! # The life of a controller
//!
//! ```text
//! rust_nvme     the PCI driver
//! probe         parts of a bound controller, in the order in which they come and go
//!   queues      number, depth and interrupts of the queues      layout     sizes
//!   disk        disks and character devices                     limits     of a disk
//! ctrl          on, off                                         regs       registers
//!   admin       the admin queue                                 state      live, resetting, dead
//! reset         because it does not answer, and from outside
//! identify      structures that describe the controller
//! ns            its namespaces                                  namespace  structures of one
//!   names       names and identifiers
//! tests         shared by the tests in these files
//! ```
//!
//! # Which controllers it takes
//!
//! Every PCI function of the NVMe class that has no driver when this module is loaded or the
//! function appears. The C driver `nvme` takes the same ones: the first to be loaded has them. To
//! hand over a single controller:
//!
//! ```text
//! # echo rust_nvme > /sys/bus/pci/devices/0000:00:04.0/driver_override
//! # echo 0000:00:04.0 > /sys/bus/pci/devices/0000:00:04.0/driver/unbind
//! # echo 0000:00:04.0 > /sys/bus/pci/drivers_probe
//! ```
//!
//! A controller whose `driver_override` is `nvme` is left alone.
//!
//! # Memory
//!
//! The I/O path allocates nothing; `Documentation/nvme.rst` tells how much is set aside.

use kernel::{
    device::Core,
    dma::DmaMask,
    pci,
    prelude::*, //
};
use phyr_driver::{
    pci::{
        ChannelState,
        DmaParameters,
        Recovery, //
    },
    scope::Scope, //
};

mod admin;
mod admin_dev;
mod admin_queue;
mod buffer;
mod cmd;
mod completion;
mod ctrl;
mod desc;
mod disk;
mod effects;
mod format;
mod generic;
mod identify;
mod io;
mod io_queue;
mod layout;
mod limits;
mod list;
mod map;
mod names;
mod namespace;
mod ns;
mod nvme_ioctl;
mod passthru;
mod payload;
mod probe;
mod prp;
mod queue;
mod queues;
mod regs;
mod request;
mod reset;
mod setup;
mod sgl;
mod state;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;
mod transfer;
mod uapi;
mod user_command;
mod user_copy;
mod user_entry;

/// Mass storage, non-volatile memory, NVM Express I/O controller.
const CLASS_NVME: u32 = 0x01_0802;
/// All 24 bits of a class.
const CLASS_MASK: u32 = 0xff_ffff;

struct NvmeDriver;

kernel::pci_device_table!(
    PCI_TABLE,
    <NvmeDriver as phyr_driver::pci::Driver>::IdInfo,
    [(pci::DeviceId::from_class(CLASS_NVME, CLASS_MASK), ())]
);

#[vtable]
impl phyr_driver::pci::Driver for NvmeDriver {
    type IdInfo = ();
    type Data<'bound> = probe::NvmeDevice<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn dma(_pdev: &pci::Device, _info: Option<&Self::IdInfo>) -> Result<DmaParameters> {
        let limits = layout::limits()?;
        Ok(DmaParameters::new(DmaMask::new::<64>()).limits(limits))
    }

    fn probe<'bound>(
        scope: Scope<'bound>,
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        probe::NvmeDevice::new(scope, pdev)
    }

    fn unbind<'bound>(_pdev: &pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        this.prepare_removal();
    }

    fn reset_prepare<'bound>(_pdev: &pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        this.reset_prepare();
    }

    fn reset_done<'bound>(_pdev: &pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        this.reset_done();
    }

    fn error_detected<'bound>(
        _pdev: &pci::Device<Core<'_>>,
        this: Pin<&Self::Data<'bound>>,
        state: ChannelState,
    ) -> Recovery {
        this.error_detected(state)
    }

    fn slot_reset<'bound>(
        _pdev: &pci::Device<Core<'_>>,
        this: Pin<&Self::Data<'bound>>,
    ) -> Recovery {
        this.slot_reset()
    }

    fn shutdown<'bound>(_pdev: &pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        this.shut_down();
    }
}

phyr_driver::module_pci_driver! {
    type: NvmeDriver,
    name: "rust_nvme",
    authors: ["phyr developers"],
    description: "NVMe PCI driver on phyr",
    license: "GPL",
    params: {
        io_queue_depth: u16 {
            default: 1024,
            description: "Entries of an I/O queue, 2 to 4096; the controller may have fewer (1024)",
        },
        max_io_queues: u16 {
            default: 0,
            description: "Most I/O queues of a controller, 0 for one per CPU (0)",
        },
        use_sgl: u8 {
            default: 0,
            description: "Descriptors: 0 whichever is shorter, 1 PRP only, 2 SGL only (0)",
        },
        io_timeout: u32 {
            default: 30,
            description: "Seconds until a request that is not answered resets the controller (30)",
        },
    },
}
