// SPDX-License-Identifier: GPL-2.0

//! An `sg_table` with a DMA side and no other: the form in which C takes a mapping.
//!
//! A table has no pages (`orig_nents` is zero, as in the kernel's own
//! `drivers/dma-buf/dma-buf-mapping.c`): who gets it cannot get at the memory behind the device's
//! back, nor map it a second time.
//!
//! C header: [`include/linux/scatterlist.h`](srctree/include/linux/scatterlist.h)

use super::{
    bindings as helpers,
    fail::{
        self,
        Point, //
    },
    memory::check_pages,
    raw,
    types::DmaVec, //
};
use core::ops::Deref;
use kernel::{
    alloc::flags::__GFP_NOWARN,
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    scatterlist::SGTable,
    types::Opaque, //
};

/// The ranges of a mapping as an `sg_table`, for C and for readers of [`SGTable`].
///
/// # Examples
///
/// ```
/// use kernel::prelude::*;
/// use phyr::{mapping::Mapping, memory::Pages, DmaTable};
///
/// fn table(mapping: &Mapping<'_, Pages>) -> Result<KBox<DmaTable>> {
///     let table = DmaTable::new(mapping.dma_vecs())?;
///     for entry in table.iter() {
///         pr_info!("{:#x}, {} bytes\n", entry.dma_address(), entry.dma_len());
///     }
///     Ok(table)
/// }
/// ```
///
/// # Invariants
///
/// `sgt` has `nr` entries, or none if `nr` is zero, each with an address and a length.
pub struct DmaTable {
    sgt: Opaque<bindings::sg_table>,
    nr: u32,
}

// SAFETY: The entries are the table's own, and belong to no thread.
unsafe impl Send for DmaTable {}

// SAFETY: A shared reference does not write them.
unsafe impl Sync for DmaTable {}

impl DmaTable {
    /// Describes `vecs`, in an entry each.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// - `EOVERFLOW`: more entries than can be counted, or a range that is longer than an entry can
    ///   be.
    /// - `EINVAL`: `vecs` has not as many elements as a clone of it had.
    /// - `ENOMEM`: no memory.
    pub fn new(vecs: impl Iterator<Item = DmaVec> + Clone) -> Result<KBox<Self>> {
        let nr = u32::try_from(vecs.clone().count()).map_err(|_| EOVERFLOW)?;
        // INVARIANT: There are no entries yet.
        let mut this = KBox::new(
            Self {
                sgt: Opaque::new(bindings::sg_table::default()),
                nr: 0,
            },
            GFP_KERNEL,
        )?;
        if nr == 0 {
            return Ok(this);
        }
        let sgt = this.as_raw();

        // CAST: a `usize` has at least 32 bits. A saturated number is too many.
        let bytes = (nr as usize).saturating_mul(size_of::<bindings::scatterlist>());
        check_pages(bytes / PAGE_SIZE)?;
        let flags = raw::gfp(GFP_KERNEL | __GFP_NOWARN);
        fail::at(Point::sg_alloc_table)?;
        // SAFETY: `sgt` may be written. Drop frees what is allocated.
        to_result(unsafe { bindings::sg_alloc_table(sgt, nr, flags) })?;
        // INVARIANT: `nr` entries have just been allocated, and are set below.
        this.nr = nr;
        // SAFETY: `sgt` is valid, and nobody else has it yet.
        let mut sg = unsafe {
            (*sgt).orig_nents = 0;
            (*sgt).sgl
        };
        for vec in vecs {
            let (addr, len) = (vec.addr().into_raw(), u32::try_from(vec.len()));
            if sg.is_null() {
                return Err(EINVAL);
            }
            let len = len.map_err(|_| EOVERFLOW)?;
            // SAFETY: `sg` is an entry of the table: the first, or one that `sg_next()` returned.
            sg = unsafe { helpers::phyr_helper_sg_fill_dma(sg, addr, len) };
        }
        if !sg.is_null() {
            return Err(EINVAL);
        }
        Ok(this)
    }

    /// Returns the table for C, valid until this is dropped.
    pub fn as_raw(&self) -> *mut bindings::sg_table {
        self.sgt.get()
    }
}

impl Deref for DmaTable {
    type Target = SGTable;

    fn deref(&self) -> &SGTable {
        // SAFETY: the table is valid, and not modified while this is borrowed.
        unsafe { SGTable::from_raw(self.as_raw()) }
    }
}

impl Drop for DmaTable {
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
