// SPDX-License-Identifier: GPL-2.0

//! Access by the CPU, from the kernel: [`CpuAccess`].
//!
//! Each access is between `dma_buf_begin_cpu_access()`, which waits for what devices were asked to
//! do before and makes what they wrote visible, and `dma_buf_end_cpu_access()`.

use crate::{
    bindings as helpers,
    dma_buf::DmaBuf, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::aref::ARef, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    DataDirection, //
};

/// A buffer mapped for the kernel by `dma_buf_vmap()`, until this is dropped. See [`DmaBuf::cpu`].
///
/// # Invariants
///
/// `map` is what `dma_buf_vmap()` set, between begin and end of an access in the direction `dir`.
pub struct CpuAccess {
    buf: ARef<DmaBuf>,
    map: bindings::iosys_map,
    dir: DataDirection,
}

// SAFETY: A mapping in the kernel's address space is the same for every thread.
unsafe impl Send for CpuAccess {}

impl DmaBuf {
    /// Gives the CPU access to the buffer until the returned guard is dropped.
    ///
    /// `dir` is as in `DMA_BUF_IOCTL_SYNC`: from the device is for reading, to the device for
    /// writing. The driver sees to it that its device does not access the buffer meanwhile.
    ///
    /// Context: process context, may sleep. Not with the buffer's reservation lock.
    ///
    /// # Errors
    ///
    /// - `EACCES`: the file was not opened for the accesses that `dir` allows.
    /// - `ENODEV`: the buffer is revoked.
    /// - `EINVAL`: its exporter offers no such access.
    /// - `ENOMEM`: no memory, or no room in the address space.
    /// - `ERESTARTSYS`: a signal came.
    /// - What else its exporter fails with.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::prelude::*;
    /// use phyr::DataDirection;
    /// use phyr_dma_buf::DmaBuf;
    ///
    /// fn header(buf: &DmaBuf) -> Result<[u8; 16]> {
    ///     let mut header = [0; 16];
    ///     buf.cpu(DataDirection::FromDevice)?.read(0, &mut header)?;
    ///     Ok(header)
    /// }
    ///
    /// fn set_header(buf: &DmaBuf, header: &[u8; 16]) -> Result {
    ///     buf.cpu(DataDirection::ToDevice)?.write(0, header)
    /// }
    /// ```
    pub fn cpu(&self, dir: DataDirection) -> Result<CpuAccess> {
        // A device that writes is for the CPU to read, which takes a file opened for reading.
        self.check_access(match dir {
            DataDirection::ToDevice => DataDirection::FromDevice,
            DataDirection::FromDevice => DataDirection::ToDevice,
            dir => dir,
        })?;
        fail::at(Point::dma_buf_begin_cpu_access)?;
        // SAFETY: The dma-buf is valid.
        to_result(unsafe { bindings::dma_buf_begin_cpu_access(self.as_raw(), dir.into()) })?;

        let mut map = bindings::iosys_map::default();
        fail::at(Point::dma_buf_vmap_unlocked)
            .and_then(|()| {
                // SAFETY: The dma-buf is valid and `map` may be written.
                to_result(unsafe { bindings::dma_buf_vmap_unlocked(self.as_raw(), &mut map) })
            })
            .inspect_err(|_| self.end_cpu_access(dir))?;
        // INVARIANT: The access has begun, and `map` has just been set.
        Ok(CpuAccess {
            buf: self.into(),
            map,
            dir,
        })
    }

    fn end_cpu_access(&self, dir: DataDirection) {
        // SAFETY: The dma-buf is valid. It may fail, but there is nothing that could be done.
        let _ = unsafe { bindings::dma_buf_end_cpu_access(self.as_raw(), dir.into()) };
    }
}

impl CpuAccess {
    /// Checks that the bytes are in the buffer, and that `self.dir` is not `other`.
    fn check(&self, offset: usize, len: usize, other: DataDirection) -> Result {
        if self.dir == other {
            return Err(EACCES);
        }
        match offset.checked_add(len) {
            Some(end) if end <= self.buf.size() => Ok(()),
            _ => Err(EINVAL),
        }
    }

    /// Copies from the buffer at `offset` to `to`.
    ///
    /// # Errors
    ///
    /// - `EACCES`: the access is for writing only.
    /// - `EINVAL`: the buffer ends before.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.check(offset, to.len(), DataDirection::ToDevice)?;
        // SAFETY: `map` is a mapping of the buffer by the type invariants, the bytes are within it,
        // and `to` may be written.
        unsafe {
            helpers::phyr_dma_buf_helper_iosys_map_read(
                to.as_mut_ptr().cast(),
                &self.map,
                offset,
                to.len(),
            )
        };
        Ok(())
    }

    /// Copies `from` to the buffer at `offset`.
    ///
    /// # Errors
    ///
    /// - `EACCES`: the access is for reading only.
    /// - `EINVAL`: the buffer ends before.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.check(offset, from.len(), DataDirection::FromDevice)?;
        // SAFETY: `map` is a mapping of the buffer by the type invariants, the bytes are within it,
        // and `from` may be read.
        unsafe {
            helpers::phyr_dma_buf_helper_iosys_map_write(
                &mut self.map,
                offset,
                from.as_ptr().cast(),
                from.len(),
            )
        };
        Ok(())
    }
}

impl Drop for CpuAccess {
    fn drop(&mut self) {
        // SAFETY: `map` is what `dma_buf_vmap()` set by the type invariants, and is not used again.
        unsafe { bindings::dma_buf_vunmap_unlocked(self.buf.as_raw(), &mut self.map) };
        self.buf.end_cpu_access(self.dir);
    }
}
