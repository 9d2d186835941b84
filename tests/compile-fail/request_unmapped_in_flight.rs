// SPDX-License-Identifier: GPL-2.0

//! A request is unmapped by one who has given it to the device.

use phyr_blk::{Mapped, Operations};

pub fn parked<T: Operations>(io: Mapped<'_, '_, T>) -> u16 {
    let tag = io.put_in_flight();
    #[cfg(compile_fail)]
    drop(io.unmap());
    //~^ error[E0382]: use of moved value: `io`
    tag
}
