// SPDX-License-Identifier: GPL-2.0

//! A mapping is taken apart: its memory would be freed while it is mapped.

use phyr::{mapping::Mapping, memory::Pages};

pub fn apart(mapping: Mapping<'_, Pages>) -> Pages {
    #[cfg(misuse)]
    let Mapping { memory, .. } = mapping;
    //~^ error[E0509]: cannot move out of type
    mapping.unmap()
}
