// SPDX-License-Identifier: GPL-2.0

//! The driver's data of a request is used after the request has ended.

use phyr_blk::{Operations, Request, Status};

pub fn late<T: Operations>(mut rq: Request<'_, '_, T>, use_it: impl Fn(&mut T::RequestData)) {
    let data = rq.data_mut();
    #[cfg(compile_fail)]
    rq.end(Status::Ok);
    //~^ error[E0505]: cannot move out of `rq` because it is borrowed
    use_it(data);
}
