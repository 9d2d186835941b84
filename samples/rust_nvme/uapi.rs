// SPDX-License-Identifier: GPL-2.0

//! Structures and numbers of the interface to user space, as in `rust_nvme.h`, which documents
//! them.

use core::mem::offset_of;
use kernel::{
    ioctl::{
        _IOR,
        _IOW,
        _IOWR, //
    },
    prelude::*, //
};
use zerocopy_derive::Immutable;

/// `RNVME_BUF_READ`
pub(crate) const BUF_READ: u32 = 1 << 0;
/// `RNVME_BUF_WRITE`
pub(crate) const BUF_WRITE: u32 = 1 << 1;

/// `struct rnvme_register`
#[repr(C)]
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes)]
pub(crate) struct Register {
    pub(crate) fd: i32,
    pub(crate) flags: u32,
    pub(crate) handle: u32,
    pub(crate) reserved: u32,
}

/// `struct rnvme_register_memory`
#[repr(C)]
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes)]
pub(crate) struct RegisterMemory {
    pub(crate) addr: u64,
    pub(crate) len: u64,
    pub(crate) flags: u32,
    pub(crate) handle: u32,
}

/// `struct rnvme_unregister`
#[repr(C)]
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes)]
pub(crate) struct Unregister {
    pub(crate) handle: u32,
    pub(crate) reserved: u32,
}

/// `struct rnvme_info`
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, Immutable, IntoBytes)]
pub(crate) struct Info {
    pub(crate) handle: u32,
    pub(crate) flags: u32,
    pub(crate) bytes: u64,
    pub(crate) ranges: u64,
    pub(crate) gap: u64,
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
    pub(crate) max_bytes: u32,
    pub(crate) max_ranges: u32,
    pub(crate) reserved: u32,
}

/// `struct rnvme_cmd`
#[repr(C)]
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes)]
pub(crate) struct Cmd {
    pub(crate) offset: u64,
    pub(crate) slba: u64,
    pub(crate) len: u32,
    pub(crate) handle: u32,
    pub(crate) flags: u32,
    pub(crate) reserved: u32,
}

/// `RNVME_CMD_FUA`
pub(crate) const CMD_FUA: u32 = 1 << 0;

/// `'N'`
// CAST: A letter.
const MAGIC: u32 = b'N' as u32;

pub(crate) const IOC_REGISTER: u32 = _IOWR::<Register>(MAGIC, 0x90);
pub(crate) const IOC_UNREGISTER: u32 = _IOW::<Unregister>(MAGIC, 0x91);
pub(crate) const IOC_INFO: u32 = _IOWR::<Info>(MAGIC, 0x92);
pub(crate) const IOC_REGISTER_MEMORY: u32 = _IOWR::<RegisterMemory>(MAGIC, 0x93);
pub(crate) const CMD_READ: u32 = _IOR::<Cmd>(MAGIC, 0x98);
pub(crate) const CMD_WRITE: u32 = _IOW::<Cmd>(MAGIC, 0x99);

/// The layout is that of C.
const _: () = {
    assert!(size_of::<Register>() == 16 && offset_of!(Register, handle) == 8);
    assert!(size_of::<RegisterMemory>() == 24 && offset_of!(RegisterMemory, handle) == 20);
    assert!(size_of::<Unregister>() == 8);
    assert!(size_of::<Info>() == 56 && align_of::<Info>() == 8);
    assert!(offset_of!(Info, bytes) == 8 && offset_of!(Info, gap) == 24);
    assert!(offset_of!(Info, block_size) == 40 && offset_of!(Info, max_ranges) == 48);
    assert!(size_of::<Cmd>() == 32 && align_of::<Cmd>() == 8);
    assert!(offset_of!(Cmd, slba) == 8 && offset_of!(Cmd, len) == 16);
    assert!(offset_of!(Cmd, handle) == 20 && offset_of!(Cmd, flags) == 24);
    assert!(IOC_REGISTER == 0xc010_4e90 && CMD_READ == 0x8020_4e98 && CMD_WRITE == 0x4020_4e99);
};
