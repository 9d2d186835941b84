// SPDX-License-Identifier: GPL-2.0

//! A mapping ends twice.

use phyr::{mapping::Mapping, memory::Pages};

pub fn twice(mapping: Mapping<'_, Pages>) {
    drop(mapping.unmap());
    #[cfg(compile_fail)]
    drop(mapping.unmap());
    //~^ error[E0382]: use of moved value: `mapping`
}
