// SPDX-License-Identifier: GPL-2.0

//! A function that shows an attribute keeps the disk's data.

use kernel::{fmt::Write, prelude::*};
use phyr_blk::Text;

fn keep_for_ever<T: 'static>(_: T) {}

pub fn show(data: &u32, text: &mut Text<'_>) -> Result {
    write!(text, "{data}")?;
    #[cfg(compile_fail)]
    keep_for_ever(data);
    //~^ error[E0521]: borrowed data escapes outside of function
    keep_for_ever(*data);
    Ok(())
}
