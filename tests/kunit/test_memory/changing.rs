// SPDX-License-Identifier: GPL-2.0

//! A source that yields something else each time that it is read, all of it pinned.

use crate::{
    check::Outcome,
    fixture::contiguous,
    table, //
};
use core::{
    array,
    cell::Cell,
    iter, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    ptr::Alignment, //
};
use phyr::{
    linear::LinearError,
    memory::Chunks,
    source::Source,
    DataDirection,
    DmaVec,
    Mapper,
    MemoryKind,
    Phyr,
    PhysAddr,
    Pinned, //
};

/// Number of pages, of which the first four are one phyr, or each has a byte.
const PAGES: usize = 16;

/// The first pages as one phyr when it is read first; then bytes that do not join, but begin as far
/// into a page, and are not more.
struct Changing {
    paddr: u64,
    is_read: Cell<bool>,
}

impl Changing {
    /// Returns the first time that `memory`, which is contiguous, is read.
    fn new(memory: &Chunks) -> Result<Self> {
        Ok(Self {
            paddr: memory.paddr(0).ok_or(EINVAL)?.into_raw(),
            is_read: Cell::new(false),
        })
    }

    fn phyr(&self, offset: usize, len: usize) -> Result<Phyr> {
        // CAST: a few pages.
        Ok(Phyr::new(
            PhysAddr::from_raw(self.paddr + offset as u64),
            len,
        )?)
    }
}

impl Source for Changing {
    type Phyrs = iter::Take<array::IntoIter<Result<Phyr>, PAGES>>;
    type Pieces = Self::Phyrs;

    fn phyrs(&self) -> Self::Phyrs {
        let last_byte = |page| self.phyr(page * PAGE_SIZE + PAGE_SIZE - 1, 1);
        let mut phyrs = array::from_fn(last_byte);
        if self.is_read.replace(true) {
            phyrs[0] = self.phyr(0, 1);
            return phyrs.into_iter().take(PAGES);
        }
        phyrs[0] = self.phyr(0, 4 * PAGE_SIZE);
        phyrs.into_iter().take(1)
    }

    fn only(&self) -> Option<Result<Phyr>> {
        None
    }
}

/// Checks that nothing else is mapped than what was planned, and that nothing stays mapped.
pub(crate) fn changing(mapper: &Mapper<'_>) -> Outcome {
    let memory = contiguous(PAGES.ilog2())?;
    let source = || -> Result<Pinned<Changing>> {
        let source = Changing::new(&memory)?;
        // SAFETY: all of it is in `memory`, which lives until the mappings have ended.
        unsafe { Pinned::new(source, DataDirection::Bidirectional, MemoryKind::System) }
    };
    check!(mapper.map_pinned(&source()?, GFP_KERNEL).is_err());
    // Where nothing translates what was planned is mapped.
    if mapper.granule().is_some() {
        let linear = mapper.linear_pinned(&source()?, Alignment::new::<1>());
        let linear = linear.map(|mapped| mapped.dma_vec());
        if let Ok(vec) = linear {
            let pages = DmaVec::new(vec.addr(), PAGES * PAGE_SIZE);
            table::check_gone(mapper, iter::once(pages))?;
        }
        check_eq!(linear, Err(LinearError::Failed(EINVAL)));
    }
    drop(memory);
    Ok(())
}
