// SPDX-License-Identifier: GPL-2.0

//! A source that yields something else each time that it is read, all of it pinned.

use crate::{
    check::Outcome,
    fixture::{
        contiguous,
        mapper_like, //
    },
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
    Limits,
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

/// Phyrs, each a place in the memory and a length.
type Reading = &'static [(usize, usize)];

const PAGE: usize = PAGE_SIZE;
const HALF: usize = PAGE / 2;

/// Readings with gaps, without, of more and of less memory.
const READINGS: [Reading; 8] = [
    &[(0, PAGE), (2 * PAGE, HALF), (4 * PAGE, HALF)],
    &[
        (0, PAGE),
        (2 * PAGE, HALF),
        (4 * PAGE, HALF),
        (6 * PAGE, PAGE),
    ],
    &[(0, PAGE), (2 * PAGE, HALF)],
    &[(0, PAGE), (2 * PAGE, HALF), (4 * PAGE, 2 * PAGE)],
    &[(0, PAGE), (2 * PAGE, PAGE), (4 * PAGE, PAGE)],
    &[(HALF, PAGE), (2 * PAGE + 1, HALF), (4 * PAGE, HALF)],
    &[(PAGE, 1)],
    &[],
];

/// Iterates over the first reading once, and each other time over the second.
#[derive(Clone)]
struct Rereading<'a> {
    paddr: u64,
    readings: [Reading; 2],
    times: &'a Cell<usize>,
    phyrs: Option<core::slice::Iter<'static, (usize, usize)>>,
}

impl Iterator for Rereading<'_> {
    type Item = Result<Phyr>;

    fn next(&mut self) -> Option<Result<Phyr>> {
        let phyrs = match &mut self.phyrs {
            Some(phyrs) => phyrs,
            None => {
                let times = self.times.get();
                self.times.set(times + 1);
                self.phyrs.insert(self.readings[times.min(1)].iter())
            }
        };
        let &(offset, len) = phyrs.next()?;
        // CAST: a few pages.
        let phyr = Phyr::new(PhysAddr::from_raw(self.paddr + offset as u64), len);
        Some(phyr.map_err(|_| EINVAL))
    }
}

/// Checks that memory that is planned as one reading and mapped as another is refused, or mapped as
/// the latter.
fn reread(mapper: &Mapper<'_>, memory: &Chunks, readings: [Reading; 2]) -> Outcome {
    let times = Cell::new(0);
    let source = Rereading {
        paddr: check_some!(memory.paddr(0)).into_raw(),
        readings,
        times: &times,
        phyrs: None,
    };
    // SAFETY: all of it is in `memory`, which lives until the mapping has ended.
    let pinned =
        unsafe { Pinned::new(source.clone(), DataDirection::ToDevice, MemoryKind::System) };
    let mapping = mapper.map_pinned(&pinned?, GFP_KERNEL);
    // More than there are slots for, which is as many as were planned.
    let [first, second] = readings;
    if second.len() > first.len().max(1) || second.is_empty() {
        check!(mapping.is_err(), "{readings:?}");
    }
    let Ok(mapping) = mapping else {
        return Ok(());
    };
    // The source goes on with the second.
    table::check(mapper, mapping.dma_vecs(), source.flatten())?;
    let mut vecs = [None; PAGES];
    for (to, vec) in vecs.iter_mut().zip(mapping.dma_vecs()) {
        *to = Some(vec);
    }
    drop(mapping);
    table::check_gone(mapper, vecs.into_iter().flatten())
}

/// Checks all pairs of readings, by each strategy.
pub(crate) fn rereading(mapper: &Mapper<'_>) -> Outcome {
    let memory = contiguous(PAGES.ilog2())?;
    let all = |mapper: &Mapper<'_>| -> Outcome {
        for first in READINGS {
            for second in READINGS {
                reread(mapper, &memory, [first, second])?;
            }
        }
        Ok(())
    };
    // CAST: a few pages.
    let short = check_some!(Limits::NONE.with_max_segment(2 * PAGE as u64));
    let boundary = check_some!(Limits::NONE.with_boundary_mask(4 * PAGE as u64 - 1));
    all(&mapper_like(mapper, Limits::NONE)?)?;
    all(&mapper_like(mapper, short)?)?;
    all(&mapper_like(mapper, boundary)?)?;
    all(&mapper_like(mapper, Limits::NONE)?.unpacked())
}
