// SPDX-License-Identifier: GPL-2.0

//! An interrupt handler is kept for longer than its driver is bound.

use kernel::irq::Handler;
use phyr_driver::irq::Irq;

fn keep_for_ever<T: 'static>(_: T) {}

pub fn kept<H: Handler + Send + 'static>(irq: Irq<'_, H>, name: &'static str) {
    keep_for_ever(name);
    #[cfg(compile_fail)]
    keep_for_ever(irq);
    //~^ error[E0521]: borrowed data escapes outside of function
}
