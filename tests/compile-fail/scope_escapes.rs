// SPDX-License-Identifier: GPL-2.0

//! A scope leaves the call that ends it.

use kernel::{
    device::{Bound, Device},
    prelude::*,
};
use phyr_driver::scope::{scope, Scope};

pub fn escaped(dev: &Device<Bound>) -> Result {
    let mut escaped = None;
    scope(dev, |scope| {
        let _scope = scope;
        #[cfg(compile_fail)]
        escaped.replace(scope);
        //~^ error[E0521]: borrowed data escapes outside of closure
        Ok(())
    })?;
    let _: Option<Scope<'_>> = escaped;
    Ok(())
}
