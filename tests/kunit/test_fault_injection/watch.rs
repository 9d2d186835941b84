// SPDX-License-Identifier: GPL-2.0

//! The IOMMU's page table around a mapping, and memory that is counted.

use crate::{
    buffers::BOTH,
    check::{
        Failure,
        Outcome, //
    },
    fixture::buffer,
    table::lookup, //
};
use core::sync::atomic::{
    AtomicUsize,
    Ordering::Relaxed, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    page::{
        BorrowedPage,
        PAGE_SIZE, //
    },
    prelude::*, //
};
use phyr::{
    memory::{
        Memory,
        PageMemory, //
    },
    Access,
    Mapper, //
};

/// Pages to look through on either side of a mapping.
const AROUND: u64 = 2048;

/// Number of [`Counted`] values.
static COUNTED: AtomicUsize = AtomicUsize::new(0);

/// Memory that is counted until it is dropped: kmemleak does not track pages.
pub(crate) struct Counted<M>(M);

impl<M: Memory> Counted<M> {
    pub(crate) fn new(memory: M) -> Self {
        COUNTED.fetch_add(1, Relaxed);
        Self(memory)
    }
}

impl<M> Drop for Counted<M> {
    fn drop(&mut self) {
        COUNTED.fetch_sub(1, Relaxed);
    }
}

// SAFETY: it is the memory of the value that this owns, which moves with it.
unsafe impl<M: Memory> Memory for Counted<M> {
    type Direction = M::Direction;

    type Phyrs<'a> = M::Phyrs<'a>;

    fn phyrs(&self) -> Self::Phyrs<'_> {
        self.0.phyrs()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn access(&self) -> Access {
        self.0.access()
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.0.read(offset, to)
    }

    fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.0.write(offset, from)
    }
}

// SAFETY: it is the memory of the value that this owns, which moves with it.
unsafe impl<M: PageMemory> PageMemory for Counted<M> {
    fn page(&self, index: usize) -> Option<BorrowedPage<'_>> {
        self.0.page(index)
    }
}

/// The device's addresses around a mapping, where the next mappings will be.
pub(crate) struct Place<'a> {
    pub(crate) dev: &'a Device<Bound>,
    near: Option<u64>,
}

impl<'a> Place<'a> {
    /// Finds the addresses by a mapping, which the page table must show.
    pub(crate) fn new(mapper: &'a Mapper<'a>) -> Result<Self, Failure> {
        let mapping = mapper.map(buffer(3)?, BOTH, GFP_KERNEL)?;
        let first = check_some!(mapping.dma_vecs().next());
        let this = Self {
            dev: mapper.device(),
            near: mapper.granule().map(|_| first.addr().into_raw()),
        };
        if mapper.granule().is_some() {
            check_eq!(this.mapped(), 3);
        }
        drop(mapping);
        this.empty()?;
        Ok(this)
    }

    /// Returns how many pages are mapped there.
    fn mapped(&self) -> usize {
        // CAST: widens.
        let page = PAGE_SIZE as u64;
        let Some(near) = self.near else { return 0 };
        let first = (near & !(page - 1)).saturating_sub(AROUND * page);
        (0..2 * AROUND)
            .filter(|nr| lookup(self.dev, first + nr * page).is_some())
            .count()
    }

    /// Checks that nothing is mapped there, and that no memory is kept.
    pub(crate) fn empty(&self) -> Outcome {
        check_eq!(COUNTED.load(Relaxed), 0, "pieces of memory are left");
        check_eq!(self.mapped(), 0, "pages are left");
        Ok(())
    }
}
