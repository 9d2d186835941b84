// SPDX-License-Identifier: GPL-2.0

//! The CPU reads a copy while the device has it.

use kernel::prelude::*;
use phyr::{linear::LinearCopy, memory::Pages};

pub fn early(copy: &mut LinearCopy<'_, Pages>, to: &mut [u8]) -> Result {
    let turn = copy.hand_over()?;
    #[cfg(compile_fail)]
    copy.read(0, to)?;
    //~^ error[E0502]: cannot borrow `*copy` as immutable because it is also borrowed as mutable
    turn.hand_back()?;
    copy.read(0, to)
}
