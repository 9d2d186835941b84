// SPDX-License-Identifier: GPL-2.0

//! The importer's side: a device attaches to a buffer, and is told the ranges that it sees.
//!
//! An [`Attachment`] has no lifetime, as buffers come and go with user space. It ends with the
//! binding of its device all the same: the other end is a [`Managed`] value of the device, and
//! unmaps and detaches when the driver is unbound, even if the value was leaked.

use crate::{
    attached::{
        Attached,
        DetachOnDrop,
        Invalidate, //
    },
    dma_buf::DmaBuf,
    ranges::join, //
};
use core::marker::PhantomData;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};
use phyr::{
    linear::LinearError,
    DataDirection,
    DmaVec, //
};
use phyr_driver::managed::Managed;

/// Marker for a static importer, one without `invalidate_mappings`.
pub enum Static {}

/// The attachment of a device to a buffer, and its mapping when there is one.
///
/// It is detached when it is dropped, and at the latest when the driver is unbound from the
/// device; from then on each method fails with `ENODEV`. Before the mapping ends the driver must
/// see to it that the device is done with the buffer; a dynamic importer is asked to.
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
    _entry: Managed,
    attached: Arc<Attached>,
    _importer: PhantomData<Arc<I>>,
}

impl<I> Attachment<I> {
    fn new(dev: &Device<Bound>, entry: DetachOnDrop) -> Result<Self> {
        let attached = entry.attached();
        Ok(Self {
            // Detaches where it fails.
            _entry: Managed::new(dev, entry, GFP_KERNEL)?,
            attached,
            _importer: PhantomData,
        })
    }

    /// Maps the whole buffer for the device, and waits for earlier accesses by other devices.
    ///
    /// # Errors
    ///
    /// In each case it is not mapped by this call.
    ///
    /// - `EACCES`: the file of the buffer was not opened for what `dir` allows the device.
    /// - `EBUSY`: it is mapped already, or the device is in a domain of its driver's own.
    /// - `EINVAL`: `dir` is [`DataDirection::None`].
    /// - `EIO`: the exporter has mapped less than the whole buffer.
    /// - `ENODEV`: the buffer is revoked, or the device is unbound.
    /// - `ERESTARTSYS`: a signal came.
    /// - What else the exporter fails with, such as `ENOMEM`.
    pub fn map(&self, dir: DataDirection) -> Result {
        self.attached.map(dir)
    }

    /// Ends the mapping, if there is one. The device must be done with it.
    pub fn unmap(&self) {
        self.attached.unmap();
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
        self.attached.with_dma_vecs(|dma_vecs| dma_vecs.for_each(f))
    }

    /// Returns the buffer as one range, if the device sees it so.
    ///
    /// All entries of the exporter's table are checked. The range is valid until the mapping ends.
    ///
    /// # Errors
    ///
    /// - [`LinearError::Gap`]: the buffer is more than one range. `phyr` is the number of the first
    ///   entry that does not adjoin the one before, and `offset` its place in the buffer.
    /// - [`LinearError::Failed`]: the errors of [`Attachment::dma_vecs`].
    pub fn linear(&self) -> Result<DmaVec, LinearError> {
        self.attached
            .with_dma_vecs(|dma_vecs| join(dma_vecs))
            .unwrap_or_else(|e| Err(LinearError::Failed(e)))
    }

    /// Returns the buffer.
    pub fn dma_buf(&self) -> &DmaBuf {
        &self.attached.buf
    }
}

impl<I: Invalidate> Attachment<I> {
    /// Attaches `dev` to `buf` as a dynamic importer, which can be told to end its mapping.
    ///
    /// `peer_to_peer` says that the driver handles memory of another device. `importer` must not
    /// own the attachment: neither would ever be freed.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the device does no DMA.
    /// - `ENODEV`: the buffer is revoked.
    /// - `ENOMEM`: no memory.
    /// - What else the exporter refuses it with.
    pub fn dynamic(
        dev: &Device<Bound>,
        buf: ARef<DmaBuf>,
        peer_to_peer: bool,
        importer: Arc<I>,
    ) -> Result<Self> {
        Self::new(dev, Attached::dynamic(dev, buf, peer_to_peer, importer)?)
    }
}

impl Attachment<Static> {
    /// Attaches `dev` to `buf` as a static importer, which keeps its mapping for as long as it
    /// wants. While it has one the buffer cannot be moved or revoked, and some exporters refuse it.
    ///
    /// # Errors
    ///
    /// Those of [`Attachment::dynamic`].
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{device::{Bound, Device}, prelude::*};
    /// use phyr::{linear::LinearError, DataDirection, DmaVec};
    /// use phyr_dma_buf::{Attachment, DmaBuf, Static};
    ///
    /// /// Maps the buffer for a device that can take one range or a list.
    /// fn import(
    ///     dev: &Device<Bound>,
    ///     fd: i32,
    ///     mut program: impl FnMut(DmaVec),
    /// ) -> Result<Attachment<Static>> {
    ///     let attachment = Attachment::static_importer(dev, DmaBuf::get(fd)?)?;
    ///     attachment.map(DataDirection::FromDevice)?;
    ///     match attachment.linear() {
    ///         Ok(vec) => program(vec),
    ///         Err(LinearError::Gap { .. }) => attachment.dma_vecs(program)?,
    ///         Err(e) => return Err(e.into()),
    ///     }
    ///     Ok(attachment)
    /// }
    /// ```
    pub fn static_importer(dev: &Device<Bound>, buf: ARef<DmaBuf>) -> Result<Self> {
        Self::new(dev, Attached::static_importer(dev, buf)?)
    }
}
