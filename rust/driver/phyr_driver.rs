// SPDX-License-Identifier: GPL-2.0

//! What ends with the binding of a driver to its device.
//!
//! - [`scope`]: the binding itself, as a lifetime; what has to end before it does is registered
//!   there.
//! - [`pci`]: a PCI driver whose `probe()` gets such a scope.
//! - [`irq`]: interrupt vectors and their handlers.
//! - [`bound`], [`binding`]: values that are reached only while the device is bound.
//! - [`gate`]: users that are counted and waited for.
//! - [`event`]: waiting for something to happen, with a time-out.
//! - [`fallible`]: calls that drivers make by themselves, which tests can have fail.
//!
//! C header: [`include/linux/device/driver.h`](srctree/include/linux/device/driver.h)

use kernel::prelude::*;

pub mod binding;
mod bindings;
pub mod bound;
pub mod event;
pub mod fallible;
pub mod gate;
pub mod irq;
pub mod pci;
pub mod scope;

module! {
    type: PhyrDriverModule,
    name: "phyr_driver",
    authors: ["phyr developers"],
    description: "What ends with the binding of a driver",
    license: "GPL",
}

struct PhyrDriverModule;

impl kernel::Module for PhyrDriverModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: once, and nobody uses the crate before its module is loaded.
        unsafe { pci::init() };
        Ok(Self)
    }
}
