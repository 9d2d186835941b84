// SPDX-License-Identifier: GPL-2.0

//! A mapping in a domain ends twice.

use phyr::memory::Chunks;
use phyr_iommu::Mapping;

pub fn twice(mapping: Mapping<'_, Chunks>) {
    drop(mapping.unmap());
    #[cfg(compile_fail)]
    drop(mapping.unmap());
    //~^ error[E0382]: use of moved value: `mapping`
}
