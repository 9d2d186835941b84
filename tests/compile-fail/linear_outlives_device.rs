// SPDX-License-Identifier: GPL-2.0

//! A linear mapping is kept for longer than its driver is bound.

use phyr::{linear::Linear, memory::Pages};

fn keep_for_ever<T: 'static>(_: T) {}

pub fn kept(it: Linear<'_, Pages>, memory: Pages) {
    keep_for_ever(memory);
    #[cfg(compile_fail)]
    keep_for_ever(it);
    //~^ error[E0521]: borrowed data escapes outside of function
}
