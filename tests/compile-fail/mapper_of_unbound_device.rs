// SPDX-License-Identifier: GPL-2.0

//! A mapper of a device that no driver is bound to.

use kernel::{
    device::{Bound, Device},
    prelude::*,
};
use phyr::{Limits, Mapper};

pub fn probe(bound: &Device<Bound>, dev: &Device) -> Result {
    Mapper::new(bound, Limits::NONE)?;
    #[cfg(compile_fail)]
    Mapper::new(dev, Limits::NONE)?;
    //~^ error[E0308]: mismatched types
    Ok(())
}
