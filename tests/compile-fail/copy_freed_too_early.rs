// SPDX-License-Identifier: GPL-2.0

//! A copy is freed while the device has it.

use kernel::prelude::*;
use phyr::{linear::LinearCopy, memory::Pages};

pub fn ended(mut copy: LinearCopy<'_, Pages>) -> Result {
    let turn = copy.hand_over()?;
    #[cfg(compile_fail)]
    drop(copy.into_memory());
    //~^ error[E0505]: cannot move out of `copy` because it is borrowed
    turn.hand_back()
}
