// SPDX-License-Identifier: GPL-2.0

//! A mapper is kept for longer than its driver is bound.

use phyr::Mapper;

fn keep_for_ever<T: 'static>(_: T) {}

pub fn kept(mapper: Mapper<'_>) {
    keep_for_ever(mapper.limits().max_segment());
    #[cfg(compile_fail)]
    keep_for_ever(mapper);
    //~^ error[E0521]: borrowed data escapes outside of function
}
