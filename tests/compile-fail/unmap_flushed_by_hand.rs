// SPDX-License-Identifier: GPL-2.0

//! Something claims that a flush was done.

use phyr::{Flushed, Mapper, Unmapping};

pub fn flushed<'m>(mapper: &'m Mapper<'m>, unmapping: Unmapping<'_, 'm>) -> Flushed<'m> {
    #[cfg(compile_fail)]
    return Flushed { mapper, ranges: 1 };
    //~^ error[E0451]: field
    #[cfg(not(compile_fail))]
    {
        let _ = mapper;
        unmapping.flush()
    }
}
