// SPDX-License-Identifier: GPL-2.0

//! A command ends by itself after a request was sent that ends it.

use phyr_blk::{
    uring::{UringCmd, UringResult},
    Operations, PassthroughRequest,
};

pub fn twice<'a, T: Operations>(
    request: PassthroughRequest<T>,
    cmd: UringCmd<'a>,
    payload: T::Passthrough,
) -> UringResult<'a> {
    let result = request.execute_command(cmd, None, payload);
    #[cfg(compile_fail)]
    let result = cmd.done(Ok(0));
    //~^ error[E0382]: use of moved value: `cmd`
    result
}
