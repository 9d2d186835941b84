// SPDX-License-Identifier: GPL-2.0

//! An interrupt handler borrows a local variable of the function that registers it,
//! or one that a closure has captured.

use kernel::device::{Bound, Device};
use kernel::{
    irq::{Handler, IrqReturn},
    prelude::*,
    sync::atomic::{ordering, Atomic},
};
use phyr_driver::{
    irq::Vectors,
    scope::{
        scope,
        Scope, //
    }, //
};

struct Count<'a>(&'a Atomic<i32>);

impl Handler for Count<'_> {
    fn handle(&self) -> IrqReturn {
        self.0.store(1, ordering::Relaxed);
        IrqReturn::Handled
    }
}

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn of_a_function<'b>(vectors: Vectors<'b>) -> Result {
    let local = Atomic::new(0);
    #[cfg(not(compile_fail))]
    let count = &COUNT;
    #[cfg(compile_fail)]
    let count = &local;
    //~^ error[E0597]: `local` does not live long enough
    core::mem::forget(vectors.request(0, c"test", Count(count))?);
    local.store(1, ordering::Relaxed);
    Ok(())
}

pub fn of_a_closure(
    dev: &Device<Bound>,
    vectors: impl for<'b> Fn(Scope<'b>) -> Result<Vectors<'b>>,
) -> Result {
    let outer = Atomic::new(0);
    scope(dev, |scope| {
        #[cfg(not(compile_fail))]
        let count = &COUNT;
        #[cfg(compile_fail)]
        let count = &outer;
        //~^ error[E0597]: `outer` does not live long enough
        core::mem::forget(vectors(scope)?.request(0, c"test", Count(count))?);
        Ok(())
    })?;
    outer.store(1, ordering::Relaxed);
    Ok(())
}
