// SPDX-License-Identifier: GPL-2.0

//! A phyr becomes one that overflows.

use core::num::NonZeroUsize;
use phyr::{BadPhyr, Phyr, PhysAddr};

pub fn made(paddr: PhysAddr) -> Result<Phyr, BadPhyr> {
    let mut phyr = Phyr::new(paddr, 1)?;
    #[cfg(compile_fail)]
    let _ = core::mem::replace(&mut phyr.len, NonZeroUsize::MAX);
    //~^ error[E0616]: field `len` of struct
    core::mem::swap(&mut phyr, &mut Phyr::new(paddr, 2)?);
    Ok(phyr)
}
