// SPDX-License-Identifier: GPL-2.0

//! Structures and numbers of NVMe's own interface to user space.
//!
//! C header: [`include/uapi/linux/nvme_ioctl.h`](srctree/include/uapi/linux/nvme_ioctl.h)

use super::user_entry::UserEntry;
use core::mem::offset_of;
use kernel::{
    ioctl::{
        _IO,
        _IOW,
        _IOWR, //
    },
    prelude::*, //
};

/// `struct nvme_passthru_cmd`, `struct nvme_uring_cmd`
#[repr(C)]
#[derive(Clone, Copy, FromBytes)]
pub(crate) struct PassthruCmd {
    opcode: u8,
    pub(crate) flags: u8,
    _rsvd1: u16,
    pub(crate) nsid: u32,
    cdw2: [u32; 2],
    pub(crate) metadata: u64,
    pub(crate) addr: u64,
    pub(crate) metadata_len: u32,
    /// Bytes, or the number of vectors.
    pub(crate) data_len: u32,
    /// Words 10 to 15.
    cdw10: [u32; 6],
    pub(crate) timeout_ms: u32,
    /// `result`, or `rsvd2`
    _last: u32,
}

impl PassthruCmd {
    /// Place of the result, of 32 bits.
    pub(crate) const RESULT: usize = offset_of!(Self, _last);

    /// Returns the words of the command.
    pub(crate) fn entry(&self) -> UserEntry {
        UserEntry {
            opcode: self.opcode,
            nsid: self.nsid,
            cdw2: self.cdw2,
            cdw10: self.cdw10,
        }
    }
}

/// `struct nvme_passthru_cmd64`
#[repr(C)]
#[derive(Clone, Copy, FromBytes)]
pub(crate) struct PassthruCmd64 {
    pub(crate) cmd: PassthruCmd,
    _result: u64,
}

impl PassthruCmd64 {
    /// Place of the result, of 64 bits.
    pub(crate) const RESULT: usize = offset_of!(Self, _result);
}

/// `struct nvme_user_io` as a 32-bit program of x86 has it. That of others has four bytes more at
/// the end.
#[repr(C, packed(4))]
#[derive(Clone, Copy, FromBytes)]
pub(crate) struct UserIo {
    pub(crate) opcode: u8,
    pub(crate) flags: u8,
    control: u16,
    pub(crate) nblocks: u16,
    _rsvd: u16,
    metadata: u64,
    pub(crate) addr: u64,
    slba: u64,
    dsmgmt: u32,
    reftag: u32,
    apptag: u16,
    appmask: u16,
}

impl UserIo {
    /// `NVME_RW_PRINFO_PRACT`
    const PRACT: u16 = 1 << 13;

    /// Returns whether the controller is to make the protection information, and there is a pointer
    /// to it, too.
    pub(crate) fn has_too_much(&self) -> bool {
        self.control & Self::PRACT != 0 && self.metadata != 0
    }

    /// Returns the words of the command for namespace `nsid`.
    pub(crate) fn entry(&self, nsid: u32) -> UserEntry {
        UserEntry {
            opcode: self.opcode,
            nsid,
            cdw2: [0; 2],
            cdw10: [
                // CAST: Each half on purpose.
                self.slba as u32,
                (self.slba >> 32) as u32,
                u32::from(self.nblocks) | u32::from(self.control) << 16,
                self.dsmgmt,
                self.reftag,
                u32::from(self.apptag) | u32::from(self.appmask) << 16,
            ],
        }
    }
}

/// `'N'`
// CAST: A letter.
const MAGIC: u32 = b'N' as u32;

pub(crate) const ID: u32 = _IO(MAGIC, 0x40);
pub(crate) const ADMIN_CMD: u32 = _IOWR::<PassthruCmd>(MAGIC, 0x41);
pub(crate) const SUBMIT_IO: u32 = _IOW::<[u8; size_of::<UserIo>() + 4]>(MAGIC, 0x42);
/// `NVME_IOCTL_SUBMIT_IO32`
pub(crate) const SUBMIT_IO32: u32 = _IOW::<UserIo>(MAGIC, 0x42);
pub(crate) const IO_CMD: u32 = _IOWR::<PassthruCmd>(MAGIC, 0x43);
pub(crate) const ADMIN64_CMD: u32 = _IOWR::<PassthruCmd64>(MAGIC, 0x47);
pub(crate) const IO64_CMD: u32 = _IOWR::<PassthruCmd64>(MAGIC, 0x48);
pub(crate) const IO64_CMD_VEC: u32 = _IOWR::<PassthruCmd64>(MAGIC, 0x49);

pub(crate) const URING_CMD_IO: u32 = _IOWR::<PassthruCmd>(MAGIC, 0x80);
pub(crate) const URING_CMD_IO_VEC: u32 = _IOWR::<PassthruCmd>(MAGIC, 0x81);
pub(crate) const URING_CMD_ADMIN: u32 = _IOWR::<PassthruCmd>(MAGIC, 0x82);
pub(crate) const URING_CMD_ADMIN_VEC: u32 = _IOWR::<PassthruCmd>(MAGIC, 0x83);

/// The layout is that of C.
const _: () = {
    assert!(size_of::<PassthruCmd>() == 72 && size_of::<PassthruCmd64>() == 80);
    assert!(size_of::<UserIo>() == 44);
    assert!(offset_of!(PassthruCmd, metadata) == 16 && offset_of!(PassthruCmd, data_len) == 36);
    assert!(offset_of!(PassthruCmd, cdw10) == 40 && offset_of!(PassthruCmd, timeout_ms) == 64);
    assert!(PassthruCmd::RESULT == 68 && PassthruCmd64::RESULT == 72);
    assert!(offset_of!(UserIo, addr) == 16 && offset_of!(UserIo, appmask) == 42);
    assert!(ID == 0x4e40 && ADMIN_CMD == 0xc048_4e41 && SUBMIT_IO == 0x4030_4e42);
    assert!(SUBMIT_IO32 == 0x402c_4e42);
    assert!(IO64_CMD == 0xc050_4e48 && URING_CMD_IO == 0xc048_4e80);
};
