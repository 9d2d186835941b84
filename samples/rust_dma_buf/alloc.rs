// SPDX-License-Identifier: GPL-2.0

//! Allocation: `DMA_HEAP_IOCTL_ALLOC`.
//!
//! C: `dma_heap_ioctl()` ([`drivers/dma-buf/dma-heap.c`](srctree/drivers/dma-buf/dma-heap.c)),
//! [`include/uapi/linux/dma-heap.h`](srctree/include/uapi/linux/dma-heap.h)

use crate::{
    pattern::Pattern,
    Buffer, //
};
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
    Access,
    DmaBuf,
    Exported, //
};

/// `struct dma_heap_allocation_data`, which begins what the user sends.
struct Request {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

impl Request {
    /// `sizeof(struct dma_heap_allocation_data)`.
    const SIZE: usize = 24;
    /// Where in it the new file descriptor is.
    const FD: core::ops::Range<usize> = 8..12;

    /// # Errors
    ///
    /// - `EINVAL`: less than [`Request::SIZE`] bytes.
    fn parse(bytes: &[u8]) -> Result<Self> {
        Ok(Self {
            len: u64::from_ne_bytes(field(bytes, 0)?),
            fd: u32::from_ne_bytes(field(bytes, Self::FD.start)?),
            fd_flags: u32::from_ne_bytes(field(bytes, 12)?),
            heap_flags: u64::from_ne_bytes(field(bytes, 16)?),
        })
    }

    /// The length in whole pages, and the access mode.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there is something in it that no heap takes.
    fn check(&self) -> Result<(usize, Access)> {
        let known = flags::O_CLOEXEC | flags::O_ACCMODE;
        if self.fd != 0 || self.fd_flags & !known != 0 || self.heap_flags != 0 {
            return Err(EINVAL);
        }
        let access = Access::from_flags(self.fd_flags).ok_or(EINVAL)?;
        let len = usize::try_from(self.len)?.checked_next_multiple_of(PAGE_SIZE);
        Ok((len.filter(|&len| len != 0).ok_or(EINVAL)?, access))
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk);
    field.copied().ok_or(EINVAL)
}

/// Allocates a buffer as the user at `arg` asks for by `cmd`, and answers with its file descriptor.
///
/// The structure may be shorter than the one here, or longer: what is missing is zero, and what is
/// more goes back as it came. The descriptor is one that the process can use only when it was told
/// of it, so that none is lost.
///
/// Context: process context, may sleep.
///
/// # Errors
///
/// Those of `DMA_HEAP_IOCTL_ALLOC` in `rust_dma_buf.h`.
pub(crate) fn allocate(pattern: Pattern, cmd: u32, arg: UserPtr) -> Result {
    let size = |sample: u32| {
        if _IOC_DIR(cmd) & _IOC_DIR(sample) != 0 {
            _IOC_SIZE(cmd)
        } else {
            0
        }
    };
    let (received, sent) = (size(_IOW::<u8>(0, 0)), size(_IOR::<u8>(0, 0)));
    let mut data = KVec::from_elem(0, _IOC_SIZE(cmd).max(Request::SIZE), GFP_KERNEL)?;
    let head = data.get_mut(..received).ok_or(EINVAL)?;
    UserSlice::new(arg, received).reader().read_slice(head)?;

    let request = Request::parse(&data)?;
    let (len, access) = request.check()?;
    let buffer = buffer(pattern, len, access)?;
    let fd = FileDescriptorReservation::get_unused_fd_flags(request.fd_flags)?;

    let answer = data.get_mut(Request::FD).ok_or(EINVAL)?;
    answer.copy_from_slice(&fd.reserved_fd().to_ne_bytes());
    let head = data.get(..sent).ok_or(EINVAL)?;
    UserSlice::new(arg, sent).writer().write_slice(head)?;

    fd.fd_install(DmaBuf::into_file(buffer.into_dma_buf())?);
    Ok(())
}

fn buffer(pattern: Pattern, len: usize, access: Access) -> Result<Exported<Buffer>> {
    let mut memory = Chunks::for_user(len, pattern.order())?;
    pattern.apply(&mut memory)?;

    let buffer = Buffer {
        chunks: memory.count(),
        runs: segments(&memory, Limits::NONE).count(),
    };
    export(memory, buffer, access)
}
