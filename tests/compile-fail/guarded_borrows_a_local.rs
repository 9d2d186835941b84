// SPDX-License-Identifier: GPL-2.0

//! A guarded value borrows a local variable of the function that registers it.

use kernel::{
    prelude::*,
    sync::atomic::{ordering, Atomic},
};
use phyr_driver::{bound::Guarded, scope::Scope};

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn registered<'b>(scope: Scope<'b>) -> Result {
    let local = Atomic::new(0);
    #[cfg(not(misuse))]
    let count = &COUNT;
    #[cfg(misuse)]
    let count = &local;
    //~^ error[E0597]: `local` does not live long enough
    core::mem::forget(Guarded::new(scope, count)?);
    local.store(1, ordering::Relaxed);
    Ok(())
}
