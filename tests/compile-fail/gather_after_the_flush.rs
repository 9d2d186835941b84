// SPDX-License-Identifier: GPL-2.0

//! A gather is used when it has given its memory back.

use kernel::prelude::*;
use phyr::memory::Chunks;
use phyr_iommu::Gather;

pub fn after(gather: Gather<'_, Chunks>) {
    drop(gather.flush());
    #[cfg(compile_fail)]
    drop(gather.flush());
    //~^ error[E0382]: use of moved value: `gather`
}
