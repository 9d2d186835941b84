// SPDX-License-Identifier: GPL-2.0

//! Linear mappings of much memory: lengths of more than 32 bits, and of many pages.

use crate::{
    check::{
        check_bytes,
        Outcome, //
    },
    edu::{
        Engine,
        BUFFER, //
    },
    fixture::{
        bytes,
        contiguous,
        skip,
        with_device,
        LEN_2M,
        ORDER_2M, //
    },
    oracle,
    table, //
};
use core::iter;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    ptr::Alignment,
    sync::Arc, //
};
use phyr::{
    memory::{
        ChunkPieces,
        Chunks,
        Memory, //
    },
    DataDirection,
    DmaAddr,
    DmaVec,
    Mapper,
    MemoryKind,
    Phyr,
    PhysAddr,
    Pinned, //
};

const DIR: DataDirection = DataDirection::Bidirectional;

/// Length of a chunk of [`Again`].
const CHUNK: usize = LEN_2M;

/// More than 4 GiB from little memory: one chunk, again and again.
pub(crate) struct Again {
    chunk: Chunks,
    /// The last chunk, another one.
    last: Chunks,
    times: usize,
}

impl Again {
    /// Returns memory of `times` chunks of 2 MiB.
    pub(crate) fn new(times: usize) -> Result<Self> {
        Ok(Self {
            chunk: contiguous(ORDER_2M)?,
            last: contiguous(ORDER_2M)?,
            times,
        })
    }

    /// Returns the chunk that has byte `offset`, and the offset in it.
    fn at(&self, offset: usize) -> (&Chunks, usize) {
        if offset / CHUNK + 1 == self.times {
            (&self.last, offset % CHUNK)
        } else {
            (&self.chunk, offset % CHUNK)
        }
    }

    /// Returns the physical address of byte `offset`.
    fn place(&self, offset: usize) -> Option<u64> {
        let (chunk, offset) = self.at(offset);
        let phyr = chunk.phyrs().flatten().next()?;
        // CAST: a `usize` is at most 64 bits wide.
        Some(phyr.paddr().into_raw() + offset as u64)
    }
}

// SAFETY: the chunks are owned, and do not move. That one comes again is what a device may well be
// given: it writes to it for itself.
unsafe impl Memory for Again {
    type Direction = DataDirection;

    type Phyrs<'a> = iter::Chain<iter::Take<iter::Repeat<Result<Phyr>>>, ChunkPieces<'a>>;

    fn phyrs(&self) -> Self::Phyrs<'_> {
        let phyr = self.chunk.phyrs().next().unwrap_or(Err(EINVAL));
        Iterator::chain(iter::repeat(phyr).take(self.times - 1), self.last.phyrs())
    }

    fn len(&self) -> usize {
        CHUNK * self.times
    }

    /// Reads within one chunk.
    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        let (chunk, offset) = self.at(offset);
        chunk.read(offset, to)
    }

    /// Always fails: no test writes through it.
    fn write(&mut self, _offset: usize, _from: &[u8]) -> Result {
        Err(EOPNOTSUPP)
    }
}

/// Maps 6 GiB: lengths and offsets of more than 32 bits, for the engine, too.
fn long(engine: &Engine<'_>, mapper: &Mapper<'_>) -> Outcome {
    const LEN: usize = 6 << 30;
    let mut memory = Again::new(LEN / CHUNK)?;
    let all = bytes(BUFFER, 7)?;
    // What is to be read is in the last chunk only; its other 2 MiB are zeroes, as are those that a
    // device would get at that takes 32 bits of the offset.
    memory.last.write(PAGE_SIZE, &all)?;
    let places = [0, (4 << 30) - 1, 4 << 30, LEN - CHUNK, LEN - 1];
    let places = places.map(|at| (at, memory.place(at)));

    let linear = mapper.linear(memory, DIR)?;
    let vec = linear.dma_vec();
    check_eq!(vec.len(), LEN);
    let at = |at: usize| {
        // CAST: a `usize` is at most 64 bits wide.
        vec.addr().into_raw() + at as u64
    };
    for (offset, place) in places {
        check!(place.is_some());
        check_eq!(
            table::lookup(mapper.device(), at(offset)),
            place,
            "at {offset:#x}"
        );
    }
    // From the last chunk to the first page of the one at 5 GiB.
    engine
        .read(vec, LEN - CHUNK + PAGE_SIZE, BUFFER)
        .and_then(|()| engine.write(vec, 5 << 30, BUFFER))?;
    let mut seen = bytes(BUFFER, 8)?;
    let memory = linear.unmap();
    memory.read(5 << 30, &mut seen)?;
    check_bytes(&seen, &all)?;
    let gone = [0, 4 << 30, LEN - PAGE_SIZE].into_iter();
    table::check_gone(
        mapper,
        gone.map(|offset| DmaVec::new(DmaAddr::from_raw(at(offset)), PAGE_SIZE)),
    )
}

/// Maps more than 1 GiB, of which a chunk of 4 MiB lies across that, and ends it: virtio-iommu maps
/// the chunk at once, and never splits it.
fn across_1_gib(mapper: &Mapper<'_>) -> Outcome {
    const BEFORE: usize = (1 << 30) - CHUNK;
    let again = Arc::new(contiguous(ORDER_2M)?, GFP_KERNEL)?;
    let across = Arc::new(contiguous(ORDER_2M + 1)?, GFP_KERNEL)?;
    let mut memory = KVVec::new();
    for _ in 0..BEFORE / CHUNK {
        memory.push(again.clone(), GFP_KERNEL)?;
    }
    memory.push(across, GFP_KERNEL)?;
    for _ in 0..16 {
        memory.push(again.clone(), GFP_KERNEL)?;
    }
    let linear = mapper.linear(memory, DIR)?;
    let vec = linear.dma_vec();
    check_eq!(vec.len(), BEFORE + 18 * CHUNK);
    let places = [
        0,
        BEFORE,
        1 << 30,
        BEFORE + 2 * CHUNK,
        vec.len() - PAGE_SIZE,
    ];
    let pages = places.map(|offset| {
        // CAST: a `usize` is at most 64 bits wide.
        let addr = vec.addr().into_raw() + offset as u64;
        DmaVec::new(DmaAddr::from_raw(addr), PAGE_SIZE)
    });
    for page in pages {
        let addr = page.addr().into_raw();
        check!(table::lookup(mapper.device(), addr).is_some(), "{page:?}");
    }
    drop(linear.unmap());
    table::check_gone(mapper, pages.into_iter())
}

/// Maps 1 GiB that begins within a page, and so is in a page more, has a model of a device read the
/// last, and ends the mapping: the device must not reach it then.
fn gib_within_pages(mapper: &Mapper<'_>) -> Outcome {
    const LEN: usize = 1 << 30;
    const OFFSET: usize = 512;
    let chunk = contiguous(ORDER_2M)?;
    let paddr = check_some!(chunk.paddr(0)).into_raw();
    let phyr = |offset: usize, len| -> Result<Phyr> {
        // CAST: within the chunk.
        let paddr = PhysAddr::from_raw(paddr + offset as u64);
        Ok(Phyr::new(paddr, len)?)
    };
    let (first, last) = (phyr(OFFSET, CHUNK - OFFSET), phyr(0, OFFSET));
    let whole = iter::repeat_n(phyr(0, CHUNK), LEN / CHUNK - 1);
    let phyrs = Iterator::chain(Iterator::chain(iter::once(first), whole), iter::once(last));
    // SAFETY: all of it is in `chunk`, which lives until the mapping has ended.
    let pinned = unsafe { Pinned::new(phyrs, DIR, MemoryKind::System) };
    let linear = mapper.linear_pinned(&pinned?, Alignment::new::<1>())?;
    let vec = linear.dma_vec();
    check_eq!(vec.len(), LEN);
    // CAST: a `usize` is at most 64 bits wide.
    let last = vec.addr().advanced((LEN - OFFSET) as u64);
    let last = DmaVec::new(last, OFFSET);
    oracle::access(mapper.device(), last)?;
    drop(linear);
    table::check_gone(mapper, iter::once(last))
}

#[kunit_tests(phyr_device_linear_large)]
mod tests {
    use super::*;

    #[test]
    fn more_than_4_gib() -> Outcome {
        if crate::flushes_little() {
            skip(c"QEMU's first stage flushes no more than 1 GiB at once");
            return Ok(());
        }
        with_device(|pdev, mapper| {
            if mapper.granule().is_none() || crate::keeps_tables() {
                return Ok(());
            }
            long(&Engine::new(pdev)?, mapper)
        })
    }

    #[test]
    fn nothing_is_left_of_what_lies_across_1_gib() -> Outcome {
        if crate::flushes_little() {
            skip(c"QEMU's first stage flushes no more than 1 GiB at once");
            return Ok(());
        }
        with_device(|_, mapper| {
            if mapper.granule().is_none() || crate::keeps_tables() {
                return Ok(());
            }
            across_1_gib(mapper)
        })
    }

    #[test]
    fn a_gib_that_begins_within_a_page_is_flushed() -> Outcome {
        with_device(|_, mapper| {
            if mapper.granule().is_none() || crate::keeps_tables() {
                return Ok(());
            }
            gib_within_pages(mapper)
        })
    }

    /// However many pages there are, a mapping keeps a few words, and takes one range.
    #[test]
    fn scattered_100_mib() -> Outcome {
        check_cmp!(core::mem::size_of::<phyr::linear::PinnedLinear<'_, &Mapper<'_>>>(), <=, 48);
        with_device(|_, mapper| {
            if mapper.granule().is_none() || crate::keeps_tables() {
                return Ok(());
            }
            const LEN: usize = 100 << 20;
            let mut memory = Chunks::zeroed(LEN, 0, GFP_KERNEL)?;
            let nr = memory.count();
            for at in 0..nr / 2 {
                memory.swap(at, nr - 1 - at);
            }
            let linear = mapper.linear(memory, DIR)?;
            let vec = linear.dma_vec();
            check_eq!(vec.len(), LEN);
            let memory = linear.unmap();
            table::check_gone(mapper, iter::once(vec))?;
            drop(memory);
            Ok(())
        })
    }
}
