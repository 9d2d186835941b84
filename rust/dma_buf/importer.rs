// SPDX-License-Identifier: GPL-2.0

//! The importer's side: a dma-buf goes in, the ranges that a device sees come out.
//!
//! An [`Attachment`] has no lifetime, as buffers come and go with user space. It is tied to the
//! binding of its device all the same: the device's resources hold the other end, and when the
//! driver is unbound the mapping ends and the attachment is taken down, even if the value was
//! leaked.

use super::{
    ranges::{
        self,
        clip,
        NotLinear, //
    },
    resv::{
        ByResv,
        Fences,
        Patience,
        Reserved, //
    },
    table::Entries,
    CpuAccess,
    DmaBuf, //
};
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device,
        Normal, //
    },
    devres::Devres,
    error::from_err_ptr,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    ownership::MappedFor,
    raw,
    DataDirection,
    DmaVec, //
};

/// What a driver does when its mapping of a buffer must go.
pub trait Invalidate: Send + Sync + 'static {
    /// Stops the device: when this returns it does not access the buffer any more, and starts no
    /// access until the buffer is mapped again. Then the library ends the mapping.
    ///
    /// Called when the exporter moves or revokes the buffer, when the device is unbound, and when
    /// an [`Attachment`] is dropped that is mapped: whenever a mapping ends other than by
    /// [`Attachment::unmap`].
    ///
    /// Context: process context with the buffer's reservation lock held; may sleep, but must come
    /// to an end by itself: what it waits for must not need this lock, nor memory. It must not use
    /// any dma-buf, this or another, nor an attachment: dropping an [`Attachment`] takes a lock of
    /// the same class, too, and so may dropping the last reference to what owns one.
    fn invalidate(&self);
}

/// Of an [`Attachment`] of a driver that cannot be told to end a mapping.
pub enum Static {}

/// The attachment of a device to a buffer, and its mapping when there is one.
///
/// It is detached when it is dropped, and at the latest when the driver is unbound from the
/// device; from then on each method fails with `ENODEV`. Before the mapping ends the driver has to
/// see to it that the device is done with the buffer; one that is attached by
/// [`Attachment::dynamic`] is asked to.
///
/// Each method, and dropping it, takes the buffer's reservation lock: process context, not from
/// [`Invalidate::invalidate`], nor from anything else that runs with such a lock held.
///
/// # Examples
///
/// ```
/// use kernel::{device::{Bound, Device}, prelude::*, sync::Arc};
/// use phyr::DataDirection;
/// use phyr_dma_buf::{Attachment, DmaBuf, Invalidate};
///
/// struct Ring;
///
/// impl Invalidate for Ring {
///     fn invalidate(&self) {
///         // Stop the ring, and wait until the device says that it has.
///     }
/// }
///
/// fn show(dev: &Device<Bound>, ring: Arc<Ring>, fd: i32) -> Result<Attachment<Ring>> {
///     let attachment = Attachment::dynamic(dev, DmaBuf::get(fd)?, false, ring)?;
///     attachment.map(DataDirection::ToDevice)?;
///     let _base = attachment.linear()?.addr();
///     Ok(attachment)
/// }
/// ```
pub struct Attachment<I> {
    _entry: Devres<Teardown>,
    link: Arc<Link>,
    _importer: PhantomData<Arc<I>>,
}

/// What the attachment, the device's resources and C's callback share.
struct Link {
    buf: ARef<DmaBuf>,
    /// `None` for a static importer.
    importer: Option<Arc<dyn Invalidate>>,
    state: ByResv<State>,
}

/// What the reservation lock guards.
///
/// # Invariants
///
/// `attach` is null, or an attachment to the buffer. If there is a `live` one, it is of `attach`.
struct State {
    attach: *mut bindings::dma_buf_attachment,
    live: Option<Live>,
}

// SAFETY: an attachment and a table have no thread.
unsafe impl Send for State {}

/// A mapping: the table that the exporter gave for `dir`.
struct Live {
    table: NonNull<bindings::sg_table>,
    dir: DataDirection,
    /// Meanwhile the device is in the domain of the DMA API.
    _mapped_for: MappedFor,
}

/// Operations of a dynamic importer that handles memory of the system only.
static DYNAMIC: bindings::dma_buf_attach_ops = bindings::dma_buf_attach_ops {
    allow_peer2peer: false,
    invalidate_mappings: Some(invalidate_mappings),
};

/// The same, that handles memory of another device, too.
static PEER_TO_PEER: bindings::dma_buf_attach_ops = bindings::dma_buf_attach_ops {
    allow_peer2peer: true,
    invalidate_mappings: Some(invalidate_mappings),
};

/// # Safety
///
/// `attach` is a valid attachment, made with the operations above, and the lock of its buffer is
/// held.
unsafe extern "C" fn invalidate_mappings(attach: *mut bindings::dma_buf_attachment) {
    // SAFETY: `Link::attach` gave the attachment this pointer, and who detaches it holds the link
    // until it is gone.
    let link = unsafe { &*(*attach).importer_priv.cast::<Link>() };
    // SAFETY: by the requirements of this function.
    link.invalidate(&mut *unsafe { link.buf.reserved() });
}

impl Link {
    /// Attaches `dev`.
    ///
    /// # Errors
    ///
    /// What the exporter, or the core, fails with.
    fn attach(
        dev: &Device<Bound>,
        buf: ARef<DmaBuf>,
        ops: Option<&'static bindings::dma_buf_attach_ops>,
        importer: Option<Arc<dyn Invalidate>>,
    ) -> Result<(Arc<Self>, Teardown)> {
        let link = Arc::new(
            Self {
                buf,
                importer,
                // INVARIANT: nothing is attached.
                state: ByResv::new(State {
                    attach: ptr::null_mut(),
                    live: None,
                }),
            },
            GFP_KERNEL,
        )?;
        let (buf, ops) = (link.buf.as_raw(), ops.map_or(ptr::null(), ptr::from_ref));
        let private = Arc::as_ptr(&link).cast_mut().cast();
        fail::at(Point::dma_buf_dynamic_attach)?;
        // SAFETY: the dma-buf is valid and `dev` bound. The link outlives the attachment: it is
        // in the returned value, which detaches.
        let attach = from_err_ptr(unsafe {
            bindings::dma_buf_dynamic_attach(buf, raw::device(dev), ops, private)
        })?;
        // INVARIANT: just attached.
        link.state(&mut link.buf.reserve()).attach = attach;
        Ok((link.clone(), Teardown { link }))
    }

    fn state<'a>(&'a self, lock: &'a mut Reserved<'_>) -> &'a mut State {
        // SAFETY: each caller has the lock of `self.buf`, which never changes.
        unsafe { self.state.get(lock) }
    }

    fn map(&self, dir: DataDirection) -> Result {
        self.buf.check_access(dir)?;
        let mut lock = self.buf.reserve();
        let state = self.state(&mut lock);
        if state.attach.is_null() {
            return Err(ENODEV);
        }
        if state.live.is_some() {
            return Err(EBUSY);
        }
        let attach = state.attach;
        // SAFETY: by the invariant of `State` the attachment is valid, and so its device.
        let mapped_for = MappedFor::new(unsafe { Device::<Normal>::from_raw((*attach).dev) })?;
        fail::at(Point::dma_buf_map_attachment)?;
        // SAFETY: by the invariant of `State`; the lock is held. The exporter may call back to
        // invalidate, which finds nothing mapped.
        let table = unsafe { bindings::dma_buf_map_attachment(attach, dir.into()) };
        let table = NonNull::new(from_err_ptr(table)?).ok_or(ENOMEM)?;
        // INVARIANT: just mapped so.
        self.state(&mut lock).live = Some(Live {
            table,
            dir,
            _mapped_for: mapped_for,
        });

        // From here on, what fails takes the mapping down again; no device knows of it.
        self.check_mapped(&mut lock, dir)
            .inspect_err(|_| self.unmap(&mut lock))
    }

    /// Waits for what has to be waited for, and checks that all of the buffer is there.
    fn check_mapped(&self, lock: &mut Reserved<'_>, dir: DataDirection) -> Result {
        let fences = Fences::Before {
            write: dir != DataDirection::ToDevice,
        };
        self.buf.wait(fences, Patience::UntilSignal)?;
        let state = self.state(lock);
        let entries = state.entries().ok_or(ENXIO)?;
        if ranges::covers(entries, self.buf.size()) {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// Ends the mapping, if there is one. The device is done with it.
    fn unmap(&self, lock: &mut Reserved<'_>) {
        let state = self.state(lock);
        let attach = state.attach;
        if let Some(Live {
            table,
            dir,
            _mapped_for,
        }) = state.live.take()
        {
            // SAFETY: by the invariant of `State` this was mapped so; the lock is held.
            unsafe { bindings::dma_buf_unmap_attachment(attach, table.as_ptr(), dir.into()) };
        }
    }

    /// Ends the mapping, if there is one, after the driver has stopped the device.
    fn invalidate(&self, lock: &mut Reserved<'_>) {
        if self.state(lock).live.is_none() {
            return;
        }
        if let Some(importer) = &self.importer {
            importer.invalidate();
        }
        self.unmap(lock);
    }

    /// Ends the mapping and the attachment.
    fn detach(&self) {
        let mut lock = self.buf.reserve();
        self.invalidate(&mut lock);
        // INVARIANT: nothing is mapped any more, and nobody else detaches.
        let attach = core::mem::replace(&mut self.state(&mut lock).attach, ptr::null_mut());
        drop(lock);
        if !attach.is_null() {
            // SAFETY: by the invariant of `State` it was an attachment, which nobody else gets at.
            unsafe { bindings::dma_buf_detach(self.buf.as_raw(), attach) };
        }
    }

    /// Calls `f` with the ranges that the device sees.
    fn with_entries<T>(&self, f: impl FnOnce(&mut dyn Iterator<Item = DmaVec>) -> T) -> Result<T> {
        let mut lock = self.buf.reserve();
        let state = self.state(&mut lock);
        if state.attach.is_null() {
            return Err(ENODEV);
        }
        let entries = state.entries().ok_or(ENXIO)?;
        let mut entries = clip(entries, self.buf.size());
        Ok(f(&mut entries))
    }
}

impl State {
    fn entries(&self) -> Option<Entries<'_>> {
        let live = self.live.as_ref()?;
        // SAFETY: by the type invariant this is a mapped table, which stays so while the state is
        // borrowed.
        Some(unsafe { Entries::new(live.table.as_ref()) })
    }
}

/// Takes an attachment down when it is dropped.
struct Teardown {
    link: Arc<Link>,
}

impl Drop for Teardown {
    fn drop(&mut self) {
        self.link.detach();
    }
}

impl<I> Attachment<I> {
    fn new(dev: &Device<Bound>, (link, teardown): (Arc<Link>, Teardown)) -> Result<Self> {
        fail::at(Point::devres_add)?;
        Ok(Self {
            // Dropped, and so detached, where it fails.
            _entry: Devres::new(dev, Ok::<_, Error>(teardown))?,
            link,
            _importer: PhantomData,
        })
    }

    /// Maps the buffer for the device, all of it, and waits for what devices were asked to do with
    /// it before.
    ///
    /// # Errors
    ///
    /// In each case it is not mapped by this call.
    ///
    /// - `EACCES`: the file of the buffer was not opened for what `dir` allows the device.
    /// - `EBUSY`: it is mapped already, or the device is in a
    ///   [domain of its own](crate::iommu::Domain).
    /// - `EINVAL`: `dir` is [`DataDirection::None`].
    /// - `EIO`: the exporter has mapped less than all of the buffer.
    /// - `ENODEV`: the buffer is revoked, or the device is unbound.
    /// - `ERESTARTSYS`: a signal came.
    /// - What else the exporter fails with, such as `ENOMEM`.
    pub fn map(&self, dir: DataDirection) -> Result {
        self.link.map(dir)
    }

    /// Ends the mapping, if there is one. The device must be done with it.
    pub fn unmap(&self) {
        self.link.unmap(&mut self.link.buf.reserve());
    }

    /// Whether the buffer is mapped just now.
    pub fn is_mapped(&self) -> bool {
        self.link.state(&mut self.link.buf.reserve()).live.is_some()
    }

    /// Calls `f` with each range that the device sees, in the order of the buffer. Together they
    /// are as long as the buffer is, whatever the exporter has mapped. `f` is called with the
    /// reservation lock held: it must not use any dma-buf, nor drop an attachment.
    ///
    /// The ranges are valid until the mapping ends.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the device is unbound.
    /// - `ENXIO`: the buffer is not mapped: not yet, or no more.
    pub fn dma_vecs(&self, f: impl FnMut(DmaVec)) -> Result {
        self.link.with_entries(|entries| entries.for_each(f))
    }

    /// The one range that the device sees.
    ///
    /// Every segment is looked at. It is valid until the mapping ends.
    ///
    /// # Errors
    ///
    /// - [`NotLinear::Gap`]: the buffer is more than one range; says where.
    /// - [`NotLinear::Not`]: the errors of [`Attachment::dma_vecs`].
    pub fn linear(&self) -> Result<DmaVec, NotLinear> {
        self.link
            .with_entries(|entries| ranges::join(entries))
            .unwrap_or_else(|e| Err(NotLinear::Not(e)))
    }

    /// Gives the CPU access to the buffer until the returned guard is dropped; the driver has the
    /// device wait. See [`DmaBuf::cpu`].
    ///
    /// # Errors
    ///
    /// Those of [`DmaBuf::cpu`].
    pub fn cpu(&self, dir: DataDirection) -> Result<CpuAccess> {
        self.link.buf.cpu(dir)
    }

    /// The buffer.
    pub fn dma_buf(&self) -> &DmaBuf {
        &self.link.buf
    }

    /// Length of the buffer in bytes.
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.link.buf.size()
    }
}

impl<I: Invalidate> Attachment<I> {
    /// Attaches `dev` to `buf`, as one that can be told when its mapping must go.
    ///
    /// `peer_to_peer` says that the driver can handle memory of another device. `importer` must
    /// not own the attachment: neither would ever be freed.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the buffer is revoked.
    /// - `ENOMEM`: no memory.
    /// - What else the exporter refuses it with.
    pub fn dynamic(
        dev: &Device<Bound>,
        buf: ARef<DmaBuf>,
        peer_to_peer: bool,
        importer: Arc<I>,
    ) -> Result<Self> {
        Self::new(dev, attach_dynamic(dev, buf, peer_to_peer, importer)?)
    }
}

impl Attachment<Static> {
    /// Attaches `dev` to `buf`, as one that keeps its mapping for as long as it wants. While it
    /// has one the buffer cannot be moved or revoked, and there are exporters that refuse it.
    ///
    /// # Errors
    ///
    /// Those of [`Attachment::dynamic`].
    pub fn fixed(dev: &Device<Bound>, buf: ARef<DmaBuf>) -> Result<Self> {
        Self::new(dev, Link::attach(dev, buf, None, None)?)
    }
}

/// The part of [`Attachment::dynamic`] that is the same for all.
fn attach_dynamic(
    dev: &Device<Bound>,
    buf: ARef<DmaBuf>,
    peer_to_peer: bool,
    importer: Arc<dyn Invalidate>,
) -> Result<(Arc<Link>, Teardown)> {
    let ops = if peer_to_peer {
        &PEER_TO_PEER
    } else {
        &DYNAMIC
    };
    Link::attach(dev, buf, Some(ops), Some(importer))
}
