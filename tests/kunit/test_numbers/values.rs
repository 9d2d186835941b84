// SPDX-License-Identifier: GPL-2.0

//! The numbers to try, and the results to accept.

use crate::check::{
    Failure,
    Name, //
};
use kernel::{
    alloc::Flags,
    prelude::*, //
};
use phyr::DataDirection;

pub(crate) const DIR: DataDirection = DataDirection::Bidirectional;

/// Longest allocation of a list, by `kvmalloc()`.
pub(crate) const LIST: usize = i32::MAX as usize;

/// Returns the numbers to try where there is an edge at `limit`.
pub(crate) fn numbers(limit: usize) -> impl Iterator<Item = usize> + Clone {
    let around = limit.saturating_sub(2)..=limit.saturating_add(2);
    let powers = [12, 31, 32, 40, 51, 52, 61, 62, 63].map(|shift| 1 << shift);
    let powers = powers.into_iter().flat_map(|n: usize| [n - 1, n, n + 1]);
    let edges = [0, 1, 2, usize::MAX - 1, usize::MAX].into_iter();
    Iterator::chain(Iterator::chain(edges, around), powers)
}

/// Returns whether an allocation of `bytes` might succeed and take too much of the guest's memory.
/// Longer ones fail.
pub(crate) fn is_much(bytes: usize) -> bool {
    (1 << 25..LIST - 64).contains(&bytes)
}

/// Checks that a result is a success or one of `errors`.
#[track_caller]
pub(crate) fn one_of<T>(
    number: usize,
    result: Result<T>,
    errors: &[Error],
) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) => {
            check!(errors.contains(&e), "{:?} of {number:#x}", Name(e));
            Ok(None)
        }
    }
}

/// Flags for allocations, valid ones and others.
pub(crate) fn flags() -> [Flags; 8] {
    [
        GFP_KERNEL,
        GFP_ATOMIC,
        GFP_KERNEL & GFP_ATOMIC,
        GFP_KERNEL | __GFP_HIGHMEM,
        GFP_KERNEL_ACCOUNT | __GFP_ZERO,
        // All others: zones that exclude each other, compound pages, "must not fail".
        !GFP_KERNEL,
        !GFP_ATOMIC,
        !__GFP_NOWARN,
    ]
}
