// SPDX-License-Identifier: GPL-2.0

//! A threaded interrupt handler borrows a local variable of the function that registers it.

use kernel::{
    irq::{IrqReturn, ThreadedHandler},
    prelude::*,
    sync::atomic::{ordering, Atomic},
};
use phyr_driver::irq::Vectors;

struct Count<'a>(&'a Atomic<i32>);

impl ThreadedHandler for Count<'_> {
    fn handle_threaded(&self) -> IrqReturn {
        self.0.store(1, ordering::Relaxed);
        IrqReturn::Handled
    }
}

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn registered<'b>(vectors: Vectors<'b>) -> Result {
    let local = Atomic::new(0);
    #[cfg(not(compile_fail))]
    let count = &COUNT;
    #[cfg(compile_fail)]
    let count = &local;
    //~^ error[E0597]: `local` does not live long enough
    core::mem::forget(vectors.request_threaded(0, c"test", Count(count))?);
    local.store(1, ordering::Relaxed);
    Ok(())
}
