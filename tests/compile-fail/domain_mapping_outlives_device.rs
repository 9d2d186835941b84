// SPDX-License-Identifier: GPL-2.0

//! A mapping in a domain is kept for longer than its driver is bound.

use phyr::memory::Chunks;
use phyr_iommu::Mapping;

fn keep_for_ever<T: 'static>(_: T) {}

pub fn kept(it: Mapping<'_, Chunks>, memory: Chunks) {
    keep_for_ever(memory);
    #[cfg(compile_fail)]
    keep_for_ever(it);
    //~^ error[E0521]: borrowed data escapes outside of function
}
