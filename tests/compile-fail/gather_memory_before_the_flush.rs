// SPDX-License-Identifier: GPL-2.0

//! The memory of a gather is taken while the device may still get at it.

use kernel::prelude::*;
use phyr::memory::Chunks;
use phyr_iommu::Gather;

pub fn early(mut gather: Gather<'_, Chunks>) -> KVVec<Chunks> {
    #[cfg(compile_fail)]
    let _ = core::mem::take(&mut gather.memory);
    //~^ error[E0616]: field `memory` of struct
    gather.flush()
}
