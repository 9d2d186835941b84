// SPDX-License-Identifier: GPL-2.0

//! A mapping is ended by one who only borrowed it; its owner would end it again.

use phyr::{mapping::Mapping, memory::Pages};

pub fn borrowed(mapping: &mut Mapping<'_, Pages>) {
    let _ = mapping.len();
    #[cfg(compile_fail)]
    drop(mapping.unmap());
    //~^ error[E0507]: cannot move out of `*mapping` which is behind a mutable reference
}
