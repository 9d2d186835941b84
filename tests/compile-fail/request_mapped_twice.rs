// SPDX-License-Identifier: GPL-2.0

//! A request is mapped twice.

use phyr_blk::{Operations, Request, Status};

pub fn twice<T: Operations>(rq: Request<'_, '_, T>) {
    let Ok(io) = rq.map() else { return };
    #[cfg(compile_fail)]
    let _ = rq.map();
    //~^ error[E0382]: use of moved value: `rq`
    io.complete(Status::Ok);
}
