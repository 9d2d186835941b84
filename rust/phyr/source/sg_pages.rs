// SPDX-License-Identifier: GPL-2.0

//! Pages of an `sg_table`, as any C code makes one; the page side alone.
//!
//! C header: [`include/linux/scatterlist.h`](srctree/include/linux/scatterlist.h)

use super::page::page_piece;
use crate::types::Phyr;
use core::marker::PhantomData;
use kernel::{
    bindings,
    prelude::*,
    scatterlist::SGTable, //
};

/// The pieces of an `sg_table`, in order; to be joined by [`Segments`](super::Segments).
///
/// The DMA side of the table is neither read nor written: the table may be mapped for another
/// device. A table that has only a DMA side, as importers of dma-bufs get it, has no pieces.
///
/// # Examples
///
/// ```
/// use kernel::{prelude::*, scatterlist::SGTable};
/// use phyr::{
///     mapping::PinnedMapping,
///     source::{SgPages, Segments},
///     DataDirection, Mapper, MemoryKind, Pinned,
/// };
///
/// /// Maps the pages of `table`.
/// ///
/// /// # Safety
/// ///
/// /// They stay allocated until the mapping has ended, and the device may write them.
/// unsafe fn receive<'b>(mapper: &Mapper<'b>, table: &SGTable) -> Result<PinnedMapping<'b>> {
///     let pages = Segments::new(SgPages::new(table), *mapper.limits());
///     // SAFETY: the caller promises as much.
///     let pages = unsafe { Pinned::new(pages, DataDirection::FromDevice, MemoryKind::System) }?;
///     mapper.map_pinned(&pages, GFP_KERNEL)
/// }
/// ```
///
/// # Invariants
///
/// `next` is null, or an entry of a table that is borrowed for `'a`.
#[derive(Clone)]
pub struct SgPages<'a> {
    next: *mut bindings::scatterlist,
    left: u32,
    _table: PhantomData<&'a SGTable>,
}

impl<'a> SgPages<'a> {
    /// Yields the pages of `table`.
    pub fn new(table: &'a SGTable) -> Self {
        // `SGTable` is a transparent wrapper of the C structure.
        let table: *const bindings::sg_table = core::ptr::from_ref(table).cast();
        // SAFETY: the table is borrowed, and so valid and not modified.
        let (next, left) = unsafe { ((*table).sgl, (*table).orig_nents) };
        // INVARIANT: the first entry of the table.
        Self {
            next,
            left,
            _table: PhantomData,
        }
    }
}

impl Iterator for SgPages<'_> {
    type Item = Result<Phyr>;

    /// # Errors
    ///
    /// - `EFAULT`: the entry has no page.
    /// - Those of [`page_piece`].
    fn next(&mut self) -> Option<Result<Phyr>> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: by the type invariant it is an entry of a valid table, or null.
        let entry = unsafe { self.next.as_ref() }?;
        // INVARIANT: the entry after it, or null.
        // SAFETY: by the type invariant it is an entry of a valid table.
        self.next = unsafe { bindings::sg_next(self.next) };

        // CAST: an `unsigned long` is a pointer, but for its two lowest bits, which are flags.
        let page = (entry.page_link & !3) as *const bindings::page;
        if page.is_null() {
            return Some(Err(EFAULT));
        }
        // SAFETY: the page is one of a valid table, as are the bytes after its offset.
        // CAST: a `usize` has at least 32 bits.
        Some(unsafe { page_piece(page, entry.offset.into(), entry.length as usize) })
    }
}
