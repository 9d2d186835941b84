// SPDX-License-Identifier: GPL-2.0

//! The answer to one command is given for another, which is still pending.

use phyr_blk::uring::{Answer, Issued};

pub fn mixed<'a, 'b>(one: Issued<'a>, other: Issued<'b>) -> Answer<'a> {
    let (mine, others) = (one.done(Ok(0)), other.done(Ok(0)));
    #[cfg(misuse)]
    return others;
    //~^ error: lifetime may not live long enough
    #[cfg(not(misuse))]
    mine
}
