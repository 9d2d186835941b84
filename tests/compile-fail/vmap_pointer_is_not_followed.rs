// SPDX-License-Identifier: GPL-2.0

//! The memory behind a pointer to a mapped range is accessed by safe code.

use phyr::memory::Vmap;

pub fn followed(vmap: &Vmap<'_>) -> usize {
    #[cfg(compile_fail)]
    let _ = *vmap.as_ptr().as_ptr();
    //~^ error[E0133]: dereference of raw pointer is unsafe
    vmap.len()
}
