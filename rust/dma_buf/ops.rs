// SPDX-License-Identifier: GPL-2.0

//! `struct dma_buf_ops`: how C calls a buffer of this project.
//!
//! The callbacks are the same for each exporter, so that the address of the operations tells a
//! buffer of this project from others.
//!
//! `pin` and `unpin` are there although the memory never moves: they are what makes C take the
//! reservation lock around every map and unmap, and tell the exporter of importers that hold on to
//! a buffer.

use super::{
    buffer::Buffer,
    exporter::Importing,
    DmaBuf, //
};
use crate::bindings as helpers;
use core::{
    pin::Pin,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::from_result,
    prelude::*,
    types::ForeignOwnable, //
};
use phyr::DataDirection;

/// Operations of a buffer that only devices get at.
static UNPAGED: bindings::dma_buf_ops = bindings::dma_buf_ops {
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
static PAGED: bindings::dma_buf_ops = bindings::dma_buf_ops {
    mmap: Some(mmap),
    vmap: Some(vmap),
    vunmap: Some(vunmap),
    ..UNPAGED
};

/// The operations to export a buffer with, whose memory is pages if `paged`.
pub(super) fn ops(paged: bool) -> *const bindings::dma_buf_ops {
    if paged {
        &raw const PAGED
    } else {
        &raw const UNPAGED
    }
}

impl DmaBuf {
    /// What is behind the dma-buf, if it is one of this project.
    pub(super) fn buffer(&self) -> Option<&Buffer> {
        // SAFETY: the dma-buf is valid, and these fields are never written.
        let (ops, private) = unsafe { ((*self.as_raw()).ops, (*self.as_raw()).priv_) };

        if ops != &raw const PAGED && ops != &raw const UNPAGED {
            return None;
        }
        // SAFETY: `export` gave these operations only a pointer of this type, which `release`
        // takes back, when there is no reference any more.
        Some(unsafe { <Pin<KBox<Buffer>>>::borrow(private) }.get_ref())
    }
}

/// The dma-buf of a callback, and what is behind it.
///
/// # Safety
///
/// `buf` is a dma-buf with one of the operations of this file, and is there for all of `'a`.
unsafe fn both<'a>(buf: *mut bindings::dma_buf) -> Result<(&'a DmaBuf, &'a Buffer)> {
    // SAFETY: by the requirements of this function.
    let buf: &'a DmaBuf = unsafe { DmaBuf::from_raw(buf) };
    Ok((buf, buf.buffer().ok_or(EINVAL)?))
}

/// # Safety
///
/// `attach` is a valid attachment, with its dma-buf, for all of `'a`.
unsafe fn parts<'a>(
    attach: *mut bindings::dma_buf_attachment,
) -> Result<(&'a DmaBuf, &'a Buffer, Importing<'a>)> {
    // SAFETY: by the requirements of this function.
    let (buf, buffer) = unsafe { both((*attach).dmabuf) }?;
    // SAFETY: as above.
    Ok((buf, buffer, unsafe { Importing::from_raw(attach) }))
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
        // SAFETY: by the requirements of this function.
        let (buf, buffer, importer) = unsafe { parts(attach) }?;
        buffer.attach(buf, &importer)?;
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
    // SAFETY: by the requirements of this function.
    if let Ok((buf, buffer, importer)) = unsafe { parts(attach) } {
        buffer.detach(buf, &importer);
    }
}

/// # Safety
///
/// `attach` is a valid attachment to a buffer with these operations, whose lock is held.
unsafe extern "C" fn pin(attach: *mut bindings::dma_buf_attachment) -> c_int {
    from_result(|| {
        // SAFETY: by the requirements of this function.
        let (buf, buffer, importer) = unsafe { parts(attach) }?;
        // SAFETY: as above.
        buffer.pin(&mut *unsafe { buf.reserved() }, &importer)?;
        Ok(0)
    })
}

/// # Safety
///
/// `attach` is a valid attachment for which [`pin`] succeeded; the lock is held.
unsafe extern "C" fn unpin(attach: *mut bindings::dma_buf_attachment) {
    // SAFETY: by the requirements of this function.
    if let Ok((buf, buffer, importer)) = unsafe { parts(attach) } {
        // SAFETY: as above.
        buffer.unpin(&mut *unsafe { buf.reserved() }, &importer);
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
        // SAFETY: by the requirements of this function.
        let (buf, buffer, importer) = unsafe { parts(attach) }?;
        // SAFETY: as above: C takes the lock, as there is a `pin`.
        buffer.map(&mut *unsafe { buf.reserved() }, &importer, direction(dir)?)
    };
    map().unwrap_or_else(Error::to_ptr)
}

/// # Safety
///
/// `sgt` is what [`map`] gave for the valid `attach`, and is not used again; the lock is held.
unsafe extern "C" fn unmap(
    attach: *mut bindings::dma_buf_attachment,
    sgt: *mut bindings::sg_table,
    _dir: bindings::dma_data_direction,
) {
    // SAFETY: by the requirements of this function.
    if let Ok((buf, buffer, importer)) = unsafe { parts(attach) } {
        // SAFETY: as above.
        unsafe { buffer.unmap(&mut buf.reserved(), &importer, sgt) };
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
        // SAFETY: by the requirements of this function.
        let (buf, buffer) = unsafe { both(buf) }?;
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
        // SAFETY: by the requirements of this function.
        let (buf, buffer) = unsafe { both(buf) }?;
        buffer.end_cpu_access(buf, direction(dir)?);
        Ok(0)
    })
}

/// # Safety
///
/// `buf` is a valid buffer of pages with these operations, for which `vma` is being set up.
unsafe extern "C" fn mmap(
    buf: *mut bindings::dma_buf,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    from_result(|| {
        // SAFETY: by the requirements of this function.
        let (buf, buffer) = unsafe { both(buf) }?;
        // SAFETY: as above.
        unsafe { buffer.mmap(buf, vma) }?;
        Ok(0)
    })
}

/// Not refused for a revoked buffer: `dma_buf_vmap()` warns of every failure. Nor need it be, as
/// the memory is there as long as the buffer is. Who keeps to the rules has `begin_cpu_access`
/// fail; who does not can go on.
///
/// # Safety
///
/// `buf` is a valid buffer of pages with these operations; `map` may be written.
unsafe extern "C" fn vmap(buf: *mut bindings::dma_buf, map: *mut bindings::iosys_map) -> c_int {
    from_result(|| {
        // SAFETY: by the requirements of this function.
        let (_, buffer) = unsafe { both(buf) }?;
        let addr = buffer.backend().vmap()?;
        // SAFETY: as above.
        unsafe { helpers::phyr_dma_buf_helper_iosys_map_set(map, addr.as_ptr().cast()) };
        Ok(0)
    })
}

/// # Safety
///
/// `map` is what [`vmap`] set, and is not used again.
unsafe extern "C" fn vunmap(_buf: *mut bindings::dma_buf, map: *mut bindings::iosys_map) {
    // SAFETY: by the requirements of this function; `vmap` sets no I/O memory.
    let addr = unsafe { (*map).__bindgen_anon_1.vaddr };
    if let Some(addr) = NonNull::new(addr) {
        // SAFETY: `vmap` gave this range away.
        unsafe { phyr::bindings::phyr_helper_vunmap(addr.as_ptr()) };
    }
}

/// # Safety
///
/// `buf` is a buffer with these operations, to which there are no references any more.
unsafe extern "C" fn release(buf: *mut bindings::dma_buf) {
    // SAFETY: by the requirements of this function.
    if let Ok((_, buffer)) = unsafe { both(buf) } {
        if let Some(memory) = buffer.backend().peer() {
            memory.released();
        }
    }
    // SAFETY: by the requirements of this function nobody uses the pointer any more, which is what
    // `export` gave the buffer.
    let mut buffer = unsafe { <Pin<KBox<Buffer>>>::from_foreign((*buf).priv_) };

    // SAFETY: nothing is moved.
    if unsafe { buffer.as_mut().get_unchecked_mut() }.is_mapped() {
        // A device may still get at the memory.
        pr_err!("dma-buf: an importer has not unmapped; the memory is leaked\n");
        core::mem::forget(buffer);
    }
}
