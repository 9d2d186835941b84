// SPDX-License-Identifier: GPL-2.0

//! The owner of a binding is kept for longer than the scope.

use kernel::{
    device::{Bound, Device},
    prelude::*,
};
use phyr_driver::{binding::Binding, scope::scope};

pub fn kept(dev: &Device<Bound>) -> Result {
    let mut kept = None;
    scope(dev, |scope| {
        let (_binding, owner) = Binding::new(scope)?;
        #[cfg(compile_fail)]
        kept.replace(owner);
        //~^ error[E0521]: borrowed data escapes outside of closure
        #[cfg(not(compile_fail))]
        drop(owner);
        Ok(())
    })?;
    let _: Option<phyr_driver::binding::BindingOwner<'_>> = kept;
    Ok(())
}
