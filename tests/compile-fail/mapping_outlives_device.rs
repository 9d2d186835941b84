// SPDX-License-Identifier: GPL-2.0

//! A mapping is kept for longer than its driver is bound.

use kernel::prelude::*;
use phyr::{mapping::Mapping, memory::Pages};

fn keep_for_ever<T: 'static>(_: T) {}

pub fn kept(mapping: Mapping<'_, Pages>, pages: Pages) {
    keep_for_ever(pages);
    #[cfg(compile_fail)]
    keep_for_ever(mapping);
    //~^ error[E0521]: borrowed data escapes outside of function
}
