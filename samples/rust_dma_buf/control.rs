// SPDX-License-Identifier: GPL-2.0

//! Commands on a buffer: `RUST_DMA_BUF_IOCTL_REVOKE`, `RUST_DMA_BUF_IOCTL_INFO`.

use crate::Buffer;
use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use phyr_dma_buf::{
    DmaBuf,
    Exported, //
};

/// `sizeof(struct rust_dma_buf_info)`.
const INFO_SIZE: usize = 40;

/// Returns the buffer with the file descriptor `fd`.
///
/// # Errors
///
/// - `EBADF`: not a file descriptor.
/// - `EINVAL`: not a buffer of this heap.
fn buffer(fd: i32) -> Result<Exported<Buffer>> {
    Exported::of(DmaBuf::get(fd)?)
}

/// Revokes the buffer whose file descriptor is at `arg`.
///
/// Context: process context, may sleep.
///
/// # Errors
///
/// - Those of [`buffer`] and [`Exported::revoke`].
/// - `EACCES`: the file is for reading only, which is no right to take the buffer from others.
/// - `EFAULT`: `arg` cannot be read.
pub(crate) fn revoke(arg: UserPtr) -> Result {
    let fd = UserSlice::new(arg, size_of::<i32>()).reader().read()?;
    let buffer = buffer(fd)?;
    if !buffer.dma_buf().is_writable() {
        return Err(EACCES);
    }
    buffer.revoke()
}

/// Describes the buffer whose file descriptor is at `arg`.
///
/// Context: process context, may sleep.
///
/// # Errors
///
/// - Those of [`buffer`].
/// - `EFAULT`: `arg` cannot be read or written.
pub(crate) fn info(arg: UserPtr) -> Result {
    let (mut reader, mut writer) = UserSlice::new(arg, INFO_SIZE).reader_writer();
    let fd = reader.read::<i32>()?;
    let buffer = buffer(fd)?;
    let exporter = buffer.exporter();
    let (attachments, mappings) = buffer.counts();

    writer.write(&fd)?;
    writer.write(&u32::from(buffer.is_revoked()))?;
    writer.write(&u64::try_from(buffer.dma_buf().size())?)?;
    writer.write(&u64::try_from(exporter.chunks)?)?;
    writer.write(&u64::try_from(exporter.runs)?)?;
    writer.write(&u32::try_from(attachments)?)?;
    writer.write(&u32::try_from(mappings)?)
}
