// SPDX-License-Identifier: GPL-2.0

//! What a controller says of itself and its namespaces: Identify Controller, the limits of its NVM
//! command set, Identify Namespace.
//!
//! Nothing here calls the kernel. What a controller says can be anything.
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h), `struct nvme_id_ctrl`,
//! `struct nvme_id_ctrl_nvm`, `struct nvme_id_ns`

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
    pub(crate) fn parse(data: &[u8], min_page_shift: u32) -> Result<Self> {
        let oncs = le16(data, Self::ONCS)?;
        let sgls = le32(data, Self::SGLS)? & Self::SGLS_SUPPORT;
        // In microseconds; 0 where it is not said.
        let shutdown_secs = le32(data, Self::RTD3E)? / 1_000_000;

        Ok(Self {
            max_transfer: pages(byte(data, Self::MDTS)?, min_page_shift),
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
    pub(crate) fn add_nvm_limits(&mut self, data: &[u8], min_page_shift: u32) -> Result {
        self.max_zeroes = pages(byte(data, Self::WZSL)?, min_page_shift);
        self.max_discard_blocks = le32(data, Self::DMRSL)?;
        Ok(())
    }
}

/// A namespace that can be a disk.
#[derive(Clone, Copy)]
pub(crate) struct Namespace {
    pub(crate) id: u32,
    /// Size in logical blocks.
    pub(crate) blocks: u64,
    /// A logical block is `1 << shift` bytes.
    pub(crate) shift: u32,
    /// Deallocated blocks read as zeroes, and write zeroes may deallocate.
    pub(crate) zeroes_when_deallocated: bool,
    /// Write protected.
    pub(crate) read_only: bool,
}

impl Namespace {
    const NSZE: usize = 0;
    const NLBAF: usize = 25;
    const FLBAS: usize = 26;
    const DLFEAT: usize = 33;
    const NSATTR: usize = 99;
    const LBAF: usize = 128;

    /// `NSATTR`: write protected.
    const NSATTR_READ_ONLY: u8 = 0x1;

    /// `DLFEAT`: deallocated blocks read as zeroes.
    const DLFEAT_ZEROES: u8 = 0x1;
    /// `DLFEAT`: write zeroes may deallocate.
    const DLFEAT_WRITE_ZEROES: u8 = 0x8;

    /// Reads an Identify Namespace structure.
    ///
    /// # Errors
    ///
    /// - [`EOPNOTSUPP`]: the blocks have metadata, or are not of 512 bytes up to a page.
    /// - [`EOVERFLOW`]: its size cannot be said in bytes.
    /// - [`EIO`]: `data` is cut short.
    pub(crate) fn parse(id: u32, data: &[u8]) -> Result<Self> {
        let flbas = byte(data, Self::FLBAS)?;
        // Bits 6:5 are the upper ones of the index, where there are more than 16 formats.
        let upper = match byte(data, Self::NLBAF)? {
            0..=15 => 0,
            _ => flbas >> 5 & 3,
        };
        let format = Self::LBAF + 4 * usize::from(upper << 4 | flbas & 0xf);
        let blocks = le64(data, Self::NSZE)?;
        let metadata = le16(data, format)?;
        let shift = u32::from(byte(data, format + 2)?);
        let dlfeat = byte(data, Self::DLFEAT)?;

        if blocks != 0 {
            if metadata != 0 || !(9..=12).contains(&shift) {
                return Err(EOPNOTSUPP);
            }
            // CAST: A positive number.
            if blocks > i64::MAX as u64 >> shift {
                return Err(EOVERFLOW);
            }
        }
        Ok(Self {
            id,
            blocks,
            shift,
            zeroes_when_deallocated: dlfeat & 0x7 == Self::DLFEAT_ZEROES
                && dlfeat & Self::DLFEAT_WRITE_ZEROES != 0,
            read_only: byte(data, Self::NSATTR)? & Self::NSATTR_READ_ONLY != 0,
        })
    }

    /// Size in sectors of 512 bytes.
    pub(crate) fn sectors(&self) -> u64 {
        self.blocks << (self.shift - 9)
    }
}

/// A limit that is a power of two of the controller's smallest memory page, in bytes. 0 is none,
/// as is one that no `usize` can hold.
fn pages(power: u8, min_page_shift: u32) -> usize {
    match u32::from(power) {
        0 => 0,
        power => 1usize.checked_shl(min_page_shift + power).unwrap_or(0),
    }
}

/// A byte of an Identify structure.
fn byte(data: &[u8], at: usize) -> Result<u8> {
    data.get(at).copied().ok_or(EIO)
}

fn array<const N: usize>(data: &[u8], at: usize) -> Result<[u8; N]> {
    let bytes = data.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().ok_or(EIO)
}

/// A 16-bit field of an Identify structure.
fn le16(data: &[u8], at: usize) -> Result<u16> {
    array(data, at).map(u16::from_le_bytes)
}

/// A 32-bit field of an Identify structure.
pub(crate) fn le32(data: &[u8], at: usize) -> Result<u32> {
    array(data, at).map(u32::from_le_bytes)
}

/// A 64-bit field of an Identify structure.
fn le64(data: &[u8], at: usize) -> Result<u64> {
    array(data, at).map(u64::from_le_bytes)
}

#[kunit_tests(rust_nvme_identify)]
mod tests {
    // PANIC: An `unwrap` or an index that fails is a failed test.
    // CAST: A `usize` has 64 bits at most.

    use super::*;

    /// Of the smallest memory page.
    const SHIFT: u32 = 12;

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
            let identity = Identity::parse(&data, SHIFT).unwrap();
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
            assert_eq!(pages(power, SHIFT), bytes);
        }
    }

    #[test]
    fn nvm_limits_have_their_layout() {
        let mut data = zeroed();
        data[1] = 5;
        data[4..8].copy_from_slice(&0x1234_5678u32.to_le_bytes());

        let mut identity = Identity::parse(&zeroed(), SHIFT).unwrap();
        assert_eq!((identity.max_zeroes, identity.max_discard_blocks), (0, 0));
        identity.add_nvm_limits(&data, SHIFT).unwrap();
        assert_eq!(identity.max_zeroes, 128 << 10);
        assert_eq!(identity.max_discard_blocks, 0x1234_5678);
        for len in [0, 1, 7] {
            assert!(identity.add_nvm_limits(&data[..len], SHIFT).is_err());
        }
    }

    #[test]
    fn a_short_controller_structure_is_an_error() {
        let data = zeroed();
        for len in 0..Identity::SGLS + 4 {
            assert!(Identity::parse(&data[..len], SHIFT).is_err_and(|e| e == EIO));
        }
        assert!(Identity::parse(&data[..Identity::SGLS + 4], SHIFT).is_ok());
    }

    /// An Identify structure with the format `(index, metadata, shift)` in use.
    fn identify(blocks: u64, formats: u8, format: (u8, u16, u8)) -> KVec<u8> {
        let mut data = KVec::from_elem(0, 4096, GFP_KERNEL).unwrap();
        let (index, metadata, shift) = format;
        let at = Namespace::LBAF + 4 * usize::from(index);

        data[..8].copy_from_slice(&blocks.to_le_bytes());
        data[Namespace::NLBAF] = formats - 1;
        data[Namespace::FLBAS] = index & 0xf | index >> 4 << 5;
        data[at..at + 2].copy_from_slice(&metadata.to_le_bytes());
        data[at + 2] = shift;
        data
    }

    #[test]
    fn formats_are_found_or_refused() {
        // CAST: A positive number.
        const MAX: u64 = i64::MAX as u64;
        // Blocks, number of formats, the one in use, what becomes of it.
        let table = [
            (1, 1, (0, 0, 9), Ok(9)),
            (1, 2, (1, 0, 12), Ok(12)),
            (1, 16, (15, 0, 10), Ok(10)),
            (1, 17, (16, 0, 11), Ok(11)),
            (1, 64, (63, 0, 9), Ok(9)),
            (1, 1, (0, 0, 8), Err(EOPNOTSUPP)),
            (1, 1, (0, 0, 13), Err(EOPNOTSUPP)),
            (1, 1, (0, 0, 255), Err(EOPNOTSUPP)),
            (1, 1, (0, 8, 9), Err(EOPNOTSUPP)),
            (MAX >> 9, 1, (0, 0, 9), Ok(9)),
            ((MAX >> 9) + 1, 1, (0, 0, 9), Err(EOVERFLOW)),
            (u64::MAX, 1, (0, 0, 12), Err(EOVERFLOW)),
            // Not active: all is zero.
            (0, 1, (0, 0, 0), Ok(0)),
        ];

        for (blocks, formats, format, want) in table {
            let got = Namespace::parse(1, &identify(blocks, formats, format));
            assert_eq!(got.map(|namespace| namespace.shift), want);
        }
    }

    #[test]
    fn sizes_are_in_blocks() {
        for (shift, sectors) in [(9, 10), (10, 20), (12, 80)] {
            let namespace = Namespace::parse(1, &identify(10, 1, (0, 0, shift))).unwrap();
            assert_eq!(namespace.sectors(), sectors);
        }
    }

    #[test]
    fn a_short_structure_is_an_error() {
        let data = identify(1, 64, (63, 0, 9));
        for len in [0, 7, Namespace::FLBAS, Namespace::LBAF + 4 * 63 + 2] {
            assert!(Namespace::parse(1, &data[..len]).is_err());
        }
    }
}
