// SPDX-License-Identifier: GPL-2.0

//! How the chunks of a buffer lie in physical memory.

use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use phyr::memory::{
    Chunks,
    Memory, //
};

/// `struct rust_dma_buf_set_pattern`, checked.
#[derive(Clone, Copy)]
pub(crate) struct Pattern {
    order: u32,
    kind: Kind,
}

/// `enum rust_dma_buf_pattern`.
#[derive(Clone, Copy)]
enum Kind {
    Descending,
    Ascending,
    Shuffled { seed: u64 },
    Strided { step: usize },
}

impl Default for Pattern {
    fn default() -> Self {
        Self {
            order: 0,
            kind: Kind::Descending,
        }
    }
}

impl Pattern {
    /// Reads one from the user.
    ///
    /// # Errors
    ///
    /// - `EFAULT`: it cannot be read.
    /// - `EINVAL`: there is no such pattern.
    pub(crate) fn read(arg: UserPtr) -> Result<Self> {
        let mut reader = UserSlice::new(arg, 16).reader();
        let (order, pattern, arg) = (reader.read()?, reader.read::<u32>()?, reader.read()?);

        if order > Chunks::MAX_ORDER {
            return Err(EINVAL);
        }
        let kind = match (pattern, arg) {
            (0, 0) => Kind::Descending,
            (1, 0) => Kind::Ascending,
            (2, seed) => Kind::Shuffled { seed },
            (3, 2..) => Kind::Strided {
                step: usize::try_from(arg)?,
            },
            _ => return Err(EINVAL),
        };
        Ok(Self { order, kind })
    }

    /// Chunks have 2^order pages.
    pub(crate) fn order(&self) -> u32 {
        self.order
    }

    /// Puts the chunks of `memory` in this order.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    pub(crate) fn apply(&self, memory: &mut Chunks) -> Result {
        let mut chunks = KVVec::with_capacity(memory.count(), GFP_KERNEL)?;
        for (at, phyr) in memory.phyrs().enumerate() {
            chunks.push((phyr?.paddr(), at), GFP_KERNEL)?;
        }
        sort(&mut chunks);

        let mut from = KVVec::with_capacity(chunks.len(), GFP_KERNEL)?;
        self.kind.each(chunks.len(), |rank| {
            let (_, at) = chunks.get(rank).ok_or(EINVAL)?;
            Ok(from.push(*at, GFP_KERNEL)?)
        })?;
        if let Kind::Shuffled { seed } = self.kind {
            shuffle(&mut from, seed);
        }
        arrange(memory, &mut from);
        Ok(())
    }
}

impl Kind {
    /// Calls `f` with each number below `nr` once.
    fn each(self, nr: usize, f: impl FnMut(usize) -> Result) -> Result {
        match self {
            Self::Descending => (0..nr).rev().try_for_each(f),
            Self::Ascending | Self::Shuffled { .. } => (0..nr).try_for_each(f),
            Self::Strided { step } => (0..step.min(nr))
                .flat_map(|first| (first..nr).step_by(step))
                .try_for_each(f),
        }
    }
}

/// Heap sort. What is in `core` can panic on an order that is none, in a way that objtool does not
/// know.
fn sort<T: Ord>(list: &mut [T]) {
    for at in (0..list.len() / 2).rev() {
        sink(list, at);
    }
    for last in (1..list.len()).rev() {
        list.swap(0, last);
        sink(list.get_mut(..last).unwrap_or_default(), 0);
    }
}

/// Lets an element of a heap sink until none below it is larger.
fn sink<T: Ord>(heap: &mut [T], mut at: usize) {
    loop {
        let larger = |a, b| if heap.get(b) > heap.get(a) { b } else { a };
        let largest = larger(larger(at, 2 * at + 1), 2 * at + 2);
        if largest == at {
            return;
        }
        heap.swap(at, largest);
        at = largest;
    }
}

/// Fisher and Yates, by the numbers that splitmix64 makes of `seed`.
fn shuffle(list: &mut [usize], mut seed: u64) {
    let mut below = |end: u64| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    };
    for last in (1..list.len()).rev() {
        // CAST: `usize` and `u64` are the same here; the number is at most `last`.
        list.swap(last, below(last as u64 + 1) as usize);
    }
}

/// Moves the chunk `from[i]` to place `i`, for all of them: along each cycle, once around.
fn arrange(memory: &mut Chunks, from: &mut [usize]) {
    for start in 0..from.len() {
        let mut at = start;
        // What is done is where it belongs.
        while let Some(next) = from.get_mut(at).map(|from| core::mem::replace(from, at)) {
            if next == start {
                break;
            }
            memory.swap(at, next);
            at = next;
        }
    }
}
