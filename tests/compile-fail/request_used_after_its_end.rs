// SPDX-License-Identifier: GPL-2.0

//! A request is looked at when it has ended.

use phyr_blk::{Operations, Request, Status};

pub fn late<T: Operations>(rq: Request<'_, '_, T>) -> u64 {
    let sector = rq.sector();
    rq.end(Status::Ok);
    #[cfg(compile_fail)]
    let sector = rq.sector();
    //~^ error[E0382]: borrow of moved value: `rq`
    sector
}
