// SPDX-License-Identifier: GPL-2.0

//! What a controller says of itself: Identify Controller, and the limits of its NVM command set.
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h), `struct nvme_id_ctrl`,
//! `struct nvme_id_ctrl_nvm`

use super::regs::Capabilities;
use kernel::prelude::*;

/// Identify Controller, as far as it is used.
pub(crate) struct Identity {
    /// Bytes of one transfer, 0 if not limited.
    pub(crate) max_transfer: usize,
    /// Logical blocks of one discarded range, 0 if not limited.
    pub(crate) max_discard_blocks: u32,
    /// Bytes of one write zeroes command, 0 if not limited.
    pub(crate) max_zeroes: usize,
    /// How long a shutdown may take, in seconds.
    pub(crate) shutdown_secs: u32,
    /// Highest namespace id.
    pub(crate) namespaces: u32,
    /// Dataset management, and so discard.
    pub(crate) has_discard: bool,
    pub(crate) has_write_zeroes: bool,
    pub(crate) has_write_cache: bool,
    /// SGLs for data of I/O commands.
    pub(crate) has_sgl: bool,
}

impl Identity {
    const MDTS: usize = 77;
    const RTD3E: usize = 88;
    const NN: usize = 516;
    const ONCS: usize = 520;
    const VWC: usize = 525;
    const SGLS: usize = 536;

    const ONCS_DSM: u16 = 1 << 2;
    const ONCS_WRITE_ZEROES: u16 = 1 << 3;
    const VWC_PRESENT: u8 = 1 << 0;
    /// 1: any alignment, 2: multiples of 4 bytes. The disk's `dma_alignment` covers both.
    const SGLS_SUPPORT: u32 = 3;

    /// Limits of the NVM command set: write zeroes, and a dataset management range.
    const WZSL: usize = 1;
    const DMRSL: usize = 4;

    /// The shortest and the longest time that a shutdown gets: those of the C driver.
    pub(crate) const MIN_SHUTDOWN_SECS: u32 = 5;
    const MAX_SHUTDOWN_SECS: u32 = 60;

    /// Reads an Identify Controller structure.
    ///
    /// # Errors
    ///
    /// [`EIO`]: `data` is cut short.
    pub(crate) fn parse(data: &[u8], caps: &Capabilities) -> Result<Self> {
        let oncs = le16(data, Self::ONCS)?;
        let sgls = le32(data, Self::SGLS)? & Self::SGLS_SUPPORT;
        // In microseconds; 0 where it is not said.
        let shutdown_secs = le32(data, Self::RTD3E)? / 1_000_000;

        Ok(Self {
            max_transfer: pages(byte(data, Self::MDTS)?, caps),
            max_discard_blocks: 0,
            max_zeroes: 0,
            shutdown_secs: shutdown_secs.clamp(Self::MIN_SHUTDOWN_SECS, Self::MAX_SHUTDOWN_SECS),
            namespaces: le32(data, Self::NN)?,
            has_discard: oncs & Self::ONCS_DSM != 0,
            has_write_zeroes: oncs & Self::ONCS_WRITE_ZEROES != 0,
            has_write_cache: byte(data, Self::VWC)? & Self::VWC_PRESENT != 0,
            has_sgl: sgls == 1 || sgls == 2,
        })
    }

    /// Adds what the limits of the NVM command set say.
    ///
    /// # Errors
    ///
    /// [`EIO`]: `data` is cut short.
    pub(crate) fn add_nvm_limits(&mut self, data: &[u8], caps: &Capabilities) -> Result {
        self.max_zeroes = pages(byte(data, Self::WZSL)?, caps);
        self.max_discard_blocks = le32(data, Self::DMRSL)?;
        Ok(())
    }
}

/// A limit that is a power of two of the controller's smallest memory page, in bytes. 0 is none,
/// as is one that no `usize` can hold.
fn pages(power: u8, caps: &Capabilities) -> usize {
    match u32::from(power) {
        0 => 0,
        power => 1usize.checked_shl(caps.min_page_shift + power).unwrap_or(0),
    }
}

/// A byte of an Identify structure.
pub(crate) fn byte(data: &[u8], at: usize) -> Result<u8> {
    data.get(at).copied().ok_or(EIO)
}

fn array<const N: usize>(data: &[u8], at: usize) -> Result<[u8; N]> {
    let bytes = data.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().ok_or(EIO)
}

/// A 16-bit field of an Identify structure.
pub(crate) fn le16(data: &[u8], at: usize) -> Result<u16> {
    array(data, at).map(u16::from_le_bytes)
}

/// A 32-bit field of an Identify structure.
pub(crate) fn le32(data: &[u8], at: usize) -> Result<u32> {
    array(data, at).map(u32::from_le_bytes)
}

/// A 64-bit field of an Identify structure.
pub(crate) fn le64(data: &[u8], at: usize) -> Result<u64> {
    array(data, at).map(u64::from_le_bytes)
}

#[kunit_tests(rust_nvme_identify)]
mod tests {
    // PANIC: An `unwrap` or an index that fails is a failed test.
    // CAST: A `usize` has 64 bits at most.

    use super::*;

    const CAPS: Capabilities = Capabilities {
        max_entries: 64,
        timeout_ms: 500,
        doorbell_stride: 4,
        min_page_shift: 12,
        nvm: true,
    };

    fn zeroed() -> KVec<u8> {
        KVec::from_elem(0, 4096, GFP_KERNEL).unwrap()
    }

    #[test]
    fn a_shutdown_gets_5_to_60_seconds() {
        for (micros, secs) in [
            (0, 5),
            (5_999_999, 5),
            (6_000_000, 6),
            (60_000_000, 60),
            (61_000_000, 60),
            (u32::MAX, 60),
        ] {
            let mut data = zeroed();
            data[Identity::RTD3E..][..4].copy_from_slice(&micros.to_le_bytes());
            let identity = Identity::parse(&data, &CAPS).unwrap();
            assert_eq!(identity.shutdown_secs, secs);
        }
    }

    #[test]
    fn limits_are_powers_of_two_pages() {
        for (power, bytes) in [
            (0, 0),
            (1, 8192),
            (7, 512 << 10),
            ((usize::BITS - 13) as u8, 1 << (usize::BITS - 1)),
            ((usize::BITS - 12) as u8, 0),
            (255, 0),
        ] {
            assert_eq!(pages(power, &CAPS), bytes);
        }
    }

    #[test]
    fn nvm_limits_have_their_layout() {
        let mut data = zeroed();
        data[1] = 5;
        data[4..8].copy_from_slice(&0x1234_5678u32.to_le_bytes());

        let mut identity = Identity::parse(&zeroed(), &CAPS).unwrap();
        assert_eq!((identity.max_zeroes, identity.max_discard_blocks), (0, 0));
        identity.add_nvm_limits(&data, &CAPS).unwrap();
        assert_eq!(identity.max_zeroes, 128 << 10);
        assert_eq!(identity.max_discard_blocks, 0x1234_5678);
        assert!(identity.add_nvm_limits(&data[..7], &CAPS).is_err());
    }
}
