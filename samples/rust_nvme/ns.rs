// SPDX-License-Identifier: GPL-2.0

//! Namespaces: which there are, and what the block layer is told of them.
//!
//! C: `nvme_scan_ns()`, `nvme_update_disk_info()` in
//! [`drivers/nvme/host/core.c`](srctree/drivers/nvme/host/core.c)

use super::{
    cmd::Identify,
    ctrl::Ctrl,
    identify::{
        byte,
        le16,
        le32,
        le64,
        Identity, //
    },
};
use kernel::prelude::*;

/// The most namespaces that get a disk; more would be a controller that makes them up.
const MAX_NAMESPACES: usize = 1024;

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

    /// Asks for namespace `id`. [`None`]: there is nothing to make a disk of.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::identify`](super::admin::Admin::identify).
    pub(crate) fn read(ctrl: &Ctrl<'_>, id: u32) -> Result<Option<Self>> {
        let data = ctrl.identify(Identify::Namespace(id))?;

        match Self::parse(id, &data) {
            // Not active.
            Ok(namespace) if namespace.blocks == 0 => Ok(None),
            Ok(namespace) => Ok(Some(namespace)),
            Err(e) => {
                dev_warn!(
                    ctrl.device(),
                    "namespace {id} has metadata, or blocks of an odd size: no disk ({e:?})\n"
                );
                Ok(None)
            }
        }
    }

    /// Reads an Identify Namespace structure.
    ///
    /// # Errors
    ///
    /// - [`EOPNOTSUPP`]: the blocks have metadata, or are not of 512 bytes up to a page.
    /// - [`EOVERFLOW`]: its size cannot be said in bytes.
    /// - [`EIO`]: `data` is cut short.
    fn parse(id: u32, data: &[u8]) -> Result<Self> {
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

/// Ids of the active namespaces, in ascending order.
///
/// # Errors
///
/// Those of [`Admin::identify`](super::admin::Admin::identify).
pub(crate) fn active(ctrl: &Ctrl<'_>, identity: &Identity) -> Result<KVec<u32>> {
    let mut ids = KVec::new();

    if !ctrl.has_namespace_list() {
        for id in (1..=identity.namespaces).take(MAX_NAMESPACES) {
            ids.push(id, GFP_KERNEL)?;
        }
        return Ok(ids);
    }

    let mut above = 0;
    'lists: loop {
        let list = ctrl.identify(Identify::ActiveNamespaces(above))?;
        for at in (0..list.len()).step_by(4) {
            let id = le32(&list, at)?;
            // The list ends with 0. One that does not ascend makes no sense.
            if id <= above || ids.len() == MAX_NAMESPACES {
                break 'lists;
            }
            ids.push(id, GFP_KERNEL)?;
            above = id;
        }
    }
    Ok(ids)
}

#[kunit_tests(rust_nvme_ns)]
mod tests {
    // PANIC: An `unwrap` or an index that fails is a failed test.

    use super::*;

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
