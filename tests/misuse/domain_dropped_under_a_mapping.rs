// SPDX-License-Identifier: GPL-2.0

//! A domain goes while something is mapped in it.

use kernel::{
    device::{Bound, Device},
    prelude::*,
};
use phyr::{
    iommu::{Access, Domain},
    memory::Chunks,
};

pub fn dropped(dev: &Device<Bound>, memory: Chunks) -> Result {
    let domain = Domain::attach(dev, None)?;
    let mapping = domain.map(memory, Access::READ)?;
    #[cfg(misuse)]
    drop(domain);
    //~^ error[E0505]: cannot move out of `domain` because it is borrowed
    drop(mapping.unmap());
    Ok(())
}
