// SPDX-License-Identifier: GPL-2.0

//! The limits of a mapper change under its mappings.

use phyr::{Limits, Mapper};

pub fn widen(mapper: &mut Mapper<'_>) -> Limits {
    #[cfg(compile_fail)]
    let _ = core::mem::replace(&mut mapper.limits, Limits::NONE);
    //~^ error[E0616]: field `limits` of struct
    *mapper.limits()
}
