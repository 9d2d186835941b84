// SPDX-License-Identifier: GPL-2.0

//! Arithmetic on an address of the device, beyond what was mapped.

use phyr::{DmaAddr, DmaVec};

pub fn beyond(vec: DmaVec) -> DmaAddr {
    #[cfg(compile_fail)]
    let _ = vec.addr() + vec.len() as u64;
    //~^ error[E0369]: cannot add `u64` to `DmaAddr`
    vec.addr()
}
