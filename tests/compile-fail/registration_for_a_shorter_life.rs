// SPDX-License-Identifier: GPL-2.0

//! A registered value is taken for one that borrows for a shorter time.

use phyr_driver::scope::Registration;

pub fn shorter<'short, 'bound: 'short>(guarded: Registration<'bound, &'bound u32>) -> usize {
    #[cfg(compile_fail)]
    let guarded: Registration<'bound, &'short u32> = guarded;
    //~^ error: lifetime may not live long enough
    size_of_val(&guarded)
}
