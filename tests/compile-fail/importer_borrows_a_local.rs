// SPDX-License-Identifier: GPL-2.0

//! An importer of a dma-buf borrows a local variable of the function that attaches it,
//! or one that a closure has captured.

use kernel::{
    device::{Bound, Device},
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{ordering, Atomic},
        Arc,
    },
};
use phyr_dma_buf::{
    Attachment,
    DmaBuf,
    Invalidate, //
};
use phyr_driver::scope::scope;

struct Count<'a>(&'a Atomic<i32>);

impl Invalidate for Count<'static> {
    fn invalidate(&self) {
        self.0.store(1, ordering::Relaxed);
    }
}

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn of_a_function(dev: &Device<Bound>, buf: ARef<DmaBuf>) -> Result {
    let local = Atomic::new(0);
    #[cfg(not(compile_fail))]
    let count = &COUNT;
    #[cfg(compile_fail)]
    let count = &local;
    //~^ error[E0597]: `local` does not live long enough
    let importer = Arc::new(Count(count), GFP_KERNEL)?;
    core::mem::forget(Attachment::dynamic(dev, buf, false, importer)?);
    local.store(1, ordering::Relaxed);
    Ok(())
}

pub fn of_a_closure(dev: &Device<Bound>, buf: ARef<DmaBuf>) -> Result {
    let outer = Atomic::new(0);
    scope(dev, |scope| {
        #[cfg(not(compile_fail))]
        let count = &COUNT;
        #[cfg(compile_fail)]
        let count = &outer;
        //~^ error[E0597]: `outer` does not live long enough
        let importer = Arc::new(Count(count), GFP_KERNEL)?;
        core::mem::forget(Attachment::dynamic(scope.device(), buf, false, importer)?);
        Ok(())
    })?;
    outer.store(1, ordering::Relaxed);
    Ok(())
}
