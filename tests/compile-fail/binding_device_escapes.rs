// SPDX-License-Identifier: GPL-2.0

//! The device leaves the call for which it is known to be bound.

use kernel::{
    device::{Bound, Device},
    prelude::*,
};
use phyr_driver::binding::Binding;

pub fn escaped(binding: &Binding, look: impl Fn(&Device<Bound>)) -> Result {
    let mut escaped = None;
    binding.with(|dev| {
        look(dev);
        #[cfg(compile_fail)]
        escaped.replace(dev);
        //~^ error[E0521]: borrowed data escapes outside of closure
        Ok(())
    })?;
    let _: Option<&Device<Bound>> = escaped;
    Ok(())
}
