// SPDX-License-Identifier: GPL-2.0

//! Descriptor memory: one slot per tag of a queue, made at probe.
//!
//! A slot holds the PRP or SGL list of the largest transfer, or a dataset management range. The
//! request that owns the tag owns the slot, so there is nothing to allocate or lock in the I/O
//! path. A slot smaller than a controller page does not cross one; a larger one starts at one.
//!
//! The controller may read a slot at any time while its command runs; a wrong word can make it
//! access memory that is not mapped for it, but nothing is ever read back from here.

use super::desc::List;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::Coherent,
    io::io_write,
    prelude::*, //
};
use phyr::fail::{
    self,
    Point, //
};

const WORD: usize = size_of::<u64>();

/// Bytes of one allocation, unless a single slot is larger. Keeps a deep queue from asking for
/// megabytes of contiguous memory.
const CHUNK: usize = 64 << 10;

/// The slots of one queue.
pub(crate) struct Slots {
    chunks: KVec<Coherent<[u64]>>,
    per_chunk: usize,
    /// Words of a slot, and how many of them at its start are not used.
    words: usize,
    skip: usize,
}

impl Slots {
    /// Allocates `count` slots of at least `words` each, for a controller page of `page` bytes.
    ///
    /// With `chain` all of a slot but two words lies in another page than its start, so that PRP
    /// lists that would fit in a page chain: for tests.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if memory is short.
    pub(crate) fn new(
        dev: &Device<Bound>,
        count: usize,
        words: usize,
        page: usize,
        chain: bool,
    ) -> Result<Self> {
        let skip = if chain { page / WORD - 2 } else { 0 };
        // One more for the chain pointer. A dataset management range has two.
        let bytes = match words.max(2) * WORD {
            bytes if chain => (bytes + WORD * (skip + 1)).next_multiple_of(page),
            bytes if bytes < page => bytes.next_power_of_two(),
            bytes => bytes.next_multiple_of(page),
        };
        let per_chunk = (CHUNK / bytes).clamp(1, count.max(1));
        let words = bytes / WORD;
        let nr_chunks = count.div_ceil(per_chunk);
        let mut chunks = KVec::with_capacity(nr_chunks, GFP_KERNEL)?;

        for _ in 0..nr_chunks {
            fail::at(Point::dma_alloc_attrs)?;
            chunks.push(
                Coherent::zeroed_slice(dev, per_chunk * words, GFP_KERNEL)?,
                GFP_KERNEL,
            )?;
        }
        Ok(Self {
            chunks,
            per_chunk,
            words,
            skip,
        })
    }

    /// The slot of `tag`, or [`None`] if there is no such tag.
    pub(crate) fn get(&self, tag: u16) -> Option<Slot<'_>> {
        let tag = usize::from(tag);
        Some(Slot {
            chunk: self.chunks.get(tag / self.per_chunk)?,
            // INVARIANT: A chunk has `per_chunk` times `words` words.
            first: tag % self.per_chunk * self.words + self.skip,
            words: self.words - self.skip,
        })
    }
}

/// One tag's slot.
///
/// # Invariants
///
/// `chunk` has at least `first + words` words.
pub(crate) struct Slot<'a> {
    chunk: &'a Coherent<[u64]>,
    first: usize,
    words: usize,
}

impl List for Slot<'_> {
    fn addr(&self) -> u64 {
        // CAST: An offset in memory fits in an address.
        self.chunk.dma_address() + (self.first * WORD) as u64
    }

    fn words(&self) -> usize {
        self.words
    }

    fn put(&mut self, index: usize, value: u64) {
        // PANIC: `index` is below `words` as `List::put` demands; then by the type invariant.
        io_write!(self.chunk, [panic: self.first + index], value.to_le());
    }
}
