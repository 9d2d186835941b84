// SPDX-License-Identifier: GPL-2.0

//! A command of io_uring is answered twice.

use phyr_blk::uring::{UringCmd, UringResult};

pub fn twice<'a>(cmd: UringCmd<'a>) -> UringResult<'a> {
    let answer = cmd.done(Ok(0));
    #[cfg(compile_fail)]
    let answer = cmd.done(Ok(0));
    //~^ error[E0382]: use of moved value: `cmd`
    answer
}
