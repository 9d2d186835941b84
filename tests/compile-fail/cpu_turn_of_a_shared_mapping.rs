// SPDX-License-Identifier: GPL-2.0

//! A turn of the CPU by one who shares the mapping with others.

use kernel::prelude::*;
use phyr::{mapping::Mapping, memory::Pages};

pub fn shared(mapping: &Mapping<'_, Pages>) -> usize {
    #[cfg(compile_fail)]
    mapping.cpu();
    //~^ error[E0596]: cannot borrow `*mapping` as mutable, as it is behind a `&` reference
    mapping.len()
}
