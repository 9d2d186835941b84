// SPDX-License-Identifier: GPL-2.0

//! A handler of faults borrows what may be gone when it is called.

use kernel::{
    device::{Bound, Device},
    prelude::*,
    sync::{
        atomic::{ordering, Atomic},
        Arc,
    },
};
use phyr_iommu::{Domain, Fault, FaultHandler};

struct Count<'a>(&'a Atomic<i32>);

impl FaultHandler for Count<'static> {
    fn fault(&self, _dev: &Device, _fault: Fault) {
        self.0.store(1, ordering::Relaxed);
    }
}

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn handled(dev: &Device<Bound>) -> Result {
    #[cfg(not(compile_fail))]
    let count = &COUNT;
    #[cfg(compile_fail)]
    let count = &Atomic::new(core::hint::black_box(0));
    //~^ error[E0716]: temporary value dropped while borrowed
    let handler = Arc::new(Count(count), GFP_KERNEL)?;
    Domain::attach(dev, Some(handler))?;
    Ok(())
}
