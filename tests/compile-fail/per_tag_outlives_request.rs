// SPDX-License-Identifier: GPL-2.0

//! Data of a tag is used after the request with that tag was given away.

use phyr_blk::{Mapped, Operations};

pub fn late<'bound, T: Operations>(
    mut io: Mapped<'_, 'bound, T>,
    use_it: impl Fn(&mut T::PerTag<'bound>),
) {
    let slot = io.per_tag_mut();
    #[cfg(compile_fail)]
    io.put_in_flight();
    //~^ error[E0505]: cannot move out of `io` because it is borrowed
    use_it(slot);
}
