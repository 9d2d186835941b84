// SPDX-License-Identifier: GPL-2.0

//! A value that a scope keeps borrows what a closure has captured.

use kernel::device::{Bound, Device};
use kernel::{
    prelude::*,
    sync::atomic::{ordering, Atomic},
};
use phyr_driver::scope::scope;

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn registered(dev: &Device<Bound>) -> Result {
    let outer = Atomic::new(0);
    scope(dev, |scope| {
        #[cfg(not(compile_fail))]
        let count = &COUNT;
        #[cfg(compile_fail)]
        let count = &outer;
        //~^ error[E0597]: `outer` does not live long enough
        scope.keep(count)?;
        Ok(())
    })?;
    outer.store(1, ordering::Relaxed);
    Ok(())
}
