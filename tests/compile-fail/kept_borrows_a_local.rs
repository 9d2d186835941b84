// SPDX-License-Identifier: GPL-2.0

//! A value that a scope keeps borrows a local variable of the function that registers it.

use kernel::{
    prelude::*,
    sync::atomic::{ordering, Atomic},
};
use phyr_driver::scope::Scope;

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn registered<'b>(scope: Scope<'b>) -> Result {
    let local = Atomic::new(0);
    #[cfg(not(compile_fail))]
    let count = &COUNT;
    #[cfg(compile_fail)]
    let count = &local;
    //~^ error[E0597]: `local` does not live long enough
    scope.keep(count)?;
    local.store(1, ordering::Relaxed);
    Ok(())
}
