// SPDX-License-Identifier: GPL-2.0

//! Interrupt vectors are allocated by one who is not in probe.

use kernel::{
    device::{Bound, Core},
    pci,
    prelude::*,
};
use phyr_driver::{
    irq::{
        Types,
        Vectors, //
    },
    scope::Scope, //
};

pub fn allocated<'b>(
    scope: Scope<'b>,
    probed: &'b pci::Device<Core<'_>>,
    pdev: &'b pci::Device<Bound>,
) -> Result {
    Vectors::alloc(scope, probed, 1, 1, Types::ANY)?;
    #[cfg(compile_fail)]
    Vectors::alloc(scope, pdev, 1, 1, Types::ANY)?;
    //~^ error[E0308]: mismatched types
    Ok(())
}
