// SPDX-License-Identifier: GPL-2.0

//! A handler that belongs to one thread is called on any CPU.

use core::marker::PhantomData;
use kernel::{
    irq::{Handler, IrqReturn},
    prelude::*,
};
use phyr_driver::irq::Vectors;

struct Mine<T>(PhantomData<T>);

// SAFETY: nothing can be done with a shared reference.
unsafe impl<T> Sync for Mine<T> {}

impl<T: 'static> Handler for Mine<T> {
    fn handle(&self) -> IrqReturn {
        IrqReturn::None
    }
}

pub fn requested(vectors: &Vectors<'_>) -> Result {
    drop(vectors.request(0, c"test", Mine::<u8>(PhantomData))?);
    #[cfg(compile_fail)]
    drop(vectors.request(0, c"test", Mine::<*mut u8>(PhantomData))?);
    //~^ error[E0277]: `*mut u8` cannot be sent between threads safely
    Ok(())
}
