// SPDX-License-Identifier: GPL-2.0

//! A handler of faults borrows what a closure has captured.

use kernel::{
    device::{Bound, Device},
    prelude::*,
    sync::{
        atomic::{ordering, Atomic},
        Arc,
    },
};
use phyr_driver::scope::scope;
use phyr_iommu::{
    Domain,
    Fault,
    FaultHandler, //
};

struct Count<'a>(&'a Atomic<i32>);

impl FaultHandler for Count<'static> {
    fn fault(&self, _dev: &Device, _fault: Fault) {
        self.0.store(1, ordering::Relaxed);
    }
}

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn handled(dev: &Device<Bound>) -> Result {
    let outer = Atomic::new(0);
    scope(dev, |scope| {
        #[cfg(not(compile_fail))]
        let count = &COUNT;
        #[cfg(compile_fail)]
        let count = &outer;
        //~^ error[E0597]: `outer` does not live long enough
        let handler = Arc::new(Count(count), GFP_KERNEL)?;
        core::mem::forget(Domain::attach(scope.device(), Some(handler))?);
        Ok(())
    })?;
    outer.store(1, ordering::Relaxed);
    Ok(())
}
