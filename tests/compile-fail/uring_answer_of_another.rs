// SPDX-License-Identifier: GPL-2.0

//! The answer to one command is given for another, which is still pending.

use phyr_blk::uring::{UringCmd, UringResult};

pub fn mixed<'a, 'b>(one: UringCmd<'a>, other: UringCmd<'b>) -> UringResult<'a> {
    let (mine, others) = (one.done(Ok(0)), other.done(Ok(0)));
    #[cfg(compile_fail)]
    return others;
    //~^ error: lifetime may not live long enough
    #[cfg(not(compile_fail))]
    mine
}
