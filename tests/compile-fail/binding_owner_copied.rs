// SPDX-License-Identifier: GPL-2.0

//! Two end a binding.

use kernel::prelude::*;
use phyr_driver::binding::BindingOwner;

pub fn copied(owner: BindingOwner<'_>) {
    #[cfg(compile_fail)]
    drop(owner.clone());
    //~^ error[E0599]: no method named `clone` found for
    drop(owner);
}
