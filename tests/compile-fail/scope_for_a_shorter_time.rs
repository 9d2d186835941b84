// SPDX-License-Identifier: GPL-2.0

//! A scope is taken for one that ends sooner, of which more could borrow.

use phyr_driver::scope::Scope;

pub fn shorter<'short, 'b: 'short>(scope: Scope<'b>, _short: &'short u32) -> usize {
    #[cfg(compile_fail)]
    let scope: Scope<'short> = scope;
    //~^ error: lifetime may not live long enough
    size_of_val(&scope)
}
