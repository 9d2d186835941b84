// SPDX-License-Identifier: GPL-2.0

//! A request that could not be mapped is used as if it had not been given away.

use phyr_blk::{Operations, Request, Status};

pub fn refused<T: Operations>(rq: Request<'_, '_, T>) {
    let Err(refused) = rq.map() else { return };
    #[cfg(compile_fail)]
    rq.end(Status::Resource);
    //~^ error[E0382]: use of moved value: `rq`
    refused.request.end(Status::Resource);
}
