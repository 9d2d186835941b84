// SPDX-License-Identifier: GPL-2.0

//! A gather with ranges to be flushed is kept for longer than its driver is bound.

use phyr::memory::Chunks;
use phyr_iommu::Gather;

fn keep_for_ever<T: 'static>(_: T) {}

pub fn kept(it: Gather<'_, Chunks>, memory: Chunks) {
    keep_for_ever(memory);
    #[cfg(compile_fail)]
    keep_for_ever(it);
    //~^ error[E0521]: borrowed data escapes outside of function
}
