// SPDX-License-Identifier: GPL-2.0

//! The structures of the Identify command that describe a controller: Identify Controller, and the
//! limits of its NVM command set.
//!
//! Nothing here calls the kernel. The bytes come from the controller and can be anything. Fields
//! are read in the order in which a structure has them.
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h), `struct nvme_id_ctrl`,
//! `struct nvme_id_ctrl_nvm`

use super::names::Names;
use kernel::prelude::*;

/// Identify Controller, as far as it is used.
pub(crate) struct ControllerIdentity {
    pub(crate) names: Names,
    /// Bytes of one transfer, 0 if not limited.
    pub(crate) max_transfer: usize,
    /// Ranges of one discard, 0 if not limited.
    pub(crate) max_discard_ranges: u8,
    /// Logical blocks of one discarded range, 0 if not limited.
    pub(crate) max_discard_blocks: u32,
    /// Logical blocks of all ranges of one discard, 0 if not limited.
    pub(crate) max_discard_total: u64,
    /// Bytes of one write zeroes command, 0 if not limited.
    pub(crate) max_zeroes: usize,
    /// Time that a shutdown may take, in seconds.
    pub(crate) shutdown_secs: u32,
    /// Highest namespace id.
    pub(crate) namespaces: u32,
    /// Dataset management, and so discard.
    pub(crate) has_discard: bool,
    pub(crate) has_write_zeroes: bool,
    pub(crate) has_write_cache: bool,
    /// SGLs for data of I/O commands.
    pub(crate) has_sgl: bool,
    /// A log of the commands that it has, and their effects.
    pub(crate) has_effects_log: bool,
}

impl ControllerIdentity {
    const VID: usize = 0;
    const SN: usize = 4;
    const MN: usize = 24;
    const FR: usize = 64;
    const MDTS: usize = 77;
    const RTD3E: usize = 88;
    const LPA: usize = 261;
    const NN: usize = 516;
    const ONCS: usize = 520;
    const VWC: usize = 525;
    const SGLS: usize = 536;

    const LPA_EFFECTS: u8 = 1 << 1;
    const ONCS_DSM: u16 = 1 << 2;
    const ONCS_WRITE_ZEROES: u16 = 1 << 3;
    const VWC_PRESENT: u8 = 1 << 0;
    /// 1: any alignment, 2: multiples of 4 bytes. The disk's `dma_alignment` covers both.
    const SGLS_SUPPORT: u32 = 3;

    /// Limits of the NVM command set: write zeroes; ranges of dataset management, blocks of one,
    /// blocks of all.
    const WZSL: usize = 1;
    const DMRL: usize = 3;
    const DMRSL: usize = 4;
    const DMSL: usize = 8;

    /// The shortest and the longest time that a shutdown gets: those of the C driver.
    pub(crate) const MIN_SHUTDOWN_SECS: u32 = 5;
    const MAX_SHUTDOWN_SECS: u32 = 60;

    /// Reads an Identify Controller structure.
    ///
    /// # Errors
    ///
    /// [`EIO`]: `data` is cut short.
    pub(crate) fn parse(data: &[u8], min_page_shift: u32) -> Result<Self> {
        let names = Names {
            vendor: le16(data, Self::VID)?,
            serial: array(data, Self::SN)?,
            model: array(data, Self::MN)?,
            firmware: array(data, Self::FR)?,
        };
        let mdts = byte(data, Self::MDTS)?;
        // In microseconds; 0 is unknown.
        let shutdown_secs = le32(data, Self::RTD3E)? / 1_000_000;
        let lpa = byte(data, Self::LPA)?;
        let namespaces = le32(data, Self::NN)?;
        let oncs = le16(data, Self::ONCS)?;
        let vwc = byte(data, Self::VWC)?;
        let sgls = le32(data, Self::SGLS)? & Self::SGLS_SUPPORT;

        Ok(Self {
            names,
            max_transfer: pages(mdts, min_page_shift),
            max_discard_ranges: 0,
            max_discard_blocks: 0,
            max_discard_total: 0,
            max_zeroes: 0,
            shutdown_secs: shutdown_secs.clamp(Self::MIN_SHUTDOWN_SECS, Self::MAX_SHUTDOWN_SECS),
            namespaces,
            has_discard: oncs & Self::ONCS_DSM != 0,
            has_write_zeroes: oncs & Self::ONCS_WRITE_ZEROES != 0,
            has_write_cache: vwc & Self::VWC_PRESENT != 0,
            has_sgl: sgls == 1 || sgls == 2,
            has_effects_log: lpa & Self::LPA_EFFECTS != 0,
        })
    }

    /// Adds the limits of the NVM command set.
    ///
    /// # Errors
    ///
    /// [`EIO`]: `data` is cut short.
    pub(crate) fn add_nvm_limits(&mut self, data: &[u8], min_page_shift: u32) -> Result {
        let wzsl = byte(data, Self::WZSL)?;
        let dmrl = byte(data, Self::DMRL)?;
        let dmrsl = le32(data, Self::DMRSL)?;
        let dmsl = le64(data, Self::DMSL)?;

        self.max_discard_ranges = dmrl;
        self.max_discard_blocks = dmrsl;
        self.max_discard_total = dmsl;
        self.max_zeroes = pages(wzsl, min_page_shift);
        Ok(())
    }
}

/// Returns a limit in bytes, which is given as a power of two of the controller's smallest memory
/// page. 0 is no limit, as is one that no `usize` can hold.
fn pages(power: u8, min_page_shift: u32) -> usize {
    match u32::from(power) {
        0 => 0,
        power => 1usize.checked_shl(min_page_shift + power).unwrap_or(0),
    }
}

/// Reads a byte of an Identify structure.
///
/// # Errors
///
/// [`EIO`]: `data` is cut short; so for all fields.
pub(crate) fn byte(data: &[u8], at: usize) -> Result<u8> {
    data.get(at).copied().ok_or(EIO)
}

/// Reads an array of bytes of an Identify structure.
pub(crate) fn array<const N: usize>(data: &[u8], at: usize) -> Result<[u8; N]> {
    let bytes = data.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().ok_or(EIO)
}

/// Reads a field of 16 bits of an Identify structure.
pub(crate) fn le16(data: &[u8], at: usize) -> Result<u16> {
    array(data, at).map(u16::from_le_bytes)
}

/// Reads a field of 32 bits of an Identify structure.
pub(crate) fn le32(data: &[u8], at: usize) -> Result<u32> {
    array(data, at).map(u32::from_le_bytes)
}

/// Reads a field of 64 bits of an Identify structure.
pub(crate) fn le64(data: &[u8], at: usize) -> Result<u64> {
    array(data, at).map(u64::from_le_bytes)
}

#[cfg(CONFIG_KUNIT = "y")]
#[path = "identify/tests.rs"]
mod tests;
