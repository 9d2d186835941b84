// SPDX-License-Identifier: GPL-2.0

//! Namespaces: which there are, and what the block layer is told of them.
//!
//! C: `nvme_scan_ns()`, `nvme_update_disk_info()` in
//! [`drivers/nvme/host/core.c`](srctree/drivers/nvme/host/core.c)

use super::{
    cmd::Identify,
    ctrl::{
        byte,
        le16,
        le32,
        le64,
        Ctrl,
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
}

impl Namespace {
    const NSZE: usize = 0;
    const NLBAF: usize = 25;
    const FLBAS: usize = 26;
    const DLFEAT: usize = 33;
    const LBAF: usize = 128;

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
        let blocks = le64(&data, Self::NSZE)?;
        if blocks == 0 {
            return Ok(None);
        }

        let flbas = byte(&data, Self::FLBAS)?;
        // Bits 6:5 are the upper ones of the index, where there are more than 16 formats.
        let upper = if byte(&data, Self::NLBAF)? > 15 {
            flbas >> 5 & 3
        } else {
            0
        };
        let format = Self::LBAF + 4 * usize::from(upper << 4 | flbas & 0xf);
        let metadata = le16(&data, format)?;
        let shift = u32::from(byte(&data, format + 2)?);
        let dlfeat = byte(&data, Self::DLFEAT)?;

        if metadata != 0 {
            dev_warn!(
                ctrl.device(),
                "namespace {id} has metadata, which is not supported\n"
            );
            return Ok(None);
        }
        if !Self::is_usable(blocks, shift) {
            dev_warn!(
                ctrl.device(),
                "namespace {id}: {blocks} blocks of 2^{shift} bytes\n"
            );
            return Ok(None);
        }
        Ok(Some(Self {
            id,
            blocks,
            shift,
            zeroes_when_deallocated: dlfeat & 0x7 == Self::DLFEAT_ZEROES
                && dlfeat & Self::DLFEAT_WRITE_ZEROES != 0,
        }))
    }

    /// Blocks of 512 bytes up to a page, and a size that can be said in bytes.
    fn is_usable(blocks: u64, shift: u32) -> bool {
        (9..=12).contains(&shift) && blocks <= (i64::MAX as u64) >> shift
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
