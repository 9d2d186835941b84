// SPDX-License-Identifier: GPL-2.0

//! A mapping is taken apart: its memory would be freed while it is mapped.

use phyr::{mapping::Mapping, memory::Pages};

#[cfg(compile_fail)]
pub fn apart(Mapping { memory, .. }: Mapping<'_, Pages>) -> Pages {
    //~^ error[E0451]: field `memory` of struct
    memory
}

#[cfg(not(compile_fail))]
pub fn apart(mapping: Mapping<'_, Pages>) -> Pages {
    mapping.unmap()
}
