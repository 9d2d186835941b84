// SPDX-License-Identifier: GPL-2.0

//! The output of one mapping is the input of another.

use phyr::{DmaVec, Phyr};

pub fn join(phyr: Phyr, next: Phyr, vec: DmaVec) -> Option<Phyr> {
    #[cfg(compile_fail)]
    phyr.join(vec);
    //~^ error[E0308]: mismatched types: expected `Phyr`, found `DmaVec`
    phyr.join(next)
}
