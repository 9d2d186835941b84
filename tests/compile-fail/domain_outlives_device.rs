// SPDX-License-Identifier: GPL-2.0

//! A domain is kept for longer than its driver is bound.

use kernel::prelude::*;
use phyr_iommu::Domain;

fn keep_for_ever<T: 'static>(_: T) {}

pub fn kept(domain: Domain<'_>) {
    keep_for_ever(domain.granule());
    #[cfg(compile_fail)]
    keep_for_ever(domain);
    //~^ error[E0521]: borrowed data escapes outside of function
}
