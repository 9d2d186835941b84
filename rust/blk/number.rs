// SPDX-License-Identifier: GPL-2.0

//! Numbers of disks: the `0` in `foo0`.
//!
//! C: `struct ida` ([`include/linux/idr.h`](srctree/include/linux/idr.h)).

use kernel::{
    prelude::*,
    sync::atomic::{
        ordering,
        Atomic, //
    },
};

/// Numbers in a word of [`DiskNumbers`].
const BITS: u32 = u64::BITS;

/// Gives out the numbers of a driver's disks, or of its controllers: each to one at a time, and
/// the lowest that is free.
///
/// # Examples
///
/// ```
/// use kernel::{prelude::*, sync::Arc};
/// use phyr_blk::{DiskNumber, DiskNumbers, GenDisk, GenDiskBuilder, Operations, TagSet};
///
/// static NUMBERS: DiskNumbers = DiskNumbers::new();
///
/// /// Makes `foo0`, `foo1` and so on. The number is free again when the disk is gone.
/// fn disk<'bound, T: Operations<DiskData<'bound> = DiskNumber>>(
///     tag_set: &Arc<TagSet<'bound, T>>,
/// ) -> Result<GenDisk<'bound, T>> {
///     let number = NUMBERS.alloc()?;
///     let nr = number.get();
///     GenDiskBuilder::new()
///         .capacity_sectors(1 << 20)
///         .build(fmt!("foo{nr}"), tag_set, number)
/// }
/// ```
///
/// # Invariants
///
/// Bit `b` of word `w` is set while there is a [`DiskNumber`] `64 * w + b` of these.
pub struct DiskNumbers {
    taken: [Atomic<u64>; Self::WORDS],
}

impl DiskNumbers {
    const WORDS: usize = 16;

    /// The count of numbers, which are below it.
    // CAST: a small constant.
    pub const MAX: u32 = Self::WORDS as u32 * BITS;

    /// Makes the numbers below [`Self::MAX`], none of them in use, for a static of the driver.
    #[expect(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Self {
        // INVARIANT: there are none yet.
        Self {
            taken: [const { Atomic::new(0) }; Self::WORDS],
        }
    }

    /// Takes the lowest free number.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: there are [`Self::MAX`] already.
    pub fn alloc(&'static self) -> Result<DiskNumber> {
        for (word, first) in self.taken.iter().zip((0..).step_by(BITS as usize)) {
            if let Some(bit) = take(word) {
                // INVARIANT: the bit was clear, and is set now.
                return Ok(DiskNumber {
                    numbers: self,
                    number: first + bit,
                });
            }
        }
        Err(ENOSPC)
    }
}

/// Sets the lowest bit of `word` that is clear, and returns its number.
fn take(word: &Atomic<u64>) -> Option<u32> {
    let mut taken = word.load(ordering::Relaxed);
    loop {
        let bit = taken.trailing_ones();
        let mask = 1u64.checked_shl(bit)?;
        // Everything that the number's last owner did happened before.
        match word.cmpxchg(taken, taken | mask, ordering::Acquire) {
            Ok(_) => return Some(bit),
            Err(now) => taken = now,
        }
    }
}

/// A number that is its owner's until it is dropped; see [`DiskNumbers`].
///
/// # Invariants
///
/// The number's bit in `numbers` is set, and this is the one `DiskNumber` with it.
pub struct DiskNumber {
    numbers: &'static DiskNumbers,
    number: u32,
}

impl DiskNumber {
    /// Returns the number.
    pub fn get(&self) -> u32 {
        self.number
    }
}

impl Drop for DiskNumber {
    fn drop(&mut self) {
        // CAST: below the number of words.
        let Some(word) = self.numbers.taken.get((self.number / BITS) as usize) else {
            return;
        };
        let mask = 1 << (self.number % BITS);
        let mut taken = word.load(ordering::Relaxed);
        while let Err(now) = word.cmpxchg(taken, taken & !mask, ordering::Release) {
            taken = now;
        }
    }
}

#[kunit_tests(phyr_blk_number)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_one_comes_first() -> Result {
        static NUMBERS: DiskNumbers = DiskNumbers::new();
        let zero = NUMBERS.alloc()?;
        let one = NUMBERS.alloc()?;
        let two = NUMBERS.alloc()?;
        assert_eq!([zero.get(), one.get(), two.get()], [0, 1, 2]);
        drop(one);
        let one = NUMBERS.alloc()?;
        assert_eq!(one.get(), 1);
        assert_eq!(NUMBERS.alloc()?.get(), 3);
        assert_eq!(NUMBERS.alloc()?.get(), 3);
        Ok(())
    }

    #[test]
    fn all_of_them_are_given_out_once() -> Result {
        static NUMBERS: DiskNumbers = DiskNumbers::new();
        let mut all = KVec::new();
        for expected in 0..DiskNumbers::MAX {
            let number = NUMBERS.alloc()?;
            assert_eq!(number.get(), expected);
            all.push(number, GFP_KERNEL)?;
        }
        assert_eq!(NUMBERS.alloc().err(), Some(ENOSPC));
        // PANIC: there are more.
        drop(all.remove(700).map_err(|_| EINVAL)?);
        assert_eq!(NUMBERS.alloc()?.get(), 700);
        drop(all);
        assert_eq!(NUMBERS.alloc()?.get(), 0);
        Ok(())
    }
}
