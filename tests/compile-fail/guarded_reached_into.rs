// SPDX-License-Identifier: GPL-2.0

//! A reference to a guarded value, which would outlive it.

use phyr_driver::bound::Guarded;

pub fn reached<'a>(guarded: &'a Guarded<'_, u32>, other: &'a u32) -> &'a u32 {
    #[cfg(misuse)]
    let other = &**guarded;
    //~^ error[E0614]: type `Guarded<'_, u32>` cannot be dereferenced
    other
}
