// SPDX-License-Identifier: GPL-2.0

//! Descriptor memory: one slot per tag of a queue, made at probe.
//!
//! A slot holds the PRP or SGL list of the largest transfer, or a dataset management range. The
//! request that owns the tag owns the slot, so there is nothing to allocate or lock in the I/O
//! path. A slot smaller than a controller page does not cross one; a larger one starts at one.
//!
//! The controller may read a slot at any time while its command runs. A wrong word could make it
//! access memory that is not mapped for it; the driver itself never reads a slot.

use super::desc::DescriptorList;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::Coherent,
    io::io_write,
    prelude::*, //
};
use phyr_driver::fallible::coherent_slice;

const WORD: usize = size_of::<u64>();

/// Bytes of one allocation, unless a single slot is larger, so that a deep queue does not need
/// megabytes of contiguous memory.
const CHUNK: usize = 64 << 10;

/// The slots of one queue.
pub(crate) struct Slots {
    chunks: KVec<Coherent<[u64]>>,
    per_chunk: usize,
    /// Words of a slot.
    words: usize,
}

impl Slots {
    /// Allocates `count` slots of at least `words` each, for a controller page of `page` bytes.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]: memory is short.
    pub(crate) fn new(
        dev: &Device<Bound>,
        count: usize,
        words: usize,
        page: usize,
    ) -> Result<Self> {
        // A dataset management range has two words.
        let bytes = match words.max(2) * WORD {
            bytes if bytes < page => bytes.next_power_of_two(),
            bytes => bytes.next_multiple_of(page),
        };
        let per_chunk = (CHUNK / bytes).clamp(1, count.max(1));
        let words = bytes / WORD;
        let nr_chunks = count.div_ceil(per_chunk);
        let mut chunks = KVec::with_capacity(nr_chunks, GFP_KERNEL)?;

        for _ in 0..nr_chunks {
            let chunk = coherent_slice(dev, per_chunk * words, GFP_KERNEL)?;
            chunks.push(chunk, GFP_KERNEL)?;
        }
        Ok(Self {
            chunks,
            per_chunk,
            words,
        })
    }

    /// Returns the slot of `tag`, or [`None`] if there is no such tag.
    pub(crate) fn get(&self, tag: u16) -> Option<Slot<'_>> {
        let tag = usize::from(tag);
        Some(Slot {
            chunk: self.chunks.get(tag / self.per_chunk)?,
            // INVARIANT: A chunk has `per_chunk` times `words` words.
            first: tag % self.per_chunk * self.words,
            words: self.words,
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

impl DescriptorList for Slot<'_> {
    fn addr(&self) -> u64 {
        // CAST: An offset in memory fits in an address.
        self.chunk.dma_address() + (self.first * WORD) as u64
    }

    fn words(&self) -> usize {
        self.words
    }

    fn put(&mut self, index: usize, value: u64) {
        // PANIC: The caller of `put` promises that `index` is below `words`, and by the type
        // invariant `chunk` has `first + words` words.
        io_write!(self.chunk, [panic: self.first + index], value.to_le());
    }
}
