// SPDX-License-Identifier: GPL-2.0

//! A registered value borrows a local variable of the function that registers it,
//! or one that a closure has captured.

use kernel::device::{Bound, Device};
use kernel::{
    prelude::*,
    sync::atomic::{ordering, Atomic},
};
use phyr_driver::scope::{scope, Scope};

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn of_a_function<'b>(scope: Scope<'b>) -> Result {
    let local = Atomic::new(0);
    #[cfg(not(compile_fail))]
    let count = &COUNT;
    #[cfg(compile_fail)]
    let count = &local;
    //~^ error[E0597]: `local` does not live long enough
    core::mem::forget(scope.register(count)?);
    local.store(1, ordering::Relaxed);
    Ok(())
}

pub fn of_a_closure(dev: &Device<Bound>) -> Result {
    let outer = Atomic::new(0);
    scope(dev, |scope| {
        #[cfg(not(compile_fail))]
        let count = &COUNT;
        #[cfg(compile_fail)]
        let count = &outer;
        //~^ error[E0597]: `outer` does not live long enough
        core::mem::forget(scope.register(count)?);
        Ok(())
    })?;
    outer.store(1, ordering::Relaxed);
    Ok(())
}
