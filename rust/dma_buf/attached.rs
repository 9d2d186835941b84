// SPDX-License-Identifier: GPL-2.0

//! The C side of an attachment: attach, map, invalidate, detach.

use crate::{
    dma_buf::DmaBuf,
    ranges::covers,
    resv::{
        Fences,
        LockedByResv,
        ResvGuard, //
    }, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device,
        Normal, //
    },
    error::from_err_ptr,
    prelude::*,
    scatterlist::SGTable,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};
use phyr::{
    device::check_dma,
    fail::{
        self,
        Point, //
    },
    ownership::MappedFor,
    part,
    raw,
    DataDirection,
    DmaAddr,
    DmaVec, //
};
use phyr_driver::completion::Wait;

/// The callback of a dynamic importer: `invalidate_mappings`.
pub trait Invalidate: Send + Sync + 'static {
    /// Stops the device: when this returns it does not access the buffer any more, and starts no
    /// access until the buffer is mapped again. Then the library ends the mapping.
    ///
    /// Called when the exporter moves or revokes the buffer, when the device is unbound, and when
    /// an [`Attachment`](crate::Attachment) is dropped that is mapped: whenever a mapping ends
    /// other than by [`Attachment::unmap`](crate::Attachment::unmap).
    ///
    /// Context: process context with the buffer's reservation lock held; may sleep, but must come
    /// to an end by itself: what it waits for must not need this lock, nor memory. It must not use
    /// any dma-buf, this or another, nor an attachment: dropping one takes a lock of the same
    /// class, too, and so may dropping the last reference to its owner.
    fn invalidate(&self);
}

/// An attachment, as its [`Attachment`](crate::Attachment), the device resource and C's callback
/// share it.
pub(crate) struct Attached {
    pub(crate) buf: ARef<DmaBuf>,
    /// `None` for a static importer.
    importer: Option<Arc<dyn Invalidate>>,
    state: LockedByResv<AttachmentState>,
}

/// State of an attachment that the reservation lock guards.
///
/// # Invariants
///
/// `attach` is null, or a valid attachment to the buffer. `mapping` is one of `attach`.
struct AttachmentState {
    attach: *mut bindings::dma_buf_attachment,
    mapping: Option<TableMapping>,
}

// SAFETY: A `struct dma_buf_attachment` and an `sg_table` belong to no thread.
unsafe impl Send for AttachmentState {}

/// A mapping that an exporter made.
///
/// # Invariants
///
/// `table` is what `dma_buf_map_attachment()` returned for `dir`. It is valid while this exists.
struct TableMapping {
    table: NonNull<bindings::sg_table>,
    dir: DataDirection,
    /// Keeps the device from being moved to another domain than that of the DMA API.
    _mapped_for: MappedFor,
}

/// Operations of a dynamic importer that handles memory of the system only.
static DYNAMIC: bindings::dma_buf_attach_ops = bindings::dma_buf_attach_ops {
    allow_peer2peer: false,
    invalidate_mappings: Some(invalidate_mappings),
};

/// Operations of a dynamic importer that handles memory of another device, too.
static PEER_TO_PEER: bindings::dma_buf_attach_ops = bindings::dma_buf_attach_ops {
    allow_peer2peer: true,
    invalidate_mappings: Some(invalidate_mappings),
};

/// # Safety
///
/// `attach` is a valid attachment with [`DYNAMIC`] or [`PEER_TO_PEER`], and the lock of its buffer
/// is held.
unsafe extern "C" fn invalidate_mappings(attach: *mut bindings::dma_buf_attachment) {
    // SAFETY: `Attached::attach` passed the pointer to C, and keeps a reference until it detaches.
    let attached = unsafe { &*(*attach).importer_priv.cast::<Attached>() };
    // SAFETY: C calls this with the lock of the attachment's buffer held, and borrows nothing.
    let mut lock = unsafe { attached.buf.resv_locked_by_c() };
    attached.invalidate(&mut lock);
}

impl Attached {
    /// Attaches `dev` as a dynamic importer. See
    /// [`Attachment::dynamic`](crate::Attachment::dynamic).
    pub(crate) fn dynamic(
        dev: &Device<Bound>,
        buf: ARef<DmaBuf>,
        peer_to_peer: bool,
        importer: Arc<dyn Invalidate>,
    ) -> Result<DetachOnDrop> {
        let ops = if peer_to_peer {
            &raw const PEER_TO_PEER
        } else {
            &raw const DYNAMIC
        };
        Self::attach(dev, buf, ops, Some(importer))
    }

    /// Attaches `dev` as a static importer.
    pub(crate) fn static_importer(dev: &Device<Bound>, buf: ARef<DmaBuf>) -> Result<DetachOnDrop> {
        Self::attach(dev, buf, ptr::null(), None)
    }

    fn attach(
        dev: &Device<Bound>,
        buf: ARef<DmaBuf>,
        ops: *const bindings::dma_buf_attach_ops,
        importer: Option<Arc<dyn Invalidate>>,
    ) -> Result<DetachOnDrop> {
        // The DMA API warns when an exporter maps for it.
        check_dma(dev)?;
        // INVARIANT: Nothing is attached, and nothing is mapped.
        let state = LockedByResv::new(AttachmentState {
            attach: ptr::null_mut(),
            mapping: None,
        });
        let attached = Self {
            buf,
            importer,
            state,
        };
        let attached = Arc::new(attached, GFP_KERNEL)?;
        let buf = attached.buf.as_raw();
        let private = Arc::as_ptr(&attached).cast_mut().cast();
        fail::at(Point::dma_buf_dynamic_attach)?;
        // SAFETY: The dma-buf is valid, `dev` is bound, and `private` is what the callback of `ops`
        // expects. The returned value keeps it, and detaches before it is dropped.
        let attach = from_err_ptr(unsafe {
            bindings::dma_buf_dynamic_attach(buf, raw::device(dev), ops, private)
        })?;
        // INVARIANT: `attach` is a valid attachment until it is taken out by `detach`.
        attached.state(&mut attached.buf.lock_resv()).attach = attach;
        Ok(DetachOnDrop(attached))
    }

    fn state<'a>(&'a self, lock: &'a mut ResvGuard<'_>) -> &'a mut AttachmentState {
        // SAFETY: Each caller passes a lock of `self.buf`, which never changes.
        unsafe { self.state.access_mut(lock) }
    }

    pub(crate) fn map(&self, dir: DataDirection) -> Result {
        self.buf.check_access(dir)?;
        let mut lock = self.buf.lock_resv();
        let state = self.state(&mut lock);
        if state.attach.is_null() {
            return Err(ENODEV);
        }
        if state.mapping.is_some() {
            return Err(EBUSY);
        }
        let attach = state.attach;
        // SAFETY: `attach` is valid by the invariants of `AttachmentState`, and has a device.
        let mapped_for = MappedFor::new(unsafe { Device::<Normal>::from_raw((*attach).dev) })?;
        fail::at(Point::dma_buf_map_attachment)?;
        // SAFETY: `attach` is valid by the invariants of `AttachmentState`, and its lock is held.
        // The exporter may call back to invalidate, which finds nothing mapped.
        let table = unsafe { bindings::dma_buf_map_attachment(attach, dir.into()) };
        let table = NonNull::new(from_err_ptr(table)?).ok_or(ENOMEM)?;
        // INVARIANT: `table` has just been returned for `attach` and `dir`.
        self.state(&mut lock).mapping = Some(TableMapping {
            table,
            dir,
            _mapped_for: mapped_for,
        });

        // No device knows of the mapping yet, so it can be undone.
        self.check_mapping(&mut lock, dir)
            .inspect_err(|_| self.unmap_locked(&mut lock))
    }

    /// Waits for earlier accesses, and checks that the exporter has mapped the whole buffer.
    fn check_mapping(&self, lock: &mut ResvGuard<'_>, dir: DataDirection) -> Result {
        let fences = Fences::Before {
            write: dir != DataDirection::ToDevice,
        };
        self.buf.wait_fences(fences, Wait::Interruptible)?;
        let dma_vecs = self.state(lock).dma_vecs().ok_or(ENXIO)?;
        if covers(dma_vecs, self.buf.size()) {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// Ends the mapping, if there is one. The device is done with it.
    pub(crate) fn unmap(&self) {
        self.unmap_locked(&mut self.buf.lock_resv());
    }

    fn unmap_locked(&self, lock: &mut ResvGuard<'_>) {
        let state = self.state(lock);
        let attach = state.attach;
        if let Some(mapping) = state.mapping.take() {
            let (table, dir) = (mapping.table.as_ptr(), mapping.dir.into());
            // SAFETY: `mapping` is one of `attach` by the invariants of `AttachmentState`, and the
            // lock is held.
            unsafe { bindings::dma_buf_unmap_attachment(attach, table, dir) };
        }
    }

    /// Ends the mapping, if there is one, after the driver has stopped the device.
    fn invalidate(&self, lock: &mut ResvGuard<'_>) {
        if self.state(lock).mapping.is_none() {
            return;
        }
        if let Some(importer) = &self.importer {
            importer.invalidate();
        }
        self.unmap_locked(lock);
    }

    /// Ends the mapping and the attachment.
    fn detach(&self) {
        let mut lock = self.buf.lock_resv();
        self.invalidate(&mut lock);
        // INVARIANT: Nothing is mapped any more.
        let attach = core::mem::replace(&mut self.state(&mut lock).attach, ptr::null_mut());
        drop(lock);
        if !attach.is_null() {
            // SAFETY: `attach` was a valid attachment by the invariants of `AttachmentState`, from
            // which it has been taken, so that nobody else detaches it.
            unsafe { bindings::dma_buf_detach(self.buf.as_raw(), attach) };
        }
    }

    /// Calls `f` with the ranges that the device sees.
    pub(crate) fn with_dma_vecs<T>(
        &self,
        f: impl FnOnce(&mut dyn Iterator<Item = DmaVec>) -> T,
    ) -> Result<T> {
        let mut lock = self.buf.lock_resv();
        let state = self.state(&mut lock);
        if state.attach.is_null() {
            return Err(ENODEV);
        }
        let dma_vecs = state.dma_vecs().ok_or(ENXIO)?;
        let mut dma_vecs = part(dma_vecs, 0..self.buf.size());
        Ok(f(&mut dma_vecs))
    }
}

impl AttachmentState {
    /// Returns the entries of the exporter's table, if the buffer is mapped.
    fn dma_vecs(&self) -> Option<impl Iterator<Item = DmaVec> + '_> {
        let table = self.mapping.as_ref()?.table.as_ptr();
        // SAFETY: `table` is valid by the invariants of `TableMapping`. The exporter does not
        // change it while it is mapped, which it is as long as the state is borrowed.
        let table: &SGTable = unsafe { SGTable::from_raw(table) };
        Some(table.iter().map(|sg| {
            // CAST: The length of an entry has 32 bits.
            DmaVec::new(DmaAddr::from_raw(sg.dma_address()), sg.dma_len() as usize)
        }))
    }
}

/// Unmaps and detaches when it is dropped.
pub(crate) struct DetachOnDrop(Arc<Attached>);

impl DetachOnDrop {
    pub(crate) fn attached(&self) -> Arc<Attached> {
        self.0.clone()
    }
}

impl Drop for DetachOnDrop {
    fn drop(&mut self) {
        self.0.detach();
    }
}
