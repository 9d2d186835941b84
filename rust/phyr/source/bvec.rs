// SPDX-License-Identifier: GPL-2.0

//! Source: a slice of bio_vecs.
//!
//! C header: [`include/linux/bvec.h`](srctree/include/linux/bvec.h)

use super::page::page_piece;
use crate::types::Phyr;
use core::marker::PhantomData;
use kernel::{
    bindings,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// A piece of a page, as C's `struct bio_vec`, that borrows the page.
///
/// # Invariants
///
/// The page is valid for `'a`; the piece is not empty and within the page.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct BioVec<'a>(bindings::bio_vec, PhantomData<&'a Page>);

impl<'a> BioVec<'a> {
    /// Names the `len` bytes at `offset` of `page`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there are no such bytes, or `len` is zero.
    pub fn new(page: &'a Page, offset: usize, len: usize) -> Result<Self> {
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        if len == 0 || end > PAGE_SIZE {
            return Err(EINVAL);
        }
        // INVARIANT: the piece was checked to be in the page, which is borrowed for `'a`.
        // CAST: neither number is above the page size.
        Ok(Self(
            bindings::bio_vec {
                bv_page: page.as_ptr(),
                bv_len: len as u32,
                bv_offset: offset as u32,
            },
            PhantomData,
        ))
    }
}

/// The pieces of a slice of bio_vecs, in order; to be joined by
/// [`Segments`](super::Segments).
///
/// # Examples
///
/// ```
/// use kernel::{page::Page, prelude::*};
/// use phyr::{source::{bvec::{BioVec, BioVecs}, Segments}, Limits};
///
/// let page = Page::alloc_page(GFP_KERNEL)?;
/// let vecs = [BioVec::new(&page, 0, 512)?, BioVec::new(&page, 512, 512)?];
///
/// // The two pieces are neighbours: one phyr.
/// let mut phyrs = Segments::new(BioVecs::new(&vecs), Limits::NONE);
/// assert_eq!(phyrs.next().ok_or(EINVAL)??.len(), 1024);
/// assert!(phyrs.next().is_none());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct BioVecs<'a> {
    vecs: core::slice::Iter<'a, BioVec<'a>>,
}

impl<'a> BioVecs<'a> {
    /// Yields the pieces of `vecs`.
    #[inline]
    pub fn new(vecs: &'a [BioVec<'a>]) -> Self {
        Self { vecs: vecs.iter() }
    }
}

impl Iterator for BioVecs<'_> {
    type Item = Result<Phyr>;

    #[inline]
    fn next(&mut self) -> Option<Result<Phyr>> {
        let vec = self.vecs.next()?.0;
        // SAFETY: by the type invariant of `BioVec` the page is valid and the piece within it.
        // CAST: a `usize` has at least the 32 bits of the length.
        Some(unsafe { page_piece(vec.bv_page, u64::from(vec.bv_offset), vec.bv_len as usize) })
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(phyr_source_bvec)]
mod tests {
    use super::*;
    use crate::{
        limits::Limits,
        source::segments::Segments, //
    };

    #[test]
    fn a_bio_vec_is_within_its_page() {
        let page = Page::alloc_page(GFP_KERNEL);
        let bad = |offset, len| {
            let page = page.as_ref().map_err(|_| ENOMEM)?;
            BioVec::new(page, offset, len).map(|_| ())
        };
        assert_eq!(bad(0, PAGE_SIZE), Ok(()));
        assert_eq!(bad(PAGE_SIZE - 1, 1), Ok(()));
        assert_eq!(bad(0, 0), Err(EINVAL));
        assert_eq!(bad(0, PAGE_SIZE + 1), Err(EINVAL));
        assert_eq!(bad(PAGE_SIZE, 1), Err(EINVAL));
        assert_eq!(bad(usize::MAX, 2), Err(EINVAL));
    }

    #[test]
    fn neighbours_in_a_slice_join() {
        let lens = || -> Result<[usize; 2]> {
            let page = Page::alloc_page(GFP_KERNEL)?;
            let vecs = [
                BioVec::new(&page, 0, 512)?,
                BioVec::new(&page, 512, 512)?,
                BioVec::new(&page, 2048, 100)?,
            ];
            let mut phyrs = Segments::new(BioVecs::new(&vecs), Limits::NONE);
            let mut next = || -> Result<usize> { Ok(phyrs.next().ok_or(EINVAL)??.len()) };
            Ok([next()?, next()?])
        };
        assert_eq!(lens(), Ok([1024, 100]));
    }
}
