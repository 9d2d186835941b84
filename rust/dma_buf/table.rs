// SPDX-License-Identifier: GPL-2.0

//! The `sg_table` through which C hands a mapping over, of which only the DMA side is used.
//!
//! What an exporter of this project gives away has no pages in it (`orig_nents` is zero, as in the
//! kernel's own `drivers/dma-buf/dma-buf-mapping.c`): an importer cannot get at the memory behind
//! the device's back. What an importer gets is read range by range, and never more of it than the
//! buffer is long.
//!
//! C header: [`include/linux/scatterlist.h`](srctree/include/linux/scatterlist.h)

use super::{
    exporter::Importing,
    mapped::Mapped,
    ranges::{
        cut,
        entry_limits_of, //
    }, //
};
use crate::bindings as helpers;
use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    bindings,
    device::{
        Device, //
    },
    error::to_result,
    prelude::*, //
};
use phyr::{
    device::max_segment,
    fail::{
        self,
        Point, //
    },
    DmaAddr,
    DmaVec, //
    Limits,
};

/// A mapping with the table that describes it. Dropping it frees the table and unmaps.
///
/// # Invariants
///
/// `sgt` has `nr` entries, or none if `nr` is zero. They are those of `mapped`.
#[repr(C)]
pub(super) struct Table {
    /// The first field: C gets a pointer to it, and gives it back.
    sgt: bindings::sg_table,
    nr: u32,
    mapped: Mapped,
    /// Whose it is. Only compared.
    attach: *const bindings::dma_buf_attachment,
}

// SAFETY: the entries are the table's own, and the mapping has no thread.
unsafe impl Send for Table {}

impl Table {
    /// Describes `mapped`, which is for `importer`, in entries such as its device can take.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the device takes less than a page in an entry.
    /// - `EOVERFLOW`: more entries than can be counted.
    /// - `ENOMEM`: no memory.
    pub(super) fn new(mapped: Mapped, importer: &Importing<'_>) -> Result<KBox<Self>> {
        let limits = entry_limits(mapped.device())?;
        let nr = u32::try_from(cut(mapped.dma_vecs(), limits).count()).map_err(|_| EOVERFLOW)?;
        // INVARIANT: no entries yet.
        let mut this = KBox::new(
            Self {
                sgt: bindings::sg_table::default(),
                nr: 0,
                mapped,
                attach: importer.as_raw(),
            },
            GFP_KERNEL,
        )?;

        fail::at(Point::sg_alloc_table)?;
        // SAFETY: the table may be written; it is freed by Drop.
        to_result(unsafe { bindings::sg_alloc_table(&mut this.sgt, nr, bindings::GFP_KERNEL) })?;
        // INVARIANT: just allocated.
        this.nr = nr;
        this.sgt.orig_nents = 0;

        let mut sg = this.sgt.sgl;
        for vec in cut(this.mapped.dma_vecs(), limits) {
            if sg.is_null() {
                break;
            }
            // SAFETY: by the loop this is an entry of the table, which has one for each range.
            // CAST: the limits are less than 32 bits.
            sg = unsafe {
                let addr = vec.addr().into_raw();
                helpers::phyr_dma_buf_helper_sg_fill_dma(sg, addr, vec.len() as u32)
            };
        }
        Ok(this)
    }

    /// Whether it was made for `importer`.
    pub(super) fn is_for(&self, importer: &Importing<'_>) -> bool {
        ptr::eq(self.attach, importer.as_raw())
    }

    /// The mapping that the table describes.
    pub(super) fn mapped(&self) -> &Mapped {
        &self.mapped
    }

    /// The table, for C. It may be given back to [`Table::from_raw`].
    pub(super) fn into_raw(this: KBox<Self>) -> *mut bindings::sg_table {
        KBox::into_raw(this).cast()
    }

    /// # Safety
    ///
    /// `sgt` comes from [`Table::into_raw`] and is not used again.
    pub(super) unsafe fn from_raw(sgt: *mut bindings::sg_table) -> KBox<Self> {
        // SAFETY: by the requirements of this function; it is the first field.
        unsafe { KBox::from_raw(sgt.cast()) }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // `sg_free_table()` goes by what was allocated.
        self.sgt.orig_nents = self.nr;
        // SAFETY: by the type invariant; a table without entries may be freed, too.
        unsafe { bindings::sg_free_table(&mut self.sgt) };
    }
}

/// What `dev` takes in one entry.
fn entry_limits(dev: &Device) -> Result<Limits> {
    entry_limits_of(Limits::of_device(dev), max_segment(dev).into()).ok_or(EINVAL)
}

/// The DMA side of a table, entry by entry, whoever made it.
pub(super) struct Entries<'a> {
    sg: *mut bindings::scatterlist,
    left: u32,
    _table: PhantomData<&'a bindings::sg_table>,
}

impl<'a> Entries<'a> {
    /// # Safety
    ///
    /// `table` has `nents` entries with a DMA address, and stays as it is for `'a`.
    pub(super) unsafe fn new(table: &'a bindings::sg_table) -> Self {
        Self {
            sg: table.sgl,
            left: table.nents,
            _table: PhantomData,
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = DmaVec;

    fn next(&mut self) -> Option<DmaVec> {
        if self.left == 0 || self.sg.is_null() {
            return None;
        }
        // SAFETY: by the requirements of `new` and the count this is an entry of the table.
        let (addr, len) = unsafe {
            (
                helpers::phyr_dma_buf_helper_sg_dma_address(self.sg),
                helpers::phyr_dma_buf_helper_sg_dma_len(self.sg),
            )
        };
        self.left -= 1;
        self.sg = match self.left {
            0 => ptr::null_mut(),
            // SAFETY: as above, and there is another.
            _ => unsafe { bindings::sg_next(self.sg) },
        };
        // CAST: a `usize` has at least 32 bits.
        Some(DmaVec::new(DmaAddr::from_raw(addr), len as usize))
    }
}
