// SPDX-License-Identifier: GPL-2.0

//! Allocation: `DMA_HEAP_IOCTL_ALLOC`.
//!
//! C: `dma_heap_ioctl()` ([`drivers/dma-buf/dma-heap.c`](srctree/drivers/dma-buf/dma-heap.c)),
//! [`include/uapi/linux/dma-heap.h`](srctree/include/uapi/linux/dma-heap.h)

use crate::{
    pattern::Pattern,
    Buffer, //
};
use core::ops::Range;
use kernel::{
    fs::file::{
        flags,
        FileDescriptorReservation, //
    },
    ioctl::{
        _IOC_DIR,
        _IOC_SIZE,
        _IOR,
        _IOW, //
    },
    page::PAGE_SIZE,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use phyr::{
    memory::{
        segments,
        Chunks, //
    },
    Limits, //
};
use phyr_dma_buf::{
    export,
    AccessMode,
    DmaBuf,
    Exported, //
};

/// `struct dma_heap_allocation_data`.
struct AllocationData {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

impl AllocationData {
    /// `sizeof(struct dma_heap_allocation_data)`.
    const SIZE: usize = 24;
    /// Bytes of `fd`.
    const FD: Range<usize> = 8..12;
    /// A bit of `heap_flags`: `RUST_DMA_BUF_HEAP_REVOCABLE`.
    const REVOCABLE: u64 = 1 << 0;

    /// Reads the structure at the start of `bytes`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there are less than [`AllocationData::SIZE`] bytes.
    fn parse(bytes: &[u8]) -> Result<Self> {
        Ok(Self {
            len: u64::from_ne_bytes(field(bytes, 0)?),
            fd: u32::from_ne_bytes(field(bytes, Self::FD.start)?),
            fd_flags: u32::from_ne_bytes(field(bytes, 12)?),
            heap_flags: u64::from_ne_bytes(field(bytes, 16)?),
        })
    }

    /// Returns the length, rounded up to whole pages, and the access mode.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the length is zero or too large, or there is something that no heap supports.
    fn check(&self) -> Result<(usize, AccessMode)> {
        let known = flags::O_CLOEXEC | flags::O_ACCMODE;
        if self.fd != 0 || self.fd_flags & !known != 0 || self.heap_flags & !Self::REVOCABLE != 0 {
            return Err(EINVAL);
        }
        let access = AccessMode::from_flags(self.fd_flags).ok_or(EINVAL)?;
        let len = usize::try_from(self.len)?;
        if len == 0 {
            return Err(EINVAL);
        }
        let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or(EINVAL)?;
        Ok((len, access))
    }
}

/// Returns the `N` bytes at `at`.
///
/// # Errors
///
/// - `EINVAL`: there are fewer bytes.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let bytes = bytes.get(at..).ok_or(EINVAL)?;
    bytes.first_chunk().copied().ok_or(EINVAL)
}

/// Allocates a buffer as the structure at `arg` asks for, and stores its file descriptor there.
///
/// The structure may be shorter than the one here, or longer: missing bytes are zero, further ones
/// are copied back unchanged. The process can use the descriptor only once it has been copied to
/// it, so that none is lost.
///
/// Context: process context, may sleep.
///
/// # Errors
///
/// Those of `DMA_HEAP_IOCTL_ALLOC` in `rust_dma_buf.h`.
pub(crate) fn allocate(pattern: Pattern, cmd: u32, arg: UserPtr) -> Result {
    let in_len = size_in_direction(cmd, _IOW::<u8>(0, 0));
    let out_len = size_in_direction(cmd, _IOR::<u8>(0, 0));
    let mut data = KVec::from_elem(0, _IOC_SIZE(cmd).max(AllocationData::SIZE), GFP_KERNEL)?;
    let input = data.get_mut(..in_len).ok_or(EINVAL)?;
    UserSlice::new(arg, in_len).reader().read_slice(input)?;

    let request = AllocationData::parse(&data)?;
    let (len, access) = request.check()?;
    let is_revocable = request.heap_flags & AllocationData::REVOCABLE != 0;
    let buffer = buffer(pattern, len, access, is_revocable)?;
    let fd = FileDescriptorReservation::get_unused_fd_flags(request.fd_flags)?;

    let field = data.get_mut(AllocationData::FD).ok_or(EINVAL)?;
    field.copy_from_slice(&fd.reserved_fd().to_ne_bytes());
    let output = data.get(..out_len).ok_or(EINVAL)?;
    UserSlice::new(arg, out_len).writer().write_slice(output)?;

    fd.fd_install(DmaBuf::into_file(buffer.into_dma_buf())?);
    Ok(())
}

/// Returns the size of the argument of `cmd`, if it has the direction of `sample`, or else 0.
fn size_in_direction(cmd: u32, sample: u32) -> usize {
    if _IOC_DIR(cmd) & _IOC_DIR(sample) != 0 {
        _IOC_SIZE(cmd)
    } else {
        0
    }
}

/// Allocates a buffer of `len` bytes, whose chunks are in the order of `pattern`.
fn buffer(
    pattern: Pattern,
    len: usize,
    access: AccessMode,
    is_revocable: bool,
) -> Result<Exported<Buffer>> {
    let mut memory = Chunks::for_user(len, pattern.order())?;
    pattern.apply(&mut memory)?;

    let buffer = Buffer {
        chunks: memory.count(),
        runs: segments(&memory, Limits::NONE).count(),
        is_revocable,
    };
    export(memory, buffer, access)
}
