// SPDX-License-Identifier: GPL-2.0

//! A mapping with the `sg_table` through which C is handed it, of which only the DMA side is used.

use crate::{
    exporter::AttachmentRef,
    mapped::DeviceMapping,
    ranges::{
        cut,
        entry_limits_of, //
    }, //
};
use core::ptr;
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};
use phyr::{
    device::max_segment,
    DmaTable,
    Limits, //
};

/// A mapping with the table that describes it. Dropping it frees the table and unmaps.
pub(crate) struct Table {
    table: KBox<DmaTable>,
    mapped: DeviceMapping,
    /// Attachment that this was made for. Only compared.
    attach: *const bindings::dma_buf_attachment,
}

// SAFETY: A table and a mapping belong to no thread.
unsafe impl Send for Table {}

impl Table {
    /// Describes `mapped`, which is for `attachment`, in entries that its device can take.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the device takes less than a page in an entry.
    /// - Those of [`DmaTable::new`].
    pub(crate) fn new(mapped: DeviceMapping, attachment: &AttachmentRef<'_>) -> Result<KBox<Self>> {
        let limits = entry_limits(mapped.device())?;
        let table = DmaTable::new(cut(mapped.dma_vecs(), limits))?;
        let attach = attachment.as_raw();

        Ok(KBox::new(
            Self {
                table,
                mapped,
                attach,
            },
            GFP_KERNEL,
        )?)
    }

    /// Returns whether it was made for `attachment`.
    pub(crate) fn is_for(&self, attachment: &AttachmentRef<'_>) -> bool {
        ptr::eq(self.attach, attachment.as_raw())
    }

    /// Returns the mapping that the table describes.
    pub(crate) fn mapped(&self) -> &DeviceMapping {
        &self.mapped
    }

    /// Returns the table for C, valid until this is dropped.
    pub(crate) fn as_raw(&self) -> *mut bindings::sg_table {
        self.table.as_raw()
    }
}

/// Returns the limits of one entry of a table for `dev`.
fn entry_limits(dev: &Device<Bound>) -> Result<Limits> {
    entry_limits_of(Limits::of_device(dev), max_segment(dev).into()).ok_or(EINVAL)
}
