// SPDX-License-Identifier: GPL-2.0

//! An open batch is kept for longer than its driver is bound.

use phyr::{batch::Batch, memory::Pages};

fn keep_for_ever<T: 'static>(_: T) {}

pub fn kept(it: Batch<'_, '_, Pages>, memory: Pages) {
    keep_for_ever(memory);
    #[cfg(compile_fail)]
    keep_for_ever(it);
    //~^ error[E0521]: borrowed data escapes outside of function
}
