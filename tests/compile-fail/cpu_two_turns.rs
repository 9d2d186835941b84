// SPDX-License-Identifier: GPL-2.0

//! Two turns of the CPU at the same time: the first to end would hand back what the second has.

use phyr::{mapping::Mapping, memory::Pages};

pub fn two(mapping: &mut Mapping<'_, Pages>) {
    let first = mapping.cpu();
    #[cfg(compile_fail)]
    let second = mapping.cpu();
    //~^ error[E0499]: cannot borrow `*mapping` as mutable more than once at a time
    drop(first);
}
