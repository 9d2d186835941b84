// SPDX-License-Identifier: GPL-2.0

//! The `sg_table` through which C hands a mapping over, of which only the DMA side is used.
//!
//! A table has no pages (`orig_nents` is zero, as in the kernel's own
//! `drivers/dma-buf/dma-buf-mapping.c`): an importer cannot get at the memory behind the device's
//! back.
//!
//! C header: [`include/linux/scatterlist.h`](srctree/include/linux/scatterlist.h)

use crate::{
    bindings as helpers,
    exporter::AttachmentRef,
    mapped::Mapped,
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
    error::to_result,
    prelude::*,
    types::Opaque, //
};
use phyr::{
    device::max_segment,
    fail::{
        self,
        Point, //
    },
    Limits, //
};

/// A mapping with the table that describes it. Dropping it frees the table and unmaps.
///
/// # Invariants
///
/// `sgt` has `nr` entries, or none if `nr` is zero. They are those of `mapped`.
pub(crate) struct Table {
    sgt: Opaque<bindings::sg_table>,
    nr: u32,
    mapped: Mapped,
    /// Attachment that this was made for; for pointer comparison only.
    attach: *const bindings::dma_buf_attachment,
}

// SAFETY: The entries are the table's own, and a mapping belongs to no thread.
unsafe impl Send for Table {}

impl Table {
    /// Describes `mapped`, which is for `attachment`, in entries that its device can take.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the device takes less than a page in an entry.
    /// - `EOVERFLOW`: more entries than can be counted.
    /// - `ENOMEM`: no memory.
    pub(crate) fn new(mapped: Mapped, attachment: &AttachmentRef<'_>) -> Result<KBox<Self>> {
        let limits = entry_limits(mapped.device())?;
        let nr = u32::try_from(cut(mapped.dma_vecs(), limits).count()).map_err(|_| EOVERFLOW)?;
        // INVARIANT: There are no entries yet.
        let mut this = KBox::new(
            Self {
                sgt: Opaque::new(bindings::sg_table::default()),
                nr: 0,
                mapped,
                attach: attachment.as_raw(),
            },
            GFP_KERNEL,
        )?;
        let sgt = this.as_raw();

        fail::at(Point::sg_alloc_table)?;
        // SAFETY: `sgt` may be written. Drop frees what is allocated.
        to_result(unsafe { bindings::sg_alloc_table(sgt, nr, bindings::GFP_KERNEL) })?;
        // INVARIANT: `nr` entries have just been allocated, and are set below.
        this.nr = nr;
        // SAFETY: `sgt` is valid, and C does not have it yet.
        let mut sg = unsafe {
            (*sgt).orig_nents = 0;
            (*sgt).sgl
        };
        for vec in cut(this.mapped.dma_vecs(), limits) {
            if sg.is_null() {
                break;
            }
            let addr = vec.addr().into_raw();
            // SAFETY: `sg` is an entry of the table: the first, or one that `sg_next()` returned.
            // CAST: `limits` allows less than 32 bits.
            sg = unsafe { helpers::phyr_dma_buf_helper_sg_fill_dma(sg, addr, vec.len() as u32) };
        }
        Ok(this)
    }

    /// Returns whether it was made for `attachment`.
    pub(crate) fn is_for(&self, attachment: &AttachmentRef<'_>) -> bool {
        ptr::eq(self.attach, attachment.as_raw())
    }

    /// Returns the mapping that the table describes.
    pub(crate) fn mapped(&self) -> &Mapped {
        &self.mapped
    }

    /// Returns the table for C, valid until this is dropped.
    pub(crate) fn as_raw(&self) -> *mut bindings::sg_table {
        self.sgt.get()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let sgt = self.as_raw();
        // SAFETY: `sgt` has `nr` entries by the type invariants, and `sg_free_table()` goes by
        // `orig_nents`. A table without entries may be freed, too.
        unsafe {
            (*sgt).orig_nents = self.nr;
            bindings::sg_free_table(sgt);
        }
    }
}

/// Returns the limits of one entry of a table for `dev`.
fn entry_limits(dev: &Device<Bound>) -> Result<Limits> {
    entry_limits_of(Limits::of_device(dev), max_segment(dev).into()).ok_or(EINVAL)
}
