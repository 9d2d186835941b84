// SPDX-License-Identifier: GPL-2.0

//! The CPU reads what the device writes, without having its turn.

use kernel::prelude::*;
use phyr::{mapping::Mapping, memory::Pages};

pub fn read(mapping: &mut Mapping<'_, Pages>, to: &mut [u8]) -> Result {
    #[cfg(compile_fail)]
    mapping.read(0, to)?;
    //~^ error[E0599]: no method named `read` found for
    mapping.cpu().read(0, to)
}
