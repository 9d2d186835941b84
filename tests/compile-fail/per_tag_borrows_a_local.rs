// SPDX-License-Identifier: GPL-2.0

//! Data of a tag borrows a local variable of the function that makes it,
//! or one that a closure has captured.

use core::{convert::Infallible, marker::PhantomData};
use kernel::{
    device::{Bound, Device},
    module::ModuleMetadata,
    prelude::*,
    sync::{
        atomic::{ordering, Atomic},
        Arc,
    },
};
use phyr::{Limits, Mapper};
use phyr_blk::{Config, HwCtx, Operations, QueueRqError, QueueRqResult, Request, TagOnly, TagSet};
use phyr_driver::scope::{scope, Scope};

struct Driver<M>(PhantomData<M>);

impl<M: ModuleMetadata + 'static> Operations for Driver<M> {
    type Module = M;
    type HwQueue<'bound> = ();
    type DiskData<'bound> = ();
    type RequestData = ();
    type Passthrough = Infallible;
    type PerTag<'bound> = &'bound Atomic<i32>;
    type CompletionId = TagOnly;

    fn queue_rq<'a, 'bound>(
        _hw: &'a HwCtx<'bound, Self>,
        _disk: &Self::DiskData<'bound>,
        rq: Request<'a, 'bound, Self>,
        _last: bool,
    ) -> QueueRqResult<'a, 'bound, Self> {
        Err(QueueRqError::Resource(rq))
    }
}

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn of_a_function<'b, M: ModuleMetadata + 'static>(
    scope: Scope<'b>,
    mapper: Arc<Mapper<'b>>,
) -> Result {
    let local = Atomic::new(0);
    #[cfg(not(compile_fail))]
    let count = &COUNT;
    #[cfg(compile_fail)]
    let count = &local;
    //~^ error[E0597]: `local` does not live long enough
    let mut queues = KVec::new();
    queues.push((), GFP_KERNEL)?;
    let config = Config::new(1, 1);
    let tags = TagSet::<Driver<M>>::new(scope, mapper, queues, config, |_, _| Ok(count))?;
    core::mem::forget(tags);
    local.store(1, ordering::Relaxed);
    Ok(())
}

pub fn of_a_closure<M: ModuleMetadata + 'static>(dev: &Device<Bound>) -> Result {
    let outer = Atomic::new(0);
    scope(dev, |scope| {
        #[cfg(not(compile_fail))]
        let count = &COUNT;
        #[cfg(compile_fail)]
        let count = &outer;
        //~^ error[E0597]: `outer` does not live long enough
        let mapper = Arc::new(Mapper::new(scope.device(), Limits::NONE)?, GFP_KERNEL)?;
        let mut queues = KVec::new();
        queues.push((), GFP_KERNEL)?;
        let config = Config::new(1, 1);
        let tags = TagSet::<Driver<M>>::new(scope, mapper, queues, config, |_, _| Ok(count))?;
        core::mem::forget(tags);
        Ok(())
    })?;
    outer.store(1, ordering::Relaxed);
    Ok(())
}
