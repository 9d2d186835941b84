// SPDX-License-Identifier: GPL-2.0

//! A reference to a dma-buf.
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h)

use crate::bindings as helpers;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::from_err_ptr,
    fs::File,
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    DataDirection, //
};

/// A `struct dma_buf`, of any exporter.
///
/// A reference keeps the memory and the module of the exporter.
#[repr(transparent)]
pub struct DmaBuf(Opaque<bindings::dma_buf>);

// SAFETY: A `struct dma_buf` belongs to no thread, and its references are counted atomically.
unsafe impl Send for DmaBuf {}

// SAFETY: The methods that take a shared reference take the locks that they need.
unsafe impl Sync for DmaBuf {}

// SAFETY: The reference count of a dma-buf is that of its file.
unsafe impl AlwaysRefCounted for DmaBuf {
    fn inc_ref(&self) {
        // SAFETY: `self` is a reference, so the count is not zero.
        unsafe { helpers::phyr_dma_buf_helper_get_dma_buf(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up one reference to `obj`.
        unsafe { bindings::dma_buf_put(obj.cast().as_ptr()) };
    }
}

impl DmaBuf {
    /// Returns the dma-buf behind the file descriptor `fd` of the current process.
    ///
    /// Context: process context.
    ///
    /// # Errors
    ///
    /// - `EBADF`: no open file has this number.
    /// - `EINVAL`: the file is no dma-buf.
    pub fn get(fd: i32) -> Result<ARef<Self>> {
        fail::at(Point::dma_buf_get)?;
        // SAFETY: `dma_buf_get()` takes any number.
        let buf = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        // SAFETY: `dma_buf_get()` took a reference to `buf`, which is given up here.
        unsafe { Self::from_owned(buf) }
    }

    /// Takes over one reference to `buf`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `buf` is null.
    ///
    /// # Safety
    ///
    /// `buf` is null, or a valid dma-buf of which the caller gives up a reference.
    pub(crate) unsafe fn from_owned(buf: *mut bindings::dma_buf) -> Result<ARef<Self>> {
        let buf = NonNull::new(buf.cast()).ok_or(EINVAL)?;
        // SAFETY: `buf` is not null, so it is valid, and the caller gives up a reference to it.
        Ok(unsafe { ARef::from_raw(buf) })
    }

    /// Borrows `buf`.
    ///
    /// # Safety
    ///
    /// `buf` is a valid dma-buf for all of `'a`.
    pub(crate) unsafe fn from_raw<'a>(buf: *mut bindings::dma_buf) -> &'a Self {
        // SAFETY: `buf` is valid for `'a`, and `DmaBuf` is a transparent wrapper.
        unsafe { &*buf.cast() }
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::dma_buf {
        self.0.get()
    }

    fn file(&self) -> *mut bindings::file {
        // SAFETY: The dma-buf is valid, and the field is never written.
        unsafe { (*self.as_raw()).file }
    }

    /// Returns the length in bytes, which never changes.
    pub fn size(&self) -> usize {
        // SAFETY: The dma-buf is valid, and the field is never written.
        unsafe { (*self.as_raw()).size }
    }

    fn is_readable(&self) -> bool {
        // SAFETY: The file is valid as long as the dma-buf is.
        unsafe { helpers::phyr_dma_buf_helper_file_readable(self.file()) }
    }

    /// Returns whether the file was opened for writing.
    ///
    /// A buffer has one file, and its exporter chose the mode.
    pub fn is_writable(&self) -> bool {
        // SAFETY: The file is valid as long as the dma-buf is.
        unsafe { helpers::phyr_dma_buf_helper_file_writable(self.file()) }
    }

    /// Checks that the file's mode allows a device to access the buffer in the direction `dir`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `dir` is [`DataDirection::None`].
    /// - `EACCES`: the device would read what was not opened for reading, or write what was not
    ///   opened for writing.
    pub(crate) fn check_access(&self, dir: DataDirection) -> Result {
        let (reads, writes) = match dir {
            DataDirection::ToDevice => (true, false),
            DataDirection::FromDevice => (false, true),
            DataDirection::Bidirectional => (true, true),
            DataDirection::None => return Err(EINVAL),
        };
        if (reads && !self.is_readable()) || (writes && !self.is_writable()) {
            return Err(EACCES);
        }
        Ok(())
    }

    /// Turns the reference into one to the buffer's file.
    ///
    /// For a file descriptor that was reserved before
    /// ([`FileDescriptorReservation`](kernel::fs::file::FileDescriptorReservation)).
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the buffer has no file; the reference is dropped. This does not happen.
    pub fn into_file(this: ARef<Self>) -> Result<ARef<File>> {
        let file = NonNull::new(this.file()).ok_or(EINVAL)?;

        core::mem::forget(this);
        // SAFETY: A reference to a dma-buf is one to its file. A file that came from nowhere but
        // here has no users that rely on being the only thread; one that came from a descriptor
        // was taken by `fget()`, which counts.
        Ok(unsafe { ARef::from_raw(file.cast()) })
    }
}
