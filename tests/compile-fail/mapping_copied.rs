// SPDX-License-Identifier: GPL-2.0

//! A mapping is copied: each copy would unmap it.

use phyr::{mapping::Mapping, memory::Pages};

pub fn copied<'m>(mapping: Mapping<'m, Pages>) -> Mapping<'m, Pages> {
    #[cfg(compile_fail)]
    drop(mapping.clone());
    //~^ error[E0599]: no method named `clone` found for
    mapping
}
