// SPDX-License-Identifier: GPL-2.0

//! A value is tied to a binding without a word on what it borrows.

use kernel::{
    device::{Bound, Device},
    prelude::*,
};
use phyr::bound::Guarded;

pub fn tied<'bound, T: Send + 'bound>(
    dev: &'bound Device<Bound>,
    value: T,
) -> Result<Guarded<'bound, T>> {
    #[cfg(not(misuse))]
    // SAFETY: it is never called.
    let guarded = unsafe { Guarded::new(dev, value) };
    #[cfg(misuse)]
    let guarded = Guarded::new(dev, value);
    //~^ error[E0133]: call to unsafe function
    guarded
}
