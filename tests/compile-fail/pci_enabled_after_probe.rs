// SPDX-License-Identifier: GPL-2.0

//! A device is enabled by one who is not its probe.

use kernel::{
    device::{Bound, Core},
    pci,
    prelude::*,
};
use phyr_driver::{pci::Enabled, scope::Scope};

pub fn enabled<'b>(
    scope: Scope<'b>,
    probed: &'b pci::Device<Core<'_>>,
    pdev: &'b pci::Device<Bound>,
) -> Result {
    Enabled::new(scope, probed)?;
    #[cfg(compile_fail)]
    Enabled::new(scope, pdev)?;
    //~^ error[E0308]: mismatched types
    Ok(())
}
