// SPDX-License-Identifier: GPL-2.0

//! A request ends while the device has its memory.

use phyr_blk::{Mapped, Operations, Status};

pub fn ended<T: Operations>(io: Mapped<'_, '_, T>) {
    #[cfg(compile_fail)]
    return io.end(Status::Ok);
    //~^ error[E0599]: no method named `end` found for
    #[cfg(not(compile_fail))]
    io.unmap().end(Status::Ok)
}
