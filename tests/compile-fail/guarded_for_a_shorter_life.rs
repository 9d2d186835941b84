// SPDX-License-Identifier: GPL-2.0

//! A guarded value is taken for one that borrows for a shorter time.

use phyr_driver::bound::Guarded;

pub fn shorter<'short, 'bound: 'short>(guarded: Guarded<'bound, &'bound u32>) -> usize {
    #[cfg(misuse)]
    let guarded: Guarded<'bound, &'short u32> = guarded;
    //~^ error: lifetime may not live long enough
    size_of_val(&guarded)
}
