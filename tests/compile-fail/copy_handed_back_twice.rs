// SPDX-License-Identifier: GPL-2.0

//! The device's turn with a copy ends twice.

use kernel::prelude::*;
use phyr::{linear::DeviceTurn, memory::Pages};

pub fn twice(turn: DeviceTurn<'_, '_, Pages>) -> Result {
    turn.hand_back()?;
    #[cfg(compile_fail)]
    turn.hand_back()?;
    //~^ error[E0382]: use of moved value: `turn`
    Ok(())
}
