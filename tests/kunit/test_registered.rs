// SPDX-License-Identifier: GPL-2.0

//! Registered memory: it ends with its owner, or with the binding, however much of it there is.

use crate::{
    buffers::BOTH,
    check::Outcome,
    fixture::{
        another_device,
        bound,
        skip, //
    }, //
};
use core::{
    ptr,
    sync::atomic::{
        AtomicUsize,
        Ordering::Relaxed, //
    }, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};
use phyr::{
    memory::Pages,
    raw,
    Limits, //
};
use phyr_driver::registered::RegisteredMemory;

/// Count of registrations whose mapping has ended.
type Stopped = Arc<AtomicUsize>;

fn register(dev: &Device<Bound>, stopped: &Stopped) -> Result<RegisteredMemory> {
    let stopped = stopped.clone();
    let (registered, _) = RegisteredMemory::new(
        dev,
        Limits::of_device(dev),
        Pages::zeroed(PAGE_SIZE, GFP_KERNEL)?,
        BOTH,
        GFP_KERNEL,
        move || {
            stopped.fetch_add(1, Relaxed);
        },
        |dma_vecs| Ok(dma_vecs.count()),
    )?;
    Ok(registered)
}

/// Returns the number of the managed resources of `dev`, each of which is a step of its unbinding.
fn resources(dev: &Device<Bound>) -> usize {
    // SAFETY: the device is valid. Nobody but this test uses it, so that the list of its managed
    // resources does not change.
    let head = unsafe { &raw const (*raw::device(dev)).devres_head };
    // SAFETY: the list is one of valid entries that leads back to its head.
    let next = |&at: &*const bindings::list_head| unsafe { (*at).next.cast_const() };
    core::iter::successors(Some(next(&head)), |at| Some(next(at)))
        .take_while(|&at| !ptr::eq(at, head))
        .count()
}

/// Half of the registrations; fewer where each takes long.
const MANY: usize = if cfg!(CONFIG_KASAN) { 500 } else { 5_000 };

#[kunit_tests(phyr_device_registered)]
mod tests {
    use super::*;

    /// All of them together are one managed resource: an unbind takes as many steps, and grace
    /// periods of RCU, as if there were one.
    #[test]
    fn many_end_together() -> Outcome {
        let device = another_device()?;
        let dev = bound(&device);
        let stopped = Arc::new(AtomicUsize::new(0), GFP_KERNEL)?;
        let before = resources(dev);
        let mut early = KVVec::with_capacity(MANY, GFP_KERNEL)?;
        let mut late = KVVec::with_capacity(MANY, GFP_KERNEL)?;
        for _ in 0..MANY {
            for all in [&mut early, &mut late] {
                match register(dev, &stopped) {
                    Err(EOPNOTSUPP) => {
                        skip(c"memory may be bounced, or the device is not coherent");
                        return Ok(());
                    }
                    registered => all.push(registered?, GFP_KERNEL)?,
                }
            }
        }
        check_cmp!(resources(dev) - before, <=, 1);
        // The oldest first.
        drop(early);
        check_eq!(stopped.load(Relaxed), MANY);
        check_cmp!(resources(dev) - before, <=, 1);
        drop(device);
        check_eq!(stopped.load(Relaxed), 2 * MANY);
        drop(late);
        check_eq!(stopped.load(Relaxed), 2 * MANY);
        Ok(())
    }
}
