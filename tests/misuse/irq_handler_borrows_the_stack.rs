// SPDX-License-Identifier: GPL-2.0

//! A handler borrows from a function that returns while it is registered.

use kernel::{
    irq::{Handler, IrqReturn},
    prelude::*,
    sync::atomic::{ordering, Atomic},
};
use phyr::irq::{Irq, Vectors};

pub struct Count<'a>(&'a Atomic<i32>);

impl Handler for Count<'_> {
    fn handle(&self) -> IrqReturn {
        self.0.store(1, ordering::Relaxed);
        IrqReturn::Handled
    }
}

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn requested<'bound>(vectors: &Vectors<'bound>) -> Result<Irq<'bound, Count<'bound>>> {
    let count = Atomic::new(0);
    #[cfg(not(misuse))]
    let handler = Count(&COUNT);
    #[cfg(misuse)]
    let handler = Count(&count);
    vectors.request(0, c"misuse", handler)
    //~^ error[E0515]: cannot return value referencing local variable `count`
}
