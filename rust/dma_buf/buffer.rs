// SPDX-License-Identifier: GPL-2.0

//! What is behind a buffer of this project: the exporter, its memory, and who has it mapped.
//!
//! The reservation lock guards [`State`]. A mapping is made and ended with it held, as C promises
//! to exporters that can pin; so is the mark that a buffer is revoked, after which there are no
//! more mappings. That is what makes [`Buffer::revoke`] final.

use super::{
    cpu::{
        private::Token,
        Cpu,
        UserRange, //
    },
    exporter::{
        Exporter,
        Importing, //
    },
    mapped::Mapped,
    peer::BarMemory,
    resv::{
        ByResv,
        Fences,
        Once,
        Patience,
        Reserved, //
    },
    route::Route,
    table::Table,
    DmaBuf, //
};
use core::{
    any::TypeId,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    prelude::*, //
};
use phyr::{
    memory::Memory,
    DataDirection,
    Phyr, //
};

/// An exporter with its memory, whatever their types are.
pub(super) trait Backend: Send + Sync {
    /// The type of the exporter.
    fn exporter(&self) -> TypeId;

    fn attach(&self, importer: &Importing<'_>) -> Result;
    fn detach(&self, importer: &Importing<'_>);
    fn pin(&self, importer: &Importing<'_>) -> Result;
    fn unpin(&self, importer: &Importing<'_>);
    fn begin_cpu_access(&self, dir: DataDirection) -> Result;
    fn end_cpu_access(&self, dir: DataDirection);

    /// # Safety
    ///
    /// That of [`Mapped::new`]; the memory is that of `self`.
    unsafe fn map(&self, importer: &Importing<'_>, dir: DataDirection) -> Result<Mapped>;

    /// The memory, if it is another device's.
    fn peer(&self) -> Option<&BarMemory>;

    /// Calls `f` for each piece of the memory, in order, until it says that it has enough.
    fn pieces(&self, f: &mut dyn FnMut(Phyr) -> Result<bool>) -> Result;

    /// Maps the memory into the kernel's address space, for `vunmap_pages()` to undo.
    fn vmap(&self) -> Result<NonNull<u8>>;
}

/// The only [`Backend`].
pub(super) struct Data<E: Exporter> {
    // Dropped in this order: the exporter may know of its memory.
    pub(super) exporter: E,
    pub(super) memory: E::Memory,
}

impl<E: Exporter> Backend for Data<E> {
    fn exporter(&self) -> TypeId {
        TypeId::of::<E>()
    }

    fn attach(&self, importer: &Importing<'_>) -> Result {
        self.exporter.attach(importer)
    }

    fn detach(&self, importer: &Importing<'_>) {
        self.exporter.detach(importer);
    }

    fn pin(&self, importer: &Importing<'_>) -> Result {
        self.exporter.pin(importer)
    }

    fn unpin(&self, importer: &Importing<'_>) {
        self.exporter.unpin(importer);
    }

    fn begin_cpu_access(&self, dir: DataDirection) -> Result {
        self.exporter.begin_cpu_access(dir)
    }

    fn end_cpu_access(&self, dir: DataDirection) {
        self.exporter.end_cpu_access(dir);
    }

    unsafe fn map(&self, importer: &Importing<'_>, dir: DataDirection) -> Result<Mapped> {
        let bus_offset = self
            .peer()
            .filter(|_| importer.route() == Route::Bus)
            .map(BarMemory::bus_offset);
        // SAFETY: by the requirements of this function.
        unsafe { Mapped::new(importer.device(), &self.memory, dir, bus_offset) }
    }

    fn peer(&self) -> Option<&BarMemory> {
        E::Cpu::peer(&self.memory)
    }

    fn pieces(&self, f: &mut dyn FnMut(Phyr) -> Result<bool>) -> Result {
        for phyr in self.memory.phyrs() {
            if f(phyr?)? {
                break;
            }
        }
        Ok(())
    }

    fn vmap(&self) -> Result<NonNull<u8>> {
        E::Cpu::vmap(&self.memory, Token)
    }
}

/// What the private pointer of a dma-buf of this project leads to.
#[pin_data]
pub(super) struct Buffer {
    backend: KBox<dyn Backend>,
    state: ByResv<State>,
    /// Done when the buffer is revoked and nothing is mapped any more.
    #[pin]
    idle: Once,
}

/// What the reservation lock guards.
struct State {
    /// There are no new mappings.
    revoked: bool,
    attachments: usize,
    /// Mappings and pins of importers that cannot be told to end them.
    fixed: usize,
    /// The attachment of each pin. Only compared.
    pins: KVVec<*const bindings::dma_buf_attachment>,
    /// All mappings, each of which C has, see [`Table::into_raw`].
    tables: KVVec<NonNull<Table>>,
}

// SAFETY: the mappings that the pointers lead to have no thread, and attachments are only compared.
unsafe impl Send for State {}

impl Buffer {
    pub(super) fn new(backend: KBox<dyn Backend>) -> impl PinInit<Self> {
        pin_init!(Self {
            backend,
            state: ByResv::new(State {
                revoked: false,
                attachments: 0,
                fixed: 0,
                pins: KVVec::new(),
                tables: KVVec::new(),
            }),
            idle <- Once::new(),
        })
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    fn state<'a>(&'a self, lock: &'a mut Reserved<'_>) -> &'a mut State {
        // SAFETY: each caller has the lock of the one dma-buf whose private pointer leads here.
        unsafe { self.state.get(lock) }
    }

    /// Lets `importer` attach, unless the buffer is revoked or its exporter refuses.
    pub(super) fn attach(&self, buf: &DmaBuf, importer: &Importing<'_>) -> Result {
        let mut lock = buf.reserve();
        if self.state(&mut lock).revoked {
            return Err(ENODEV);
        }
        if let Some(memory) = self.backend.peer() {
            importer.set_route(memory.route(&lock, importer)?);
        }
        drop(lock);
        self.backend.attach(importer)?;
        self.state(&mut buf.reserve()).attachments += 1;
        Ok(())
    }

    pub(super) fn detach(&self, buf: &DmaBuf, importer: &Importing<'_>) {
        let mut lock = buf.reserve();
        self.state(&mut lock).attachments -= 1;
        self.unmap_all(&mut lock, importer);
        self.unpin_all(&mut lock, importer);
        drop(lock);
        self.backend.detach(importer);
    }

    pub(super) fn pin(&self, lock: &mut Reserved<'_>, importer: &Importing<'_>) -> Result {
        let state = self.state(lock);
        if state.revoked {
            return Err(ENODEV);
        }
        state.pins.reserve(1, GFP_KERNEL)?;
        self.backend.pin(importer).map_err(|e| {
            // The core takes this one for an exporter that has moved a buffer in use.
            if e == EBUSY {
                EAGAIN
            } else {
                e
            }
        })?;
        // There is room for one more.
        let _ = state.pins.push_within_capacity(importer.as_raw());
        if !importer.is_revocable() {
            state.fixed += 1;
        }
        Ok(())
    }

    /// Ends a pin of `importer`. Returns whether there was one: an importer may get it wrong, and
    /// that is not to bring the machine down.
    pub(super) fn unpin(&self, lock: &mut Reserved<'_>, importer: &Importing<'_>) -> bool {
        let state = self.state(lock);
        let mut pins = state.pins.iter();
        let Some(at) = pins.position(|&attach| ptr::eq(attach, importer.as_raw())) else {
            return false;
        };
        let _ = state.pins.remove(at);
        if !importer.is_revocable() {
            state.fixed = state.fixed.saturating_sub(1);
        }
        self.backend.unpin(importer);
        true
    }

    pub(super) fn map(
        &self,
        lock: &mut Reserved<'_>,
        importer: &Importing<'_>,
        dir: DataDirection,
    ) -> Result<*mut bindings::sg_table> {
        let state = self.state(lock);
        if state.revoked {
            return Err(ENODEV);
        }
        state.tables.reserve(1, GFP_KERNEL)?;
        // SAFETY: the memory lives as long as this buffer, which `release` leaks if a mapping of
        // it is still in the list. The importer may map for its device as long as it is attached,
        // and what it has not unmapped when it detaches `unmap_all` does.
        let mapped = unsafe { self.backend.map(importer, dir) }?;
        let sgt = Table::into_raw(Table::new(mapped, importer)?);

        if let Some(table) = NonNull::new(sgt.cast()) {
            // There is room for one more.
            let _ = state.tables.push_within_capacity(table);
        }
        if !importer.is_revocable() {
            state.fixed += 1;
        }
        Ok(sgt)
    }

    /// # Safety
    ///
    /// `sgt` comes from [`Buffer::map`] for this importer, and is not used again.
    pub(super) unsafe fn unmap(
        &self,
        lock: &mut Reserved<'_>,
        importer: &Importing<'_>,
        sgt: *mut bindings::sg_table,
    ) {
        let state = self.state(lock);
        // SAFETY: by the requirements of this function.
        drop(unsafe { Table::from_raw(sgt) });

        state.tables.retain(|table| table.as_ptr().cast() != sgt);
        if !importer.is_revocable() {
            state.fixed = state.fixed.saturating_sub(1);
        }
        if state.revoked && state.tables.is_empty() {
            self.idle.set();
        }
    }

    /// Ends what mappings `importer` has left behind as it detaches, which one written in C may.
    /// Its device may be gone any time.
    fn unmap_all(&self, lock: &mut Reserved<'_>, importer: &Importing<'_>) {
        // SAFETY: what is in the list has not been unmapped, and will not be while the lock is
        // held.
        let left = |table: &&NonNull<Table>| unsafe { table.as_ref() }.is_for(importer);
        while let Some(&table) = self.state(lock).tables.iter().find(left) {
            pr_err!("dma-buf: an importer detaches without unmapping\n");
            // SAFETY: `map` made it for this importer. C cannot give it back any more, as that
            // takes the attachment.
            unsafe { self.unmap(lock, importer, table.as_ptr().cast()) };
        }
    }

    /// Ends what pins `importer` has left behind as it detaches: its own, and those that the core
    /// has made for a static importer that does not unmap.
    fn unpin_all(&self, lock: &mut Reserved<'_>, importer: &Importing<'_>) {
        while self.unpin(lock, importer) {
            pr_err!("dma-buf: an importer detaches without unpinning\n");
        }
    }

    /// Calls `f` for each mapping.
    fn each_mapped(state: &State, f: impl Fn(&Mapped)) {
        for table in &state.tables {
            // SAFETY: what is in the list has not been unmapped, and will not be while the lock
            // is held.
            f(unsafe { table.as_ref() }.mapped());
        }
    }

    /// # Errors
    ///
    /// - `ENODEV`: the buffer is revoked.
    /// - `ERESTARTSYS`: a signal came while fences were waited for.
    /// - What the exporter fails with.
    pub(super) fn begin_cpu_access(&self, buf: &DmaBuf, dir: DataDirection) -> Result {
        let mut lock = buf.reserve();
        let state = self.state(&mut lock);
        if state.revoked {
            return Err(ENODEV);
        }
        // The core waits for them after this function. That is too late for what is copied here
        // out of bounce buffers: the device has to be done before.
        let fences = Fences::Before {
            write: dir != DataDirection::FromDevice,
        };
        buf.wait(fences, Patience::UntilSignal)?;
        self.backend.begin_cpu_access(dir)?;
        Self::each_mapped(state, Mapped::sync_for_cpu);
        Ok(())
    }

    pub(super) fn end_cpu_access(&self, buf: &DmaBuf, dir: DataDirection) {
        let mut lock = buf.reserve();
        Self::each_mapped(self.state(&mut lock), Mapped::sync_for_device);
        self.backend.end_cpu_access(dir);
    }

    /// # Errors
    ///
    /// - `ENODEV`: the buffer is revoked.
    /// - `EINVAL`: a private mapping, or one beyond the end of the buffer.
    /// - `ENOMEM`: no memory.
    ///
    /// # Safety
    ///
    /// `vma` is being set up by `mmap()` of `buf`. The memory is pages.
    pub(super) unsafe fn mmap(&self, buf: &DmaBuf, vma: *mut bindings::vm_area_struct) -> Result {
        let mut lock = buf.reserve();
        if self.state(&mut lock).revoked {
            return Err(ENODEV);
        }
        // SAFETY: by the requirements of this function.
        let mut range = unsafe { UserRange::new(vma) }?;
        self.backend.pieces(&mut |phyr| {
            // SAFETY: by the requirements of this function these are pages, which the buffer owns.
            unsafe { range.fill(phyr) }?;
            Ok(range.is_full())
        })?;
        if range.is_full() {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    /// Ends all access by devices. See [`Exported::revoke`](super::Exported::revoke).
    ///
    /// # Errors
    ///
    /// - `EBUSY`: an importer that cannot be told has it mapped or pinned; nothing has changed.
    /// - `EINTR`: as `patience` says. The buffer is revoked, only not waited for.
    pub(super) fn revoke(&self, buf: &DmaBuf, patience: Patience) -> Result {
        let mut lock = buf.reserve();
        let state = self.state(&mut lock);
        if !state.revoked {
            if state.fixed != 0 {
                return Err(EBUSY);
            }
            state.revoked = true;
            if state.tables.is_empty() {
                self.idle.set();
            }
        }
        lock.invalidate_mappings();
        // Importers need the lock to unmap. What fences they add from now on are for mappings that
        // they still have, which are waited for, too.
        drop(lock);
        buf.wait(Fences::All, patience)?;
        self.idle.wait(patience)
    }

    pub(super) fn is_revoked(&self, buf: &DmaBuf) -> bool {
        self.state(&mut buf.reserve()).revoked
    }

    /// Number of attachments, and of mappings.
    pub(super) fn counts(&self, buf: &DmaBuf) -> (usize, usize) {
        let mut lock = buf.reserve();
        let state = self.state(&mut lock);
        (state.attachments, state.tables.len())
    }

    /// Whether an importer has left a mapping behind, with no reference to the buffer.
    pub(super) fn is_mapped(&mut self) -> bool {
        !self.state.get_mut().tables.is_empty()
    }
}
