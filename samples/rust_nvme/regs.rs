// SPDX-License-Identifier: GPL-2.0

//! Controller registers (BAR 0).
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h), `NVME_REG_*`
//!
//! 64-bit registers are declared as two halves: a controller need not accept 64-bit accesses, and
//! the C driver, too, reads them low half first.
//!
//! A controller that was pulled out answers every read with all ones; [`CSTS::is_gone`] tells.

use kernel::{
    io::{
        register,
        Io, //
    },
    pci,
    prelude::*, //
};

/// Offset of the first doorbell, the admin submission queue's, in bytes.
const DOORBELLS: usize = 0x1000;

/// Fewest bytes of the BAR: all registers and the admin queue's two doorbells.
pub(crate) const MIN_BAR: usize = DOORBELLS + 2 * size_of::<u32>();

/// The mapped registers.
pub(crate) type Bar<'bound> = pci::Bar<'bound, MIN_BAR>;

register! {
    /// Controller capabilities, low half.
    pub(crate) CAP_LO(u32) @ 0x00 {
        /// Longest time that a change of `CC.EN` takes, in units of 500 ms.
        31:24 to;
        /// Queues must be physically contiguous.
        16:16 cqr => bool;
        /// Entries of an I/O queue, less one.
        15:0 mqes;
    }

    /// Controller capabilities, high half.
    pub(crate) CAP_HI(u32) @ 0x04 {
        /// A namespace can become ready later than the controller.
        28:28 crims => bool;
        /// Smallest memory page, as a power of two above 4 KiB.
        19:16 mpsmin;
        /// Namespaces may have other command sets than NVM.
        11:11 css_csi => bool;
        /// The NVM command set is supported.
        5:5 css_nvm => bool;
        /// Distance of two doorbells, as a power of two above 4 bytes.
        3:0 dstrd;
    }

    /// Version.
    pub(crate) VS(u32) @ 0x08 {
        31:16 major;
        15:8 minor;
    }

    /// Controller configuration.
    pub(crate) CC(u32) @ 0x14 {
        /// Size of a completion entry, as a power of two.
        23:20 iocqes;
        /// Size of a submission entry, as a power of two.
        19:16 iosqes;
        /// Shutdown notification.
        15:14 shn;
        /// Memory page size, as a power of two above 4 KiB.
        10:7 mps;
        /// Command set.
        6:4 css;
        /// Enable.
        0:0 en => bool;
    }

    /// Controller status.
    pub(crate) CSTS(u32) @ 0x1c {
        /// Shutdown status.
        3:2 shst;
        /// Fatal status.
        1:1 cfs => bool;
        /// Ready.
        0:0 rdy => bool;
    }

    /// Admin queue sizes, each less one.
    pub(crate) AQA(u32) @ 0x24 {
        27:16 acqs;
        11:0 asqs;
    }

    /// Admin submission queue address.
    pub(crate) ASQ_LO(u32) @ 0x28 {}
    pub(crate) ASQ_HI(u32) @ 0x2c {}

    /// Admin completion queue address.
    pub(crate) ACQ_LO(u32) @ 0x30 {}
    pub(crate) ACQ_HI(u32) @ 0x34 {}
}

impl CC {
    /// `CC.CSS`: each namespace has a command set of its own.
    pub(crate) const CSS_CSI: u32 = 6;
}

impl CSTS {
    /// `CSTS.SHST`: all writes are safe.
    pub(crate) const SHST_COMPLETE: u32 = 2;

    /// Returns whether nothing answered: the function is off the bus.
    pub(crate) fn is_gone(self) -> bool {
        self.into_raw() == u32::MAX
    }

    /// Returns whether the controller is enabled and can be expected to execute commands.
    pub(crate) fn is_working(self) -> bool {
        !self.is_gone() && !self.cfs() && self.rdy()
    }
}

/// The fields of [`CAP_LO`] and [`CAP_HI`], in units that need no manual.
#[derive(Clone, Copy)]
pub(crate) struct Capabilities {
    /// Entries of an I/O queue.
    pub(crate) max_entries: u32,
    /// Bound of a change of `CC.EN`, in milliseconds.
    pub(crate) timeout_ms: i64,
    /// Bytes between two doorbells.
    pub(crate) doorbell_stride: usize,
    /// The smallest memory page is `1 << min_page_shift` bytes.
    pub(crate) min_page_shift: u32,
    /// The NVM command set is there.
    pub(crate) nvm: bool,
    /// Namespaces may have other command sets.
    pub(crate) other_command_sets: bool,
    /// Namespaces report whether they are ready.
    pub(crate) ready_later: bool,
}

impl Capabilities {
    /// Reads the capabilities.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if the controller does not answer.
    pub(crate) fn read(bar: &Bar<'_>) -> Result<Self> {
        let lo = bar.read(CAP_LO);
        let hi = bar.read(CAP_HI);
        if lo.into_raw() == u32::MAX && hi.into_raw() == u32::MAX {
            return Err(ENODEV);
        }

        Ok(Self {
            max_entries: u32::from(lo.mqes()) + 1,
            // One more than the field has: the C driver rounds up as well.
            timeout_ms: (i64::from(u32::from(lo.to())) + 1) * 500,
            doorbell_stride: size_of::<u32>() << u32::from(hi.dstrd()),
            min_page_shift: 12 + u32::from(hi.mpsmin()),
            nvm: hi.css_nvm(),
            other_command_sets: hi.css_csi(),
            ready_later: hi.crims(),
        })
    }
}

/// Returns the offset of the submission doorbell of queue `qid`, in bytes.
pub(crate) fn sq_doorbell(qid: u16, stride: usize) -> usize {
    DOORBELLS + 2 * usize::from(qid) * stride
}

/// Returns the offset of the completion doorbell of queue `qid`, in bytes.
pub(crate) fn cq_doorbell(qid: u16, stride: usize) -> usize {
    DOORBELLS + (2 * usize::from(qid) + 1) * stride
}
