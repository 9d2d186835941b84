// SPDX-License-Identifier: GPL-2.0

//! The buffer behind a dma-buf of this crate: its exporter, its memory, and who has it mapped.
//!
//! The reservation lock guards [`BufferState`]. C promises to exporters that can pin to hold it
//! around each map and unmap. A buffer is marked as revoked with the lock held, too, and is not
//! mapped again after that. That makes [`Buffer::revoke`] final.

use crate::{
    backing::AnyBacking,
    dma_buf::DmaBuf,
    exporter::AttachmentRef,
    mapped::DeviceMapping,
    mmap::UserRange,
    resv::{
        Fences,
        LockedByResv,
        ResvGuard, //
    },
    table::Table, //
};
use core::ptr;
use kernel::{
    bindings,
    prelude::*, //
};
use phyr::DataDirection;
use phyr_driver::completion::{
    Completion,
    Wait, //
};

/// The private data of a dma-buf of this crate.
#[pin_data]
pub(crate) struct Buffer {
    backing: KBox<dyn AnyBacking>,
    state: LockedByResv<BufferState>,
    /// Complete when the buffer is revoked and nothing is mapped any more.
    #[pin]
    idle: Completion,
}

/// State of a buffer that the reservation lock guards.
struct BufferState {
    /// The buffer was revoked, and is never mapped again.
    revoked: bool,
    attachments: usize,
    /// Number of mappings and pins of importers that cannot be told to end them.
    irrevocable: usize,
    /// The attachment of each pin; for pointer comparison only.
    pins: KVVec<*const bindings::dma_buf_attachment>,
    /// All mappings, each of which C has a pointer to.
    tables: KVVec<KBox<Table>>,
}

// SAFETY: The pointers to attachments are only compared.
unsafe impl Send for BufferState {}

impl BufferState {
    /// # Errors
    ///
    /// - `ENODEV`: the buffer is revoked.
    fn check_revoked(&self) -> Result {
        if self.revoked {
            return Err(ENODEV);
        }
        Ok(())
    }

    /// Counts a mapping or pin of `attachment`.
    fn hold(&mut self, attachment: &AttachmentRef<'_>) {
        if !attachment.is_revocable() {
            self.irrevocable += 1;
        }
    }

    /// Takes back one [`BufferState::hold`].
    fn release(&mut self, attachment: &AttachmentRef<'_>) {
        if !attachment.is_revocable() {
            self.irrevocable = self.irrevocable.saturating_sub(1);
        }
    }

    fn each_mapped(&self, f: impl Fn(&DeviceMapping)) {
        self.tables.iter().for_each(|table| f(table.mapped()));
    }
}

impl Buffer {
    pub(crate) fn new(backing: KBox<dyn AnyBacking>) -> impl PinInit<Self> {
        pin_init!(Self {
            backing,
            state: LockedByResv::new(BufferState {
                revoked: false,
                attachments: 0,
                irrevocable: 0,
                pins: KVVec::new(),
                tables: KVVec::new(),
            }),
            idle <- Completion::new(),
        })
    }

    pub(crate) fn backing(&self) -> &dyn AnyBacking {
        &*self.backing
    }

    fn state<'a>(&'a self, lock: &'a mut ResvGuard<'_>) -> &'a mut BufferState {
        // SAFETY: Each caller passes a lock of the one dma-buf whose private data this is.
        unsafe { self.state.access_mut(lock) }
    }

    /// Attaches an importer, unless the buffer is revoked or its exporter refuses.
    pub(crate) fn attach(&self, buf: &DmaBuf, attachment: &AttachmentRef<'_>) -> Result {
        let mut lock = buf.lock_resv();
        self.state(&mut lock).check_revoked()?;
        if let Some(memory) = self.backing.bar_memory() {
            attachment.set_route(memory.route(&lock, attachment)?);
        }
        // As in C the exporter is called without the lock.
        drop(lock);
        self.backing.exporter().attach(attachment)?;
        self.state(&mut buf.lock_resv()).attachments += 1;
        Ok(())
    }

    /// Detaches an importer, and ends what mappings and pins it has left behind.
    pub(crate) fn detach(&self, buf: &DmaBuf, attachment: &AttachmentRef<'_>) {
        let mut lock = buf.lock_resv();
        self.state(&mut lock).attachments -= 1;
        self.unmap_all(&mut lock, attachment);
        self.unpin_all(&mut lock, attachment);
        drop(lock);
        self.backing.exporter().detach(attachment);
    }

    pub(crate) fn pin(&self, lock: &mut ResvGuard<'_>, attachment: &AttachmentRef<'_>) -> Result {
        let state = self.state(lock);
        state.check_revoked()?;
        state.pins.reserve(1, GFP_KERNEL)?;
        self.backing.exporter().pin(attachment).map_err(|e| {
            // The core takes `EBUSY` for an exporter that has moved a buffer in use.
            if e == EBUSY {
                EAGAIN
            } else {
                e
            }
        })?;
        // There is room for one more.
        let _ = state.pins.push_within_capacity(attachment.as_raw());
        state.hold(attachment);
        Ok(())
    }

    /// Ends a pin of `attachment`. Returns whether there was one: an importer may get it wrong, and
    /// that must not bring the machine down.
    pub(crate) fn unpin(&self, lock: &mut ResvGuard<'_>, attachment: &AttachmentRef<'_>) -> bool {
        let state = self.state(lock);
        let mut pins = state.pins.iter();
        let Some(at) = pins.position(|&attach| ptr::eq(attach, attachment.as_raw())) else {
            return false;
        };
        let _ = state.pins.remove(at);
        state.release(attachment);
        self.backing.exporter().unpin(attachment);
        true
    }

    /// Maps the buffer for an importer. The returned table is valid until [`Buffer::unmap`].
    pub(crate) fn map(
        &self,
        lock: &mut ResvGuard<'_>,
        attachment: &AttachmentRef<'_>,
        dir: DataDirection,
    ) -> Result<*mut bindings::sg_table> {
        let state = self.state(lock);
        state.check_revoked()?;
        state.tables.reserve(1, GFP_KERNEL)?;
        // SAFETY: The memory lives as long as this buffer, which `release` leaks if a mapping is
        // still in the list. The importer may map for its device as long as it is attached, and
        // `unmap_all` ends what it has not unmapped when it detaches.
        let mapped = unsafe { self.backing.map(attachment, dir) }?;
        let table = Table::new(mapped, attachment)?;
        let sgt = table.as_raw();

        // There is room for one more.
        let _ = state.tables.push_within_capacity(table);
        state.hold(attachment);
        Ok(sgt)
    }

    /// Ends the mapping of `attachment` with the table `sgt`.
    pub(crate) fn unmap(
        &self,
        lock: &mut ResvGuard<'_>,
        attachment: &AttachmentRef<'_>,
        sgt: *mut bindings::sg_table,
    ) {
        if !self.unmap_first(lock, attachment, |table| ptr::eq(table.as_raw(), sgt)) {
            pr_err!("dma-buf: an importer unmaps what it has not mapped\n");
        }
    }

    /// Ends the first mapping of `attachment` that `matches`. Returns whether there was one.
    fn unmap_first(
        &self,
        lock: &mut ResvGuard<'_>,
        attachment: &AttachmentRef<'_>,
        matches: impl Fn(&Table) -> bool,
    ) -> bool {
        let state = self.state(lock);
        let mut tables = state.tables.iter();
        let Some(at) = tables.position(|table| table.is_for(attachment) && matches(table)) else {
            return false;
        };
        drop(state.tables.remove(at));
        state.release(attachment);
        if state.revoked && state.tables.is_empty() {
            self.idle.complete_all();
        }
        true
    }

    /// Ends mappings that `attachment` has left behind as it is detached, which an importer in C
    /// may do. Its device may be gone any time.
    fn unmap_all(&self, lock: &mut ResvGuard<'_>, attachment: &AttachmentRef<'_>) {
        while self.unmap_first(lock, attachment, |_| true) {
            pr_err!("dma-buf: an importer detaches without unmapping\n");
        }
    }

    /// Ends pins that `attachment` has left behind as it is detached: its own, and those that the
    /// core has made for a static importer that does not unmap.
    fn unpin_all(&self, lock: &mut ResvGuard<'_>, attachment: &AttachmentRef<'_>) {
        while self.unpin(lock, attachment) {
            pr_err!("dma-buf: an importer detaches without unpinning\n");
        }
    }

    /// # Errors
    ///
    /// - `ENODEV`: the buffer is revoked.
    /// - `ERESTARTSYS`: a signal came while fences were waited for.
    /// - What the exporter fails with.
    pub(crate) fn begin_cpu_access(&self, buf: &DmaBuf, dir: DataDirection) -> Result {
        let mut lock = buf.lock_resv();
        let state = self.state(&mut lock);
        state.check_revoked()?;
        // The core waits for fences after this function. That is too late for what is copied here
        // out of bounce buffers: the device has to be done before.
        let fences = Fences::Before {
            write: dir != DataDirection::FromDevice,
        };
        buf.wait_fences(fences, Wait::Interruptible)?;
        self.backing.exporter().begin_cpu_access(dir)?;
        state.each_mapped(DeviceMapping::sync_for_cpu);
        Ok(())
    }

    pub(crate) fn end_cpu_access(&self, buf: &DmaBuf, dir: DataDirection) {
        let mut lock = buf.lock_resv();
        self.state(&mut lock)
            .each_mapped(DeviceMapping::sync_for_device);
        self.backing.exporter().end_cpu_access(dir);
    }

    /// # Errors
    ///
    /// - `ENODEV`: the buffer is revoked.
    /// - `EINVAL`: a private mapping, or one beyond the end of the buffer.
    /// - `ENOMEM`: no memory.
    ///
    /// # Safety
    ///
    /// `vma` is being set up by `mmap()` of `buf`, which is a buffer of pages.
    pub(crate) unsafe fn mmap(&self, buf: &DmaBuf, vma: *mut bindings::vm_area_struct) -> Result {
        let mut lock = buf.lock_resv();
        self.state(&mut lock).check_revoked()?;
        // SAFETY: The caller promises that `vma` is being set up by `mmap()` of such a buffer.
        let mut range = unsafe { UserRange::new(vma) }?;
        self.backing.mmap(&mut range)
    }

    /// Ends all access by devices. See [`Exported::revoke`](crate::Exported::revoke).
    ///
    /// # Errors
    ///
    /// - `EBUSY`: an importer that cannot be told has it mapped or pinned; nothing has changed.
    /// - `ERESTARTSYS`, `EINTR`: a signal ended the wait. The buffer is revoked, but devices may
    ///   still access it.
    pub(crate) fn revoke(&self, buf: &DmaBuf, wait: Wait) -> Result {
        let mut lock = buf.lock_resv();
        let state = self.state(&mut lock);
        if !state.revoked {
            if state.irrevocable != 0 {
                return Err(EBUSY);
            }
            state.revoked = true;
            if state.tables.is_empty() {
                self.idle.complete_all();
            }
        }
        lock.invalidate_mappings();
        // Importers need the lock to unmap. Fences that they add from now on are for mappings that
        // they still have, which are waited for, too.
        drop(lock);
        buf.wait_fences(Fences::All, wait)?;
        self.idle.wait(wait)
    }

    pub(crate) fn is_revoked(&self, buf: &DmaBuf) -> bool {
        self.state(&mut buf.lock_resv()).revoked
    }

    /// Returns the number of attachments, and of mappings.
    pub(crate) fn counts(&self, buf: &DmaBuf) -> (usize, usize) {
        let mut lock = buf.lock_resv();
        let state = self.state(&mut lock);
        (state.attachments, state.tables.len())
    }

    /// Returns whether an importer has left a mapping behind, with no reference to the buffer.
    pub(crate) fn is_mapped(self: Pin<&mut Self>) -> bool {
        !self.project().state.get_mut().tables.is_empty()
    }
}
