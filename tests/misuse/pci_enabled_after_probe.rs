// SPDX-License-Identifier: GPL-2.0

//! A device is enabled by one who is not its probe.

use kernel::{
    device::{Bound, Core},
    pci,
    prelude::*,
};
use phyr::pci::Enabled;

pub fn enabled(probed: &pci::Device<Core<'_>>, pdev: &pci::Device<Bound>) -> Result {
    Enabled::new(probed)?;
    #[cfg(misuse)]
    Enabled::new(pdev)?;
    //~^ error[E0308]: mismatched types
    Ok(())
}
