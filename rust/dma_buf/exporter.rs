// SPDX-License-Identifier: GPL-2.0

//! The trait that an exporter's driver implements, and an importer's attachment as it sees it.

use crate::route::Route;
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    device::Device,
    prelude::*,
    ModuleMetadata, //
};
use phyr::{
    memory::{
        vmap_pages,
        Memory,
        PageMemory, //
    },
    DataDirection, //
};

/// The exporter of a buffer, and the callbacks of its driver: `struct dma_buf_ops`.
///
/// Each buffer has one value of this type, which is dropped with its memory when the last reference
/// to the buffer is gone. The library maps and unmaps.
///
/// A callback must use the buffer that it is called for only by its arguments. Those marked "with
/// the lock" are called with the buffer's reservation lock held: they must not use any dma-buf at
/// all, nor drop an [`Attachment`](crate::Attachment), which takes the lock of its own buffer. (All
/// reservation locks are of one class, and no order is kept among them here.)
///
/// # Examples
///
/// ```
/// use core::marker::PhantomData;
/// use kernel::{fs::file::FileDescriptorReservation, prelude::*, ModuleMetadata};
/// use phyr::memory::Chunks;
/// use phyr_dma_buf::{AccessMode, AttachmentRef, DmaBuf, Exporter, MmapVmap};
///
/// /// `M` is the driver's module: `LocalModule`.
/// struct Frames<M>(PhantomData<fn() -> M>);
///
/// impl<M: ModuleMetadata + 'static> Exporter for Frames<M> {
///     type Module = M;
///     type Memory = Chunks;
///     type CpuMapping = MmapVmap;
///
///     // Refuses importers that would keep the buffer from being revoked.
///     fn attach(&self, attachment: &AttachmentRef<'_>) -> Result {
///         if !attachment.is_revocable() {
///             dev_warn!(attachment.device(), "cannot be told to end a mapping\n");
///             return Err(EOPNOTSUPP);
///         }
///         Ok(())
///     }
/// }
///
/// /// Makes `fd` a frame's, after its number was passed to user space.
/// fn frame<M: ModuleMetadata + 'static>(fd: FileDescriptorReservation) -> Result {
///     let memory = Chunks::zeroed(1 << 20, 0, GFP_KERNEL_ACCOUNT)?;
///     let buf = phyr_dma_buf::export(memory, Frames::<M>(PhantomData), AccessMode::ReadWrite)?;
///     fd.fd_install(DmaBuf::into_file(buf.into_dma_buf())?);
///     Ok(())
/// }
/// ```
pub trait Exporter: Send + Sync + 'static {
    // `Self: Sized` leaves the types out of `dyn Exporter`, which a buffer has.

    /// The module with the code of this exporter, which is not unloaded while there is a buffer:
    /// `LocalModule`, in the module whose crate root has `module!` and in which this trait is
    /// implemented.
    ///
    /// This is a requirement: if it is another module, the one with the callbacks may be unloaded
    /// while there are buffers that call them. Rust has no name for "the module that this is
    /// compiled into" that a library could check.
    ///
    /// Its name is the exporter's in debugfs, as with `DEFINE_DMA_BUF_EXPORT_INFO()`.
    type Module: ModuleMetadata
    where
        Self: Sized;

    /// The memory of a buffer.
    type Memory: Memory + Sync
    where
        Self: Sized;

    /// The CPU's access to the memory: [`MmapVmap`] or [`DeviceOnly`].
    type CpuMapping: CpuMapping<Self::Memory>
    where
        Self: Sized;

    /// Lets an importer attach, or refuses it.
    ///
    /// # Errors
    ///
    /// The error returned to the importer.
    fn attach(&self, attachment: &AttachmentRef<'_>) -> Result {
        let _ = attachment;
        Ok(())
    }

    /// Ends an attachment for which [`Exporter::attach`] succeeded.
    fn detach(&self, attachment: &AttachmentRef<'_>) {
        let _ = attachment;
    }

    /// Pins the memory, which the library never moves. With the lock.
    ///
    /// # Errors
    ///
    /// The error returned to the importer; `EBUSY` becomes `EAGAIN`.
    fn pin(&self, attachment: &AttachmentRef<'_>) -> Result {
        let _ = attachment;
        Ok(())
    }

    /// Ends an [`Exporter::pin`] that succeeded. With the lock.
    fn unpin(&self, attachment: &AttachmentRef<'_>) {
        let _ = attachment;
    }

    /// Prepares the memory for accesses by the CPU. With the lock.
    ///
    /// Fences have been waited for. The library syncs all mappings after this.
    ///
    /// Calls need not balance with those of [`Exporter::end_cpu_access`]: user space makes both as
    /// it likes, and the core makes no second one where it fails after the first.
    ///
    /// # Errors
    ///
    /// The error returned to the caller of `dma_buf_begin_cpu_access()`.
    fn begin_cpu_access(&self, dir: DataDirection) -> Result {
        let _ = dir;
        Ok(())
    }

    /// Ends an access by the CPU, perhaps one that was never begun: see
    /// [`Exporter::begin_cpu_access`]. With the lock.
    fn end_cpu_access(&self, dir: DataDirection) {
        let _ = dir;
    }
}

/// The CPU's access to memory of the type `M` through a dma-buf: [`MmapVmap`] or [`DeviceOnly`].
pub trait CpuMapping<M: Memory>: private::Sealed + 'static {
    #[doc(hidden)]
    const MMAP_VMAP: bool;

    #[doc(hidden)]
    fn vmap(memory: &M) -> Result<NonNull<u8>>;
}

mod private {
    pub trait Sealed {}
}

/// Memory in pages, which user space maps by `mmap()`, and the kernel by `dma_buf_vmap()`.
pub struct MmapVmap;

/// Memory that only devices access, such as that of a BAR.
pub struct DeviceOnly;

impl private::Sealed for MmapVmap {}
impl private::Sealed for DeviceOnly {}

impl<M: PageMemory> CpuMapping<M> for MmapVmap {
    const MMAP_VMAP: bool = true;

    fn vmap(memory: &M) -> Result<NonNull<u8>> {
        vmap_pages(memory)
    }
}

impl<M: Memory> CpuMapping<M> for DeviceOnly {
    const MMAP_VMAP: bool = false;

    fn vmap(_memory: &M) -> Result<NonNull<u8>> {
        Err(EOPNOTSUPP)
    }
}

/// The access mode of a buffer's file (`O_ACCMODE`), which importers of this crate keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    /// The CPU and devices read.
    ReadOnly,
    /// The CPU and devices write.
    WriteOnly,
    /// The CPU and devices read and write.
    ReadWrite,
}

impl AccessMode {
    /// Returns the mode in the `O_ACCMODE` bits of `flags`, or `None` if they are not valid.
    pub fn from_flags(flags: u32) -> Option<Self> {
        match flags & bindings::O_ACCMODE {
            bindings::O_RDONLY => Some(Self::ReadOnly),
            bindings::O_WRONLY => Some(Self::WriteOnly),
            bindings::O_RDWR => Some(Self::ReadWrite),
            _ => None,
        }
    }

    pub(crate) fn flags(self) -> u32 {
        match self {
            Self::ReadOnly => bindings::O_RDONLY,
            Self::WriteOnly => bindings::O_WRONLY,
            Self::ReadWrite => bindings::O_RDWR,
        }
    }
}

/// In the `priv` field of an attachment: its route is [`Route::Bus`].
const BUS: *mut c_void = ptr::without_provenance_mut(1);

/// An attachment as its exporter sees it: `struct dma_buf_attachment`, borrowed.
///
/// # Invariants
///
/// `attach` is a valid attachment for all of `'a`.
pub struct AttachmentRef<'a> {
    attach: *mut bindings::dma_buf_attachment,
    _attach: PhantomData<&'a ()>,
}

impl<'a> AttachmentRef<'a> {
    /// Borrows `attach`.
    ///
    /// # Safety
    ///
    /// `attach` is a valid attachment for all of `'a`.
    pub(crate) unsafe fn from_raw(attach: *mut bindings::dma_buf_attachment) -> Self {
        // INVARIANT: The caller promises that `attach` is valid for `'a`.
        Self {
            attach,
            _attach: PhantomData,
        }
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::dma_buf_attachment {
        self.attach
    }

    /// Stores the route that [`AttachmentRef::route`] is to return.
    pub(crate) fn set_route(&self, route: Route) {
        let mark = match route {
            Route::Bus => BUS,
            Route::Bridge => ptr::null_mut(),
        };
        // SAFETY: The attachment is valid by the type invariants. The field is the exporter's,
        // which writes it only before the importer has the attachment.
        unsafe { (*self.attach).priv_ = mark };
    }

    /// Returns the importer's route to the memory of another device.
    pub(crate) fn route(&self) -> Route {
        // SAFETY: The attachment is valid by the type invariants, and the field is the exporter's.
        if unsafe { (*self.attach).priv_ } == BUS {
            Route::Bus
        } else {
            Route::Bridge
        }
    }

    /// Returns the importer's device.
    pub fn device(&self) -> &'a Device {
        // SAFETY: The attachment is valid for `'a` by the type invariants, and the importer keeps
        // its device while it is attached.
        unsafe { Device::from_raw((*self.attach).dev) }
    }

    /// Returns whether the importer handles memory of another device (`peer2peer`).
    pub(crate) fn is_peer_to_peer(&self) -> bool {
        // SAFETY: The attachment is valid by the type invariants.
        unsafe { (*self.attach).peer2peer }
    }

    /// Returns whether the importer can be told to end its mapping: `dma_buf_attach_revocable()`.
    /// If not, the buffer cannot be revoked while the importer has it mapped or pinned.
    pub fn is_revocable(&self) -> bool {
        // SAFETY: The attachment is valid by the type invariants.
        unsafe { bindings::dma_buf_attach_revocable(self.attach) }
    }
}
