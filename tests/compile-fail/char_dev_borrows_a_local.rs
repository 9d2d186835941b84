// SPDX-License-Identifier: GPL-2.0

//! Data that the files of a character device share borrows a local variable,
//! or one that a closure has captured.

use core::marker::PhantomData;
use kernel::{
    device::{Bound, Device},
    module::ModuleMetadata,
    prelude::*,
    sync::{
        atomic::{ordering, Atomic},
        Arc,
    },
    uaccess::UserPtr,
};
use phyr_blk::{
    uring::{UringCmd, UringResult},
    CharDevice, CharFile, FileMode,
};
use phyr_driver::scope::{scope, Scope};

struct File<M>(PhantomData<M>);

// SAFETY: there is nothing in it.
unsafe impl<M> Send for File<M> {}

// SAFETY: there is nothing in it.
unsafe impl<M> Sync for File<M> {}

impl<M: ModuleMetadata + 'static> CharFile for File<M> {
    type Module = M;
    type Device = &'static Atomic<i32>;

    fn open(_device: &Arc<Self::Device>, _mode: FileMode) -> Result<Self> {
        Ok(Self(PhantomData))
    }

    fn ioctl(&self, _op: u32, _arg: UserPtr) -> Result<u32> {
        Err(ENOTTY)
    }

    fn uring_cmd<'a>(&self, cmd: UringCmd<'a>) -> UringResult<'a> {
        cmd.done(Err(EINVAL))
    }
}

static COUNT: Atomic<i32> = Atomic::new(0);

pub fn of_a_function<'b, M: ModuleMetadata + 'static>(scope: Scope<'b>) -> Result {
    let local = Atomic::new(0);
    #[cfg(not(compile_fail))]
    let count = &COUNT;
    #[cfg(compile_fail)]
    let count = &local;
    //~^ error[E0597]: `local` does not live long enough
    let device = Arc::new(count, GFP_KERNEL)?;
    core::mem::forget(CharDevice::<File<M>>::new(scope, fmt!("test"), device)?);
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
        let device = Arc::new(count, GFP_KERNEL)?;
        core::mem::forget(CharDevice::<File<M>>::new(scope, fmt!("test"), device)?);
        Ok(())
    })?;
    outer.store(1, ordering::Relaxed);
    Ok(())
}
