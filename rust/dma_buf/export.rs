// SPDX-License-Identifier: GPL-2.0

//! The exporter's side: memory becomes a dma-buf, which its exporter finds again and revokes.

use crate::{
    backing::{
        AnyBacking,
        Backing, //
    },
    buffer::Buffer,
    dma_buf::DmaBuf,
    exporter::{
        AccessMode,
        CpuMapping,
        Exporter, //
    },
    ops, //
};
use core::{
    pin::Pin,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    error::from_err_ptr,
    module::this_module,
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef,
    types::ForeignOwnable,
    ModuleMetadata, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    memory::Memory, //
};
use phyr_driver::completion::Wait;

/// Exports `memory` as a dma-buf, which owns it from now on.
///
/// Context: process context, may sleep.
///
/// # Errors
///
/// In each case memory and exporter are dropped.
///
/// - `EINVAL`: `memory` is empty, or a piece of it is not whole pages.
/// - `ENOENT`: the module of the exporter is being unloaded.
/// - `ENOMEM`: no memory.
/// - What the memory's source fails with.
pub fn export<E: Exporter>(
    memory: E::Memory,
    exporter: E,
    mode: AccessMode,
) -> Result<Exported<E>> {
    check_pages(&memory)?;
    let info = bindings::dma_buf_export_info {
        exp_name: E::Module::NAME.as_char_ptr(),
        owner: this_module::<E::Module>().as_ptr(),
        ops: ops::ops(<E::CpuMapping as CpuMapping<E::Memory>>::MMAP_VMAP),
        size: memory.len(),
        // CAST: The access mode is two bits.
        flags: mode.flags() as i32,
        resv: ptr::null_mut(),
        priv_: ptr::null_mut(),
    };
    let backing = KBox::new(Backing { exporter, memory }, GFP_KERNEL)?;
    // SAFETY: `info` describes the backing: its size, and operations for its memory. The name and
    // the code are those of the module that owns the buffer, as `Exporter::Module` requires.
    let buf = unsafe { export_backing(backing, info) }?;

    Exported::of(buf)
}

/// Checks that `memory` is whole pages, and as long as it says.
fn check_pages<M: Memory>(memory: &M) -> Result {
    let mut len = 0usize;
    for phyr in memory.phyrs() {
        let phyr = phyr?;
        // CAST: A `usize` is at most 64 bits wide.
        if (phyr.paddr().into_raw() | phyr.len() as u64) % PAGE_SIZE as u64 != 0 {
            return Err(EINVAL);
        }
        len = len.checked_add(phyr.len()).ok_or(EINVAL)?;
    }
    if len == 0 || len != memory.len() {
        return Err(EINVAL);
    }
    Ok(())
}

/// Does the part of [`export`] that does not depend on the type of the exporter.
///
/// # Safety
///
/// `info` describes `backing`, but for the private data: its size, and operations of this crate for
/// its memory. The name and the code of `backing` stay as long as there are references to the
/// owner.
unsafe fn export_backing(
    backing: KBox<dyn AnyBacking>,
    mut info: bindings::dma_buf_export_info,
) -> Result<ARef<DmaBuf>> {
    info.priv_ = KBox::pin_init(Buffer::new(backing), GFP_KERNEL)?.into_foreign();
    let result = fail::at(Point::dma_buf_export).and_then(|()| {
        // SAFETY: The caller promises that `info` describes the buffer, whose operations take this
        // private data. The dma-buf owns it from now on.
        from_err_ptr(unsafe { bindings::dma_buf_export(&info) })
    });
    match result {
        // SAFETY: `buf` is a new dma-buf with one reference, which is given up here.
        Ok(buf) => unsafe { DmaBuf::from_owned(buf) },
        Err(e) => {
            // SAFETY: The private data was not taken over, as there is no dma-buf.
            drop(unsafe { <Pin<KBox<Buffer>>>::from_foreign(info.priv_) });
            Err(e)
        }
    }
}

/// A dma-buf that was exported by an `E`.
///
/// # Invariants
///
/// The private data of `buf` is a `Buffer`, and `exporter` is in it.
pub struct Exported<E> {
    buf: ARef<DmaBuf>,
    exporter: NonNull<E>,
}

// SAFETY: `exporter` gives shared references only.
unsafe impl<E: Sync> Send for Exported<E> {}

// SAFETY: `exporter` gives shared references only.
unsafe impl<E: Sync> Sync for Exported<E> {}

impl<E> Clone for Exported<E> {
    fn clone(&self) -> Self {
        // INVARIANT: Both are references to the same buffer.
        Self {
            buf: self.buf.clone(),
            exporter: self.exporter,
        }
    }
}

impl<E: Exporter> Exported<E> {
    /// Returns `buf` as one that an `E` has exported.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: it is another exporter's.
    pub fn of(buf: ARef<DmaBuf>) -> Result<Self> {
        let backing = buf.buffer().ok_or(EINVAL)?.backing().as_any();
        let backing: &Backing<E> = backing.downcast_ref().ok_or(EINVAL)?;
        let exporter = NonNull::from(&backing.exporter);
        // INVARIANT: `exporter` was found in the private data of `buf`.
        Ok(Self { buf, exporter })
    }
}

impl<E> Exported<E> {
    /// Returns the exporter.
    pub fn exporter(&self) -> &E {
        // SAFETY: `exporter` is in the private data of `buf` by the type invariants, and `self`
        // has a reference to `buf`.
        unsafe { self.exporter.as_ref() }
    }

    /// Returns the buffer.
    pub fn dma_buf(&self) -> &DmaBuf {
        &self.buf
    }

    /// Returns the buffer, with the reference. [`DmaBuf::into_file`] makes it a file descriptor's.
    pub fn into_dma_buf(self) -> ARef<DmaBuf> {
        self.buf
    }

    /// Takes the buffer away from all devices, for good.
    ///
    /// When this returns no device gets at the memory: importers have been told
    /// (`dma_buf_invalidate_mappings()`), fences have been waited for, and all mappings have ended.
    /// From its beginning on, new attachments, mappings, `mmap()`s and `begin_cpu_access` fail with
    /// `ENODEV`.
    ///
    /// The CPU is not stopped: what is mapped in user space or by `dma_buf_vmap()` stays mapped,
    /// and `dma_buf_vmap()` still works. The pages stay the buffer's until it is released.
    ///
    /// Several threads may call this at once, and again: each returns when the mappings have ended.
    ///
    /// Context: process context, sleeps for as long as importers need. Not from a callback of an
    /// importer or exporter of any buffer.
    ///
    /// # Errors
    ///
    /// - `EBUSY`: an importer that cannot be told has the buffer mapped or pinned; nothing has
    ///   changed.
    /// - `EINTR`: the process was killed while it waited. The buffer is revoked, as
    ///   [`Exported::is_revoked`] says, but devices may still get at the memory. Another call waits
    ///   for them.
    pub fn revoke(&self) -> Result {
        let buffer = self.buf.buffer().ok_or(EINVAL)?;
        buffer.revoke(&self.buf, Wait::Killable)
    }

    /// Returns whether the buffer is revoked, or is being revoked.
    pub fn is_revoked(&self) -> bool {
        let buffer = self.buf.buffer();
        buffer.is_some_and(|buffer| buffer.is_revoked(&self.buf))
    }

    /// Returns the number of attachments, and of mappings, that the buffer has now.
    pub fn counts(&self) -> (usize, usize) {
        let buffer = self.buf.buffer();
        buffer.map_or((0, 0), |buffer| buffer.counts(&self.buf))
    }
}
