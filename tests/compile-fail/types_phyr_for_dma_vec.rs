// SPDX-License-Identifier: GPL-2.0

//! Memory that was not mapped is told to the device.

use phyr::{DmaVec, Phyr};

pub fn tell(vec: DmaVec, phyr: Phyr, descriptor: impl Fn(DmaVec)) {
    descriptor(vec);
    #[cfg(compile_fail)]
    descriptor(phyr);
    //~^ error[E0308]: mismatched types: expected `DmaVec`, found `Phyr`
}
