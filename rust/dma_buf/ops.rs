// SPDX-License-Identifier: GPL-2.0

//! `struct dma_buf_ops`: the functions that C calls for a buffer of this crate.
//!
//! The operations are the same for each exporter, so that their address tells a buffer of this
//! crate from others.
//!
//! `pin` and `unpin` are there although the memory never moves: with them C takes the reservation
//! lock around every map and unmap, and tells the exporter of importers that hold on to a buffer.

use crate::{
    bindings as helpers,
    buffer::Buffer,
    dma_buf::DmaBuf,
    exporter::AttachmentRef,
    resv::ResvGuard, //
};
use core::{
    mem::ManuallyDrop,
    pin::Pin, //
};
use kernel::{
    bindings,
    error::from_result,
    prelude::*,
    types::ForeignOwnable, //
};
use phyr::DataDirection;

/// Operations of a buffer that only devices access.
static DEVICE_ONLY: bindings::dma_buf_ops = bindings::dma_buf_ops {
    attach: Some(attach),
    detach: Some(detach),
    pin: Some(pin),
    unpin: Some(unpin),
    map_dma_buf: Some(map),
    unmap_dma_buf: Some(unmap),
    release: Some(release),
    begin_cpu_access: Some(begin_cpu_access),
    end_cpu_access: Some(end_cpu_access),
    mmap: None,
    vmap: None,
    vunmap: None,
};

/// Operations of a buffer of pages.
static MMAP_VMAP: bindings::dma_buf_ops = bindings::dma_buf_ops {
    mmap: Some(mmap),
    vmap: Some(vmap),
    vunmap: Some(vunmap),
    ..DEVICE_ONLY
};

/// Returns the operations to export a buffer with, whose memory is pages if `mmap_vmap`.
pub(crate) fn ops(mmap_vmap: bool) -> *const bindings::dma_buf_ops {
    if mmap_vmap {
        &raw const MMAP_VMAP
    } else {
        &raw const DEVICE_ONLY
    }
}

impl DmaBuf {
    /// Returns the private data of the dma-buf if it is one of this crate.
    pub(crate) fn buffer(&self) -> Option<&Buffer> {
        // SAFETY: The dma-buf is valid, and these fields are never written.
        let (ops, private) = unsafe { ((*self.as_raw()).ops, (*self.as_raw()).priv_) };

        if ops != &raw const MMAP_VMAP && ops != &raw const DEVICE_ONLY {
            return None;
        }
        // SAFETY: A dma-buf with these operations was exported by `export`, with a pointer of this
        // type. `release` takes it back when there is no reference any more.
        Some(unsafe { <Pin<KBox<Buffer>>>::borrow(private) }.get_ref())
    }
}

/// Returns the dma-buf of a callback, and its private data.
///
/// # Safety
///
/// `buf` is a dma-buf with operations of this file, valid for all of `'a`.
unsafe fn buffer_of<'a>(buf: *mut bindings::dma_buf) -> Result<(&'a DmaBuf, &'a Buffer)> {
    // SAFETY: The caller passes a dma-buf that is valid for `'a`.
    let buf: &'a DmaBuf = unsafe { DmaBuf::from_raw(buf) };
    Ok((buf, buf.buffer().ok_or(EINVAL)?))
}

/// Returns the attachment of a callback, with its dma-buf and private data.
///
/// # Safety
///
/// `attach` is an attachment to a dma-buf with operations of this file, valid for all of `'a`.
unsafe fn attachment_of<'a>(
    attach: *mut bindings::dma_buf_attachment,
) -> Result<(&'a DmaBuf, &'a Buffer, AttachmentRef<'a>)> {
    // SAFETY: The caller passes an attachment that is valid for `'a`, and so its dma-buf is.
    let (buf, buffer) = unsafe { buffer_of((*attach).dmabuf) }?;
    // SAFETY: The caller passes an attachment that is valid for `'a`.
    Ok((buf, buffer, unsafe { AttachmentRef::from_raw(attach) }))
}

/// Returns the attachment of a callback for which C holds the lock, with the lock.
///
/// # Safety
///
/// `attach` is an attachment to a dma-buf with operations of this file, valid for all of `'a`. This
/// thread holds the lock for as long, and borrows nothing that it guards.
unsafe fn locked<'a>(
    attach: *mut bindings::dma_buf_attachment,
) -> Result<(&'a Buffer, ManuallyDrop<ResvGuard<'a>>, AttachmentRef<'a>)> {
    // SAFETY: The caller passes an attachment to such a dma-buf, which is valid for `'a`.
    let (buf, buffer, attachment) = unsafe { attachment_of(attach) }?;
    // SAFETY: The caller holds the lock for `'a`, and borrows nothing that it guards.
    Ok((buffer, unsafe { buf.resv_locked_by_c() }, attachment))
}

fn direction(dir: bindings::dma_data_direction) -> Result<DataDirection> {
    match dir {
        bindings::dma_data_direction::DMA_BIDIRECTIONAL => Ok(DataDirection::Bidirectional),
        bindings::dma_data_direction::DMA_TO_DEVICE => Ok(DataDirection::ToDevice),
        bindings::dma_data_direction::DMA_FROM_DEVICE => Ok(DataDirection::FromDevice),
        _ => Err(EINVAL),
    }
}

/// # Safety
///
/// `attach` is a valid attachment to a buffer with these operations.
unsafe extern "C" fn attach(
    _buf: *mut bindings::dma_buf,
    attach: *mut bindings::dma_buf_attachment,
) -> c_int {
    from_result(|| {
        // SAFETY: C passes a valid attachment to a buffer with these operations.
        let (buf, buffer, attachment) = unsafe { attachment_of(attach) }?;
        buffer.attach(buf, &attachment)?;
        Ok(0)
    })
}

/// # Safety
///
/// `attach` is a valid attachment for which [`attach`] succeeded.
unsafe extern "C" fn detach(
    _buf: *mut bindings::dma_buf,
    attach: *mut bindings::dma_buf_attachment,
) {
    // SAFETY: C passes a valid attachment to a buffer with these operations.
    if let Ok((buf, buffer, attachment)) = unsafe { attachment_of(attach) } {
        buffer.detach(buf, &attachment);
    }
}

/// # Safety
///
/// `attach` is a valid attachment to a buffer with these operations, whose lock is held.
unsafe extern "C" fn pin(attach: *mut bindings::dma_buf_attachment) -> c_int {
    from_result(|| {
        // SAFETY: C passes a valid attachment to a buffer with these operations, and holds the
        // lock.
        let (buffer, mut lock, attachment) = unsafe { locked(attach) }?;
        buffer.pin(&mut lock, &attachment)?;
        Ok(0)
    })
}

/// # Safety
///
/// `attach` is a valid attachment for which [`pin`] succeeded; the lock is held.
unsafe extern "C" fn unpin(attach: *mut bindings::dma_buf_attachment) {
    // SAFETY: C passes a valid attachment to a buffer with these operations, and holds the lock.
    if let Ok((buffer, mut lock, attachment)) = unsafe { locked(attach) } {
        buffer.unpin(&mut lock, &attachment);
    }
}

/// # Safety
///
/// `attach` is a valid attachment to a buffer with these operations, whose lock is held.
unsafe extern "C" fn map(
    attach: *mut bindings::dma_buf_attachment,
    dir: bindings::dma_data_direction,
) -> *mut bindings::sg_table {
    let map = || {
        // SAFETY: C passes a valid attachment to a buffer with these operations. It holds the lock,
        // as there is a `pin`.
        let (buffer, mut lock, attachment) = unsafe { locked(attach) }?;
        buffer.map(&mut lock, &attachment, direction(dir)?)
    };
    map().unwrap_or_else(Error::to_ptr)
}

/// # Safety
///
/// `attach` is a valid attachment to a buffer with these operations, whose lock is held. `sgt` is
/// not used again.
unsafe extern "C" fn unmap(
    attach: *mut bindings::dma_buf_attachment,
    sgt: *mut bindings::sg_table,
    _dir: bindings::dma_data_direction,
) {
    // SAFETY: C passes a valid attachment to a buffer with these operations. It holds the lock, as
    // there is a `pin`.
    if let Ok((buffer, mut lock, attachment)) = unsafe { locked(attach) } {
        buffer.unmap(&mut lock, &attachment, sgt);
    }
}

/// # Safety
///
/// `buf` is a valid buffer with these operations, whose lock is not held.
unsafe extern "C" fn begin_cpu_access(
    buf: *mut bindings::dma_buf,
    dir: bindings::dma_data_direction,
) -> c_int {
    from_result(|| {
        // SAFETY: C passes a valid buffer with these operations.
        let (buf, buffer) = unsafe { buffer_of(buf) }?;
        buffer.begin_cpu_access(buf, direction(dir)?)?;
        Ok(0)
    })
}

/// # Safety
///
/// `buf` is a valid buffer with these operations, whose lock is not held.
unsafe extern "C" fn end_cpu_access(
    buf: *mut bindings::dma_buf,
    dir: bindings::dma_data_direction,
) -> c_int {
    from_result(|| {
        // SAFETY: C passes a valid buffer with these operations.
        let (buf, buffer) = unsafe { buffer_of(buf) }?;
        buffer.end_cpu_access(buf, direction(dir)?);
        Ok(0)
    })
}

/// # Safety
///
/// `buf` is a valid buffer with [`MMAP_VMAP`], for which `vma` is being set up.
unsafe extern "C" fn mmap(
    buf: *mut bindings::dma_buf,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    from_result(|| {
        // SAFETY: C passes a valid buffer with these operations.
        let (buf, buffer) = unsafe { buffer_of(buf) }?;
        // SAFETY: C sets `vma` up for `buf`, which is pages, as it has an `mmap`.
        unsafe { buffer.mmap(buf, vma) }?;
        Ok(0)
    })
}

/// Maps a buffer into the kernel's address space, even a revoked one: `dma_buf_vmap()` warns of
/// every failure, and the memory is there as long as the buffer is. `begin_cpu_access` fails then,
/// but not each importer calls it.
///
/// # Safety
///
/// `buf` is a valid buffer with [`MMAP_VMAP`]; `map` may be written.
unsafe extern "C" fn vmap(buf: *mut bindings::dma_buf, map: *mut bindings::iosys_map) -> c_int {
    from_result(|| {
        // SAFETY: C passes a valid buffer with these operations.
        let (_, buffer) = unsafe { buffer_of(buf) }?;
        let addr = buffer.backing().vmap()?;
        // SAFETY: C passes a `map` to write to.
        unsafe { helpers::phyr_dma_buf_helper_iosys_map_set(map, addr.as_ptr().cast()) };
        Ok(0)
    })
}

/// # Safety
///
/// `map` is what [`vmap`] set, and is not used again.
unsafe extern "C" fn vunmap(_buf: *mut bindings::dma_buf, map: *mut bindings::iosys_map) {
    // SAFETY: C passes what `vmap` set, which is not I/O memory.
    let addr = unsafe { (*map).__bindgen_anon_1.vaddr };
    // SAFETY: `vmap` mapped this range, and C does not use it again.
    unsafe { phyr::bindings::phyr_helper_vunmap(addr) };
}

/// # Safety
///
/// `buf` is a buffer with these operations, to which there are no references any more.
unsafe extern "C" fn release(buf: *mut bindings::dma_buf) {
    // SAFETY: C passes a buffer with these operations, which is valid until this returns.
    if let Ok((_, buffer)) = unsafe { buffer_of(buf) } {
        if let Some(memory) = buffer.backing().bar_memory() {
            memory.released();
        }
    }
    // SAFETY: `priv_` is what `export` gave the buffer, and nobody else uses it any more.
    let mut buffer = unsafe { <Pin<KBox<Buffer>>>::from_foreign((*buf).priv_) };

    if buffer.as_mut().is_mapped() {
        // A device may still get at the memory.
        pr_err!("dma-buf: an importer has not unmapped; the memory is leaked\n");
        core::mem::forget(buffer);
    }
}
