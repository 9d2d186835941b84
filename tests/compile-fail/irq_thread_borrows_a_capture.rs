// SPDX-License-Identifier: GPL-2.0

//! A threaded interrupt handler borrows what a closure has captured.

use kernel::device::{Bound, Device};
use kernel::{
    irq::{IrqReturn, ThreadedHandler},
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

impl ThreadedHandler for Count<'_> {
    fn handle_threaded(&self) -> IrqReturn {
        self.0.store(1, ordering::Relaxed);
        IrqReturn::Handled
    }
}

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn registered(
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
        core::mem::forget(vectors(scope)?.request_threaded(0, c"test", Count(count))?);
        Ok(())
    })?;
    outer.store(1, ordering::Relaxed);
    Ok(())
}
