// SPDX-License-Identifier: GPL-2.0

//! The memory of a mapping is got at behind its back.

use kernel::prelude::*;
use phyr::{
    mapping::Mapping,
    memory::{Memory, Pages},
};

pub fn reached(mapping: Mapping<'_, Pages>, to: &mut [u8]) -> Result {
    #[cfg(compile_fail)]
    mapping.memory.read(0, to)?;
    //~^ error[E0616]: field `memory` of struct
    mapping.unmap().read(0, to)
}
