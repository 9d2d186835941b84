// SPDX-License-Identifier: GPL-2.0

//! A command that is pending completes twice.

use phyr_blk::uring::Pending;

pub fn twice(pending: Pending) {
    pending.complete(Ok(0));
    #[cfg(compile_fail)]
    pending.complete(Ok(0));
    //~^ error[E0382]: use of moved value: `pending`
}
