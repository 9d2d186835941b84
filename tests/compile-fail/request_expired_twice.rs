// SPDX-License-Identifier: GPL-2.0

//! A request whose time is over is taken twice.

use phyr_blk::{Expired, Operations};

pub fn twice<T: Operations>(expired: Expired<'_, '_, T>) {
    drop(expired.take());
    #[cfg(compile_fail)]
    drop(expired.take());
    //~^ error[E0382]: use of moved value: `expired`
}
