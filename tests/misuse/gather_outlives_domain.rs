// SPDX-License-Identifier: GPL-2.0

//! A gather flushes a domain that is gone.

use kernel::{
    device::{Bound, Device},
    prelude::*,
};
use phyr::{
    iommu::{Domain, Gather},
    memory::Chunks,
};

pub fn outlived(dev: &Device<Bound>) -> Result {
    let domain = Domain::attach(dev, None)?;
    let gather: Gather<'_, Chunks> = domain.gather(1)?;
    #[cfg(misuse)]
    drop(domain);
    //~^ error[E0505]: cannot move out of `domain` because it is borrowed
    drop(gather);
    Ok(())
}
