// SPDX-License-Identifier: GPL-2.0

//! Files of a disk, opened in the kernel.

use crate::buffers::settle;
use core::ptr;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*, //
};

/// A file that the kernel has opened.
pub(crate) struct File(*mut bindings::file);

impl File {
    /// Opens `path` as process 1 sees it: the thread of a test has no file systems.
    pub(crate) fn open(path: &CStr) -> Result<Self> {
        Self::open_for(path, bindings::O_RDONLY)
    }

    pub(crate) fn open_for(path: &CStr, flags: u32) -> Result<Self> {
        let this = kernel::current!().as_ptr();
        // SAFETY: process 1 is always there: the reference that this takes is never missed.
        let first = unsafe {
            bindings::get_pid_task(bindings::find_get_pid(1), bindings::pid_type_PIDTYPE_PID)
        };
        // SAFETY: the field is this task's own, and put back before anybody else looks at it; the
        // path is valid. CAST: flags are small.
        let file = unsafe {
            let fs = core::mem::replace(&mut (*this).fs, (*first).fs);
            let file = bindings::filp_open(path.as_char_ptr(), flags as i32, 0);
            (*this).fs = fs;
            file
        };
        from_err_ptr(file).map(Self)
    }

    /// Reads the beginning of the file.
    pub(crate) fn read(&self, to: &mut [u8]) -> Result<usize> {
        self.read_at(to, 0)
    }

    pub(crate) fn read_at(&self, to: &mut [u8], mut at: bindings::loff_t) -> Result<usize> {
        // SAFETY: the file is open, and the buffer valid.
        let read =
            unsafe { bindings::kernel_read(self.0, to.as_mut_ptr().cast(), to.len(), &mut at) };
        // CAST: an errno, or at most the length.
        if read < 0 {
            Err(Error::from_errno(read as i32))
        } else {
            Ok(read as usize)
        }
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Result {
        let mut at = 0;
        // SAFETY: the file is open, and the buffer valid.
        let written =
            unsafe { bindings::kernel_write(self.0, bytes.as_ptr().cast(), bytes.len(), &mut at) };
        // CAST: an errno.
        kernel::error::to_result(written.min(0) as i32)
    }

    /// Returns the disk's geometry: heads, sectors, cylinders.
    pub(crate) fn geometry(&self) -> Result<(u8, u8, u16)> {
        /// `struct hd_geometry`
        #[repr(C)]
        #[derive(Default)]
        struct HdGeometry {
            heads: u8,
            sectors: u8,
            cylinders: u16,
            start: usize,
        }
        let mut geometry = HdGeometry::default();
        // SAFETY: the file is that of a block device, which is there while it is open, and its
        // disk.
        let disk = unsafe { (*bindings::file_bdev(self.0)).bd_disk };
        // SAFETY: the disk is there while its file is open.
        let getgeo = unsafe { (*(*disk).fops).getgeo }.ok_or(ENOTTY)?;
        // SAFETY: both are valid.
        kernel::error::to_result(unsafe { getgeo(disk, (&raw mut geometry).cast()) })?;
        Ok((geometry.heads, geometry.sectors, geometry.cylinders))
    }
}

// SAFETY: an open file belongs to no thread.
unsafe impl Send for File {}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: it is open, and was opened by the kernel.
        unsafe { bindings::filp_close(self.0, ptr::null_mut()) };
        settle();
    }
}

pub(crate) fn read(path: &CStr) -> Result<KVec<u8>> {
    let mut bytes = KVec::from_elem(0, 8192, GFP_KERNEL)?;
    let len = File::open(path)?.read(&mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}
