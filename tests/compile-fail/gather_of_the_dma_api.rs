// SPDX-License-Identifier: GPL-2.0

//! A mapping of the DMA API is sent to a domain to be ended.

use kernel::prelude::*;
use phyr::{
    mapping::Mapping,
    memory::Chunks, //
};
use phyr_iommu::Gather;

pub fn sent<'d>(
    gather: &mut Gather<'d, Chunks>,
    own: phyr_iommu::Mapping<'d, Chunks>,
    other: Mapping<'d, Chunks>,
) -> Result {
    gather.unmap(own).map_err(|_| EXDEV)?;
    #[cfg(compile_fail)]
    gather.unmap(other).map_err(|_| EXDEV)?;
    //~^ error[E0308]: mismatched types
    Ok(())
}
