// SPDX-License-Identifier: GPL-2.0

//! The exporter's side: memory goes in, a dma-buf comes out.

use super::{
    buffer::{
        Backend,
        Buffer,
        Data, //
    },
    cpu::Cpu,
    ops,
    resv::Patience,
    route::Route,
    DmaBuf, //
};
use core::{
    any::TypeId,
    marker::PhantomData,
    pin::Pin,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    device::Device,
    error::from_err_ptr,
    module::this_module,
    page::PAGE_SIZE,
    prelude::*,
    str::CStr,
    sync::aref::ARef,
    types::ForeignOwnable,
    ModuleMetadata, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    memory::Memory,
    DataDirection, //
};

/// What a kind of buffer is, and what it does beyond what all of them do.
///
/// A buffer has one value of this type, which is dropped with its memory when the last reference
/// to the buffer is gone. Mapping and unmapping is the library's work.
///
/// A callback must not use the buffer that it is called for, but for what it gets as arguments.
/// Those marked so are called with the buffer's reservation lock held: they must not use any
/// dma-buf at all, nor drop an [`Attachment`](super::Attachment), which takes the lock of its own
/// buffer. (Reservation locks are of one class, and are not taken in an order here.)
///
/// # Examples
///
/// ```
/// use core::marker::PhantomData;
/// use kernel::{prelude::*, ModuleMetadata};
/// use phyr::{
///     ///     dma_buf::{self, Access, Exporter, Importing, Paged},
///     memory::Chunks, //
/// };
///
/// /// `M` is the driver's module: `LocalModule`.
/// struct Frames<M>(PhantomData<fn() -> M>);
///
/// impl<M: ModuleMetadata + 'static> Exporter for Frames<M> {
///     type Module = M;
///     type Memory = Chunks;
///     type Cpu = Paged;
///
///     const NAME: &'static CStr = c"frames";
///
///     fn attach(&self, importer: &Importing<'_>) -> Result {
///         if !importer.is_revocable() {
///             return Err(EOPNOTSUPP);
///         }
///         Ok(())
///     }
/// }
///
/// fn frame<M: ModuleMetadata + 'static>() -> Result<i32> {
///     let memory = Chunks::zeroed(1 << 20, 0, GFP_KERNEL_ACCOUNT)?;
///     let buf = dma_buf::export(memory, Frames::<M>(PhantomData), Access::ReadWrite)?;
///     buf.into_fd(kernel::bindings::O_CLOEXEC)
/// }
/// ```
pub trait Exporter: Send + Sync + Sized + 'static {
    /// The module with the code of this exporter, which is not unloaded while there is a buffer:
    /// `LocalModule`, in the module whose crate root has `module!` and in which this trait is
    /// implemented.
    ///
    /// This is a requirement: named otherwise, the module with the callbacks may be unloaded while
    /// there are buffers that call them. Rust has no name for "the module that this is compiled
    /// into" that a library could check.
    type Module: ModuleMetadata;

    /// What the buffer is made of.
    type Memory: Memory + Sync;

    /// How the CPU gets at it: [`Paged`](super::Paged) or [`Unpaged`](super::Unpaged); or, of the
    /// memory of a device, [`Peer`](super::Peer).
    type Cpu: Cpu<Self::Memory>;

    /// Name of the exporter, for debugging.
    const NAME: &'static CStr;

    /// Lets an importer attach, or refuses it.
    ///
    /// # Errors
    ///
    /// What the importer is to get.
    fn attach(&self, importer: &Importing<'_>) -> Result {
        let _ = importer;
        Ok(())
    }

    /// An importer for which [`Exporter::attach`] succeeded is gone.
    fn detach(&self, importer: &Importing<'_>) {
        let _ = importer;
    }

    /// An importer wants the memory to stay where it is, which it does anyhow. With the lock.
    ///
    /// # Errors
    ///
    /// What the importer is to get; `EBUSY` becomes `EAGAIN`.
    fn pin(&self, importer: &Importing<'_>) -> Result {
        let _ = importer;
        Ok(())
    }

    /// The end of a [`Exporter::pin`] that succeeded. With the lock.
    fn unpin(&self, importer: &Importing<'_>) {
        let _ = importer;
    }

    /// The CPU is about to access the memory, and fences have been waited for; what mappings there
    /// are the library syncs. With the lock.
    ///
    /// It need not balance with [`Exporter::end_cpu_access`]: user space calls both as it likes,
    /// and where the core fails after this it does not call the other.
    ///
    /// # Errors
    ///
    /// What the one who wants to access it is to get.
    fn begin_cpu_access(&self, dir: DataDirection) -> Result {
        let _ = dir;
        Ok(())
    }

    /// The CPU is done, or says so: see [`Exporter::begin_cpu_access`], which need not have been
    /// called. With the lock.
    fn end_cpu_access(&self, dir: DataDirection) {
        let _ = dir;
    }
}

/// In the exporter's field of an attachment: nothing is mapped for it.
const BUS: *mut c_void = ptr::without_provenance_mut(1);

/// What an exporter sees of an importer.
pub struct Importing<'a> {
    attach: *mut bindings::dma_buf_attachment,
    _attach: PhantomData<&'a ()>,
}

impl<'a> Importing<'a> {
    /// # Safety
    ///
    /// `attach` is a valid attachment for all of `'a`.
    pub(super) unsafe fn from_raw(attach: *mut bindings::dma_buf_attachment) -> Self {
        Self {
            attach,
            _attach: PhantomData,
        }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::dma_buf_attachment {
        self.attach
    }

    /// Keeps what [`Importing::route`] is to say.
    pub(super) fn set_route(&self, route: Route) {
        let mark = match route {
            Route::Bus => BUS,
            Route::Bridge => ptr::null_mut(),
        };
        // SAFETY: the attachment is valid, and the field is the exporter's, which writes it only
        // before the importer has the attachment.
        unsafe { (*self.attach).priv_ = mark };
    }

    /// How the importer gets at the memory, if that is another device's.
    pub(super) fn route(&self) -> Route {
        // SAFETY: as above.
        if unsafe { (*self.attach).priv_ } == BUS {
            Route::Bus
        } else {
            Route::Bridge
        }
    }

    /// The device that wants to access the memory.
    pub fn device(&self) -> &'a Device {
        // SAFETY: an importer keeps its device while it is attached.
        unsafe { Device::from_raw((*self.attach).dev) }
    }

    /// Whether it can handle memory of another device.
    pub fn is_peer_to_peer(&self) -> bool {
        // SAFETY: the attachment is valid.
        unsafe { (*self.attach).peer2peer }
    }

    /// Whether it can be told that its mapping must go. If not, the buffer cannot be revoked while
    /// it has it mapped.
    pub fn is_revocable(&self) -> bool {
        // SAFETY: the attachment is valid.
        unsafe { bindings::dma_buf_attach_revocable(self.attach) }
    }
}

/// What a buffer's file is opened for. Importers of this project keep to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The CPU and devices read.
    ReadOnly,
    /// The CPU and devices write.
    WriteOnly,
    /// Both.
    ReadWrite,
}

impl Access {
    /// From the `O_ACCMODE` bits of `flags`, or `None` where they are no valid ones.
    pub fn from_flags(flags: u32) -> Option<Self> {
        match flags & bindings::O_ACCMODE {
            bindings::O_RDONLY => Some(Self::ReadOnly),
            bindings::O_WRONLY => Some(Self::WriteOnly),
            bindings::O_RDWR => Some(Self::ReadWrite),
            _ => None,
        }
    }

    fn flags(self) -> u32 {
        match self {
            Self::ReadOnly => bindings::O_RDONLY,
            Self::WriteOnly => bindings::O_WRONLY,
            Self::ReadWrite => bindings::O_RDWR,
        }
    }
}

/// Makes a dma-buf of `memory`, which it owns from now on.
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
pub fn export<E: Exporter>(memory: E::Memory, exporter: E, access: Access) -> Result<Exported<E>> {
    let len = memory.len();
    check(&memory)?;
    let backend = KBox::new(Data { exporter, memory }, GFP_KERNEL)?;
    let owner = this_module::<E::Module>().as_ptr();
    let paged = <E::Cpu as Cpu<E::Memory>>::PAGED;
    // SAFETY: the length is that of the memory; whether it is pages says its type. The name is
    // that of the exporter's module, which stays.
    let buf = unsafe { export_backend(backend, len, paged, E::NAME, owner, access) }?;

    Exported::of(buf)
}

/// Checks that `memory` is there, in whole pages, and as long as it says.
fn check<M: Memory>(memory: &M) -> Result {
    let mut len = 0usize;
    for phyr in memory.phyrs() {
        let phyr = phyr?;
        // CAST: a `usize` is at most 64 bits wide.
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

/// The part of [`export`] that is the same for all.
///
/// # Safety
///
/// The memory of `backend` is `len` bytes, and pages if `paged`. `name` and the code of `backend`
/// stay for as long as there are references to `owner`.
unsafe fn export_backend(
    backend: KBox<dyn Backend>,
    len: usize,
    paged: bool,
    name: &'static CStr,
    owner: *mut bindings::module,
    access: Access,
) -> Result<ARef<DmaBuf>> {
    let buffer = KBox::pin_init(Buffer::new(backend), GFP_KERNEL)?.into_foreign();
    let info = bindings::dma_buf_export_info {
        exp_name: name.as_char_ptr(),
        owner,
        ops: ops::ops(paged),
        size: len,
        // CAST: two bits.
        flags: access.flags() as i32,
        resv: ptr::null_mut(),
        priv_: buffer,
    };
    let result = fail::at(Point::dma_buf_export).and_then(|()| {
        // SAFETY: the operations take such a private pointer, and the buffer owns it from now on.
        from_err_ptr(unsafe { bindings::dma_buf_export(&info) })
    });
    match result {
        // SAFETY: it is a new one, with one reference.
        Ok(buf) => unsafe { DmaBuf::from_owned(buf) },
        Err(e) => {
            // SAFETY: nobody else has taken it.
            drop(unsafe { <Pin<KBox<Buffer>>>::from_foreign(buffer) });
            Err(e)
        }
    }
}

/// A dma-buf that was exported by an `E`.
///
/// # Invariants
///
/// What is behind `buf` is a `Buffer`, and `exporter` is in its backend, a `Data<E>`.
pub struct Exported<E> {
    buf: ARef<DmaBuf>,
    exporter: NonNull<E>,
}

// SAFETY: what can be had is a shared reference to the exporter.
unsafe impl<E: Sync> Send for Exported<E> {}

// SAFETY: as above.
unsafe impl<E: Sync> Sync for Exported<E> {}

impl<E> Clone for Exported<E> {
    fn clone(&self) -> Self {
        // INVARIANT: it is the same.
        Self {
            buf: self.buf.clone(),
            exporter: self.exporter,
        }
    }
}

impl<E: Exporter> Exported<E> {
    /// Takes `buf` for one that an `E` has exported.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: it is another exporter's.
    pub fn of(buf: ARef<DmaBuf>) -> Result<Self> {
        let backend = buf.buffer().ok_or(EINVAL)?.backend();
        if backend.exporter() != TypeId::of::<E>() {
            return Err(EINVAL);
        }
        let data: *const Data<E> = ptr::from_ref(backend).cast();
        // SAFETY: there is one type of backend for a type of exporter, and it is there as long as
        // the buffer is.
        let exporter = NonNull::from(unsafe { &(*data).exporter });
        // INVARIANT: just found.
        Ok(Self { buf, exporter })
    }
}

impl<E> Exported<E> {
    /// The exporter.
    pub fn exporter(&self) -> &E {
        // SAFETY: by the type invariant it is behind the buffer, to which there is a reference.
        unsafe { self.exporter.as_ref() }
    }

    /// The buffer.
    pub fn dma_buf(&self) -> &DmaBuf {
        &self.buf
    }

    /// The buffer.
    pub fn into_dma_buf(self) -> ARef<DmaBuf> {
        self.buf
    }

    /// Gives the current process a file descriptor of the buffer; see [`DmaBuf::into_fd`].
    ///
    /// # Errors
    ///
    /// Those of [`DmaBuf::into_fd`].
    pub fn into_fd(self, flags: u32) -> Result<i32> {
        DmaBuf::into_fd(self.buf, flags)
    }

    /// Takes the buffer away from all devices, for ever.
    ///
    /// When this returns no device gets at the memory: importers have been told
    /// (`dma_buf_invalidate_mappings()`), fences have been waited for, and each mapping is gone.
    /// From when it begins, new attachments, mappings, `mmap()`s and `begin_cpu_access` fail with
    /// `ENODEV`.
    ///
    /// It does not stop the CPU: who has the memory mapped, in user space or by `dma_buf_vmap()`,
    /// goes on, and `dma_buf_vmap()` still works. The pages stay the buffer's until it is released.
    ///
    /// May be called again, and by several at once: each returns when it is so.
    ///
    /// Context: process context, sleeps for as long as importers need. Not from a callback of an
    /// importer or exporter of any buffer.
    ///
    /// # Errors
    ///
    /// - `EBUSY`: an importer has the buffer mapped or pinned that cannot be told; nothing has
    ///   changed.
    /// - `EINTR`: the process was killed while it waited. The buffer is revoked, as
    ///   [`Exported::is_revoked`] says, but devices may still get at the memory; who calls this
    ///   again waits for them.
    pub fn revoke(&self) -> Result {
        let buffer = self.buf.buffer().ok_or(EINVAL)?;
        buffer.revoke(&self.buf, Patience::UntilKilled)
    }

    /// Whether the buffer is revoked, or is being so.
    pub fn is_revoked(&self) -> bool {
        let buffer = self.buf.buffer();
        buffer.is_some_and(|buffer| buffer.is_revoked(&self.buf))
    }

    /// How many attachments and how many mappings of the buffer there are just now.
    pub fn counts(&self) -> (usize, usize) {
        let buffer = self.buf.buffer();
        buffer.map_or((0, 0), |buffer| buffer.counts(&self.buf))
    }
}
