// SPDX-License-Identifier: GPL-2.0

//! A request ends twice: by then it is another's.

use phyr_blk::{Operations, Request, Status};

pub fn twice<T: Operations>(rq: Request<'_, '_, T>) {
    rq.end(Status::Ok);
    #[cfg(compile_fail)]
    rq.end(Status::Ok);
    //~^ error[E0382]: use of moved value: `rq`
}
