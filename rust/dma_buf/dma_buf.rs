// SPDX-License-Identifier: GPL-2.0

//! A reference to a dma-buf.
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h)

use crate::bindings as helpers;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
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

/// A dma-buf, whoever exported it.
///
/// A reference to it keeps the memory and the module of the exporter.
#[repr(transparent)]
pub struct DmaBuf(Opaque<bindings::dma_buf>);

// SAFETY: a dma-buf has no thread; references to it are counted atomically.
unsafe impl Send for DmaBuf {}

// SAFETY: what can be done with a shared reference takes the locks that it needs.
unsafe impl Sync for DmaBuf {}

// SAFETY: the reference count of a dma-buf is that of its file.
unsafe impl AlwaysRefCounted for DmaBuf {
    fn inc_ref(&self) {
        // SAFETY: there is a reference, as there is `self`.
        unsafe { helpers::phyr_dma_buf_helper_get_dma_buf(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: the caller gives up a reference.
        unsafe { bindings::dma_buf_put(obj.cast().as_ptr()) };
    }
}

impl DmaBuf {
    /// The dma-buf behind the file descriptor `fd` of the current process.
    ///
    /// Context: process context.
    ///
    /// # Errors
    ///
    /// - `EBADF`: no open file has this number.
    /// - `EINVAL`: the file is no dma-buf.
    pub fn get(fd: i32) -> Result<ARef<Self>> {
        fail::at(Point::dma_buf_get)?;
        // SAFETY: may be asked for any number.
        let buf = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        // SAFETY: a reference was just taken.
        unsafe { Self::from_owned(buf) }
    }

    /// # Errors
    ///
    /// - `EINVAL`: `buf` is null.
    ///
    /// # Safety
    ///
    /// `buf` is null, or a valid dma-buf of which the caller gives up a reference.
    pub(crate) unsafe fn from_owned(buf: *mut bindings::dma_buf) -> Result<ARef<Self>> {
        let buf = NonNull::new(buf.cast()).ok_or(EINVAL)?;
        // SAFETY: by the requirements of this function.
        Ok(unsafe { ARef::from_raw(buf) })
    }

    /// # Safety
    ///
    /// `buf` is a valid dma-buf, which is there for all of `'a`.
    pub(super) unsafe fn from_raw<'a>(buf: *mut bindings::dma_buf) -> &'a Self {
        // SAFETY: by the requirements of this function; the wrapper is transparent.
        unsafe { &*buf.cast() }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::dma_buf {
        self.0.get()
    }

    pub(super) fn file(&self) -> *mut bindings::file {
        // SAFETY: the dma-buf is valid, and the field is never written.
        unsafe { (*self.as_raw()).file }
    }

    /// Its length in bytes, which never changes.
    pub fn size(&self) -> usize {
        // SAFETY: the dma-buf is valid, and the field is never written.
        unsafe { (*self.as_raw()).size }
    }

    /// Whether its file was opened for reading. There is one file a buffer: who exported it has
    /// chosen.
    pub fn is_readable(&self) -> bool {
        // SAFETY: the file is valid as long as the dma-buf is.
        unsafe { helpers::phyr_dma_buf_helper_file_readable(self.file()) }
    }

    /// Whether its file was opened for writing.
    pub fn is_writable(&self) -> bool {
        // SAFETY: as above.
        unsafe { helpers::phyr_dma_buf_helper_file_writable(self.file()) }
    }

    /// Checks that the file allows accesses by a device in the direction `dir`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `dir` is [`DataDirection::None`].
    /// - `EACCES`: the device would read what was not opened for reading, or write what was not
    ///   opened for writing.
    pub fn check_access(&self, dir: DataDirection) -> Result {
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

    /// Gives the current process a file descriptor of the buffer, which then holds the reference.
    ///
    /// `flags` may have `O_CLOEXEC`. The process may use it, and close it, before this returns.
    ///
    /// Context: process context.
    ///
    /// # Errors
    ///
    /// - `EMFILE`, `ENOMEM`: the process can have no more of them; the reference is dropped.
    pub fn into_fd(this: ARef<Self>, flags: u32) -> Result<i32> {
        fail::at(Point::dma_buf_fd)?;
        // SAFETY: the dma-buf is valid; where this succeeds the descriptor takes the reference.
        // CAST: C takes the bits of an `int`.
        let fd = unsafe { bindings::dma_buf_fd(this.as_raw(), flags as i32) };

        to_result(fd.min(0))?;
        core::mem::forget(this);
        Ok(fd)
    }

    /// The buffer's file, for a file descriptor that was reserved before
    /// ([`FileDescriptorReservation`](kernel::fs::file::FileDescriptorReservation)).
    pub fn into_file(this: ARef<Self>) -> Result<ARef<File>> {
        let file = NonNull::new(this.file()).ok_or(EINVAL)?;

        core::mem::forget(this);
        // SAFETY: the reference to the dma-buf was one to its file. A file that came from nowhere
        // but here has no users that rely on being the only thread; one that came from a
        // descriptor was taken by `fget()`, which counts.
        Ok(unsafe { ARef::from_raw(file.cast()) })
    }
}
