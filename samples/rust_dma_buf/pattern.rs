// SPDX-License-Identifier: GPL-2.0

//! The order of a buffer's chunks in physical memory.

use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use phyr::memory::{
    unless_killed,
    Chunks, //
};

/// `RUST_DMA_BUF_MAX_ORDER`.
const MAX_ORDER: u32 = 9;

/// `struct rust_dma_buf_set_pattern`, checked.
#[derive(Clone, Copy)]
pub(crate) struct Pattern {
    order: u32,
    arrangement: Arrangement,
}

/// `enum rust_dma_buf_pattern`.
#[derive(Clone, Copy)]
enum Arrangement {
    Descending,
    Ascending,
    Shuffled { seed: u64 },
    Strided { step: usize },
}

impl Default for Pattern {
    fn default() -> Self {
        Self {
            order: 0,
            arrangement: Arrangement::Descending,
        }
    }
}

impl Pattern {
    /// Reads the structure at `arg`.
    ///
    /// # Errors
    ///
    /// - `EFAULT`: it cannot be read.
    /// - `EINVAL`: there is no such pattern.
    pub(crate) fn read(arg: UserPtr) -> Result<Self> {
        let mut reader = UserSlice::new(arg, 16).reader();
        let order = reader.read::<u32>()?;
        let pattern = reader.read::<u32>()?;
        let arg = reader.read::<u64>()?;

        if order > MAX_ORDER {
            return Err(EINVAL);
        }
        let arrangement = match (pattern, arg) {
            (0, 0) => Arrangement::Descending,
            (1, 0) => Arrangement::Ascending,
            (2, seed) => Arrangement::Shuffled { seed },
            (3, 2..) => Arrangement::Strided {
                step: usize::try_from(arg)?,
            },
            _ => return Err(EINVAL),
        };
        Ok(Self { order, arrangement })
    }

    /// Returns the order of chunks: they have `2^order` pages.
    pub(crate) fn order(&self) -> u32 {
        self.order
    }

    /// Puts the chunks of `memory` in this order.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    /// - `EINTR`: the process was killed.
    pub(crate) fn apply(&self, memory: &mut Chunks) -> Result {
        sort(memory)?;
        match self.arrangement {
            Arrangement::Ascending => Ok(()),
            Arrangement::Descending => reverse(memory),
            Arrangement::Shuffled { seed } => shuffle(memory, seed),
            Arrangement::Strided { step } => stride(memory, step),
        }
    }
}

/// Sorts the chunks by physical address, in place: heap sort. The sorts of `core` take a slice, and
/// may panic if the order is inconsistent.
fn sort(memory: &mut Chunks) -> Result {
    for at in (0..memory.count() / 2).rev() {
        unless_killed()?;
        sink(memory, memory.count(), at);
    }
    for last in (1..memory.count()).rev() {
        unless_killed()?;
        memory.swap(0, last);
        sink(memory, last, 0);
    }
    Ok(())
}

/// Moves a chunk down the heap of the first `nr` chunks, until none below it is larger.
fn sink(memory: &mut Chunks, nr: usize, mut at: usize) {
    loop {
        let mut largest = at;
        for child in [2 * at + 1, 2 * at + 2] {
            if child < nr && memory.paddr(child) > memory.paddr(largest) {
                largest = child;
            }
        }
        if largest == at {
            return;
        }
        memory.swap(at, largest);
        at = largest;
    }
}

/// Reverses the order of the chunks.
fn reverse(memory: &mut Chunks) -> Result {
    let nr = memory.count();
    for at in 0..nr / 2 {
        unless_killed()?;
        memory.swap(at, nr - 1 - at);
    }
    Ok(())
}

/// Shuffles the chunks: Fisher and Yates, with random numbers of splitmix64 from `seed`.
fn shuffle(memory: &mut Chunks, mut seed: u64) -> Result {
    let mut below = |end: u64| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    };
    for last in (1..memory.count()).rev() {
        unless_killed()?;
        // CAST: `usize` and `u64` are the same here; the number is at most `last`.
        memory.swap(last, below(last as u64 + 1) as usize);
    }
    Ok(())
}

/// Puts every `step`th chunk first, from chunk 0 on, then those from chunk 1 on, and so on.
fn stride(memory: &mut Chunks, step: usize) -> Result {
    let nr = memory.count();
    // The user decides on the length: a failure is no reason to warn.
    let mut from = KVVec::with_capacity(nr, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
    for at in (0..step.min(nr)).flat_map(|first| (first..nr).step_by(step)) {
        unless_killed()?;
        from.push(at, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
    }
    arrange(memory, &mut from)
}

/// Moves the chunk `from[i]` to place `i`, for each `i`: once around each cycle.
fn arrange(memory: &mut Chunks, from: &mut [usize]) -> Result {
    for start in 0..from.len() {
        let mut at = start;
        // Places that are done point to themselves.
        while let Some(entry) = from.get_mut(at) {
            let next = core::mem::replace(entry, at);
            unless_killed()?;
            if next == start {
                break;
            }
            memory.swap(at, next);
            at = next;
        }
    }
    Ok(())
}
