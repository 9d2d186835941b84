// SPDX-License-Identifier: GPL-2.0

//! Data of a tag is written in two places at once.

use phyr_blk::{Mapped, Operations};

pub fn twice<'bound, T: Operations>(
    mut io: Mapped<'_, 'bound, T>,
    use_it: impl Fn(&mut T::PerTag<'bound>),
) {
    let (slot, vecs) = io.per_tag_and_dma_vecs();
    #[cfg(compile_fail)]
    use_it(io.per_tag_mut());
    //~^ error[E0499]: cannot borrow `io` as mutable more than once at a time
    use_it(slot);
    drop(vecs);
}
