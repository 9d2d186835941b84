// SPDX-License-Identifier: GPL-2.0

//! A command of io_uring is answered twice.

use phyr_blk::uring::{Answer, Issued};

pub fn twice<'a>(cmd: Issued<'a>) -> Answer<'a> {
    let answer = cmd.done(Ok(0));
    #[cfg(misuse)]
    let answer = cmd.done(Ok(0));
    //~^ error[E0382]: use of moved value: `cmd`
    answer
}
