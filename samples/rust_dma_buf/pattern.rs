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
    unless_killed,
    Chunks, //
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
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    /// - `EINTR`: the process was killed.
    pub(crate) fn apply(&self, memory: &mut Chunks) -> Result {
        sort(memory)?;
        match self.kind {
            Kind::Ascending => Ok(()),
            Kind::Descending => reverse(memory),
            Kind::Shuffled { seed } => shuffle(memory, seed),
            Kind::Strided { step } => stride(memory, step),
        }
    }
}

/// Heap sort by physical address, in place. What is in `core` wants a slice, and can panic on an
/// order that is none.
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

/// The first `nr` chunks are a heap: lets one of them sink until none below it is larger.
fn sink(memory: &mut Chunks, nr: usize, mut at: usize) {
    let below = |memory: &Chunks, index| memory.paddr(index).filter(|_| index < nr);
    loop {
        let mut largest = at;
        for child in [2 * at + 1, 2 * at + 2] {
            // What is not there is less than all that is.
            if below(memory, child) > below(memory, largest) {
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

fn reverse(memory: &mut Chunks) -> Result {
    let nr = memory.count();
    for at in 0..nr / 2 {
        unless_killed()?;
        memory.swap(at, nr - 1 - at);
    }
    Ok(())
}

/// Fisher and Yates, by the numbers that splitmix64 makes of `seed`.
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

/// Every `step`th, from the first on, from the second on, and so forth.
fn stride(memory: &mut Chunks, step: usize) -> Result {
    let nr = memory.count();
    // It is as long as the user wants: more than the allocator has is no reason to warn.
    let mut from = KVVec::with_capacity(nr, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
    for at in (0..step.min(nr)).flat_map(|first| (first..nr).step_by(step)) {
        unless_killed()?;
        from.push(at, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
    }
    arrange(memory, &mut from)
}

/// Moves the chunk `from[i]` to place `i`, for all of them: along each cycle, once around.
fn arrange(memory: &mut Chunks, from: &mut [usize]) -> Result {
    for start in 0..from.len() {
        let mut at = start;
        // What is done is where it belongs.
        while let Some(next) = from.get_mut(at).map(|from| core::mem::replace(from, at)) {
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
