// SPDX-License-Identifier: GPL-2.0

//! A reference to a registered value, which would outlive it.

use phyr_driver::scope::Registration;

pub fn reached<'a>(guarded: &'a Registration<'_, u32>, other: &'a u32) -> &'a u32 {
    #[cfg(compile_fail)]
    let other = &**guarded;
    //~^ error[E0614]: type `Registration<'_, u32>` cannot be dereferenced
    other
}
