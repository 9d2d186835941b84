// SPDX-License-Identifier: GPL-2.0

//! A request is kept for longer than its queue is there.

use phyr_blk::{Operations, Request};

fn keep_for_ever<T: 'static>(_: T) {}

pub fn kept<T: Operations>(rq: Request<'_, '_, T>) {
    keep_for_ever(rq.tag());
    #[cfg(compile_fail)]
    keep_for_ever(rq);
    //~^ error[E0521]: borrowed data escapes outside of function
}
