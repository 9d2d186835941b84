// SPDX-License-Identifier: GPL-2.0

//! A domain of one device is taken for a mapper of another, that is bound for longer.

use kernel::{
    device::{Bound, Device},
    prelude::*,
};
use phyr::{Limits, Mapper};
use phyr_iommu::Domain;

pub fn longer<'long, 'short>(
    dev: &'long Device<Bound>,
    domain: &Domain<'short>,
) -> Result<Mapper<'long>> {
    let mapper = Mapper::new(dev, Limits::NONE)?;
    #[cfg(compile_fail)]
    let mapper: Mapper<'long> = domain.mapper(Limits::NONE, 1 << 30)?;
    //~^ error: lifetime may not live long enough
    Ok(mapper)
}
