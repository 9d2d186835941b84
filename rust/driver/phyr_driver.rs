// SPDX-License-Identifier: GPL-2.0

//! Everything that ends with the binding of a driver to its device.
//!
//! A driver is bound from [`probe()`](pci::Driver::probe) until the driver core unbinds it. That
//! time is a [`Scope`](scope::Scope). At its end, in this order:
//!
//! ```text
//!   unbind()                      nothing is torn down yet
//!   1. Driver::Data is dropped    field by field: disk, files, interrupts, DMA, memory
//!   2. the scope ends             what is still registered in it, the newest first
//!   3. devres is released         kernel::devres::Devres; all Managed values of the device
//! ```
//!
//! # Which to take
//!
//! What ends with the binding is registered in its scope. A [`Registration`](scope::Registration)
//! owns a value there, which is dropped with it, or else when the scope ends. [`Irq`] and
//! [`BindingOwner`](binding::BindingOwner) are registrations; `phyr_blk::GenDisk` and
//! `phyr_blk::CharDevice` contain one. [`Binding`] and [`Users`] are for those who cannot have the
//! scope's lifetime: files, and objects that user space refers to.
//!
//! You have:
//!
//! - a callback to unregister: take [`Scope::register`]. It ends when dropped, or with the scope;
//!   if it is leaked, it ends with the scope. Context: sleeps.
//! - an action at the end (C: `devm_add_action()`): take [`Scope::keep`]. It ends with the scope;
//!   if it is leaked, it has no owner. Context: sleeps.
//! - an interrupt handler: take [`Vectors`], [`Irq`]. It ends when dropped, or with the scope; if
//!   it is leaked, it ends with the scope. Context: `probe()`.
//! - a device that does DMA: take [`Enabled`]. It ends DMA when dropped, or with the scope; if it
//!   is leaked, DMA ends after the data is dropped. Context: `probe()`.
//! - a file, which may be open for longer: take [`Binding`]. It ends when dropped, or with the
//!   scope; if it is leaked, it ends with the scope. Context: any; the end sleeps.
//! - an object with users (C: percpu_ref): take [`Users`]. It ends by [`Users::drain`], or when
//!   dropped; if it is leaked, `drain()` waits for ever. Context: any; `drain()` sleeps.
//! - memory of a file, mapped for many commands: take [`RegisteredMemory`]. It ends when dropped,
//!   or after the scope; if it is leaked, it ends after the scope. Context: sleeps.
//! - such objects, by number: take `phyr_blk::HandleTable`. It ends when removed, or with the
//!   table; if it is leaked, removing waits for ever. Context: any; removing sleeps.
//! - another value of a file: take [`Managed`]. It ends when dropped, or after the scope; if it is
//!   leaked, it ends after the scope. Context: sleeps.
//! - a value that refers to nothing of the scope, and is accessed: take [`Devres`]. It ends when
//!   dropped, or after the scope, in a grace period of RCU; if it is leaked, it ends after the
//!   scope. Context: sleeps.
//! - an event to wait for: take [`Completion`]. It ends with its owner; if it is leaked, no harm.
//!   Context: any; waiting sleeps.
//!
//! [`Scope::register`]: scope::Scope::register
//! [`Scope::keep`]: scope::Scope::keep
//! [`Vectors`]: irq::Vectors
//! [`Irq`]: irq::Irq
//! [`Enabled`]: pci::Enabled
//! [`Binding`]: binding::Binding
//! [`Users`]: users::Users
//! [`Users::drain`]: users::Users::drain
//! [`Devres`]: kernel::devres::Devres
//! [`Managed`]: managed::Managed
//! [`RegisteredMemory`]: registered::RegisteredMemory
//! [`Completion`]: completion::Completion
//!
//! # Modules
//!
//! - `list`: values that end together, on which all others rely.
//! - [`scope`]: the list of a binding, or of a call.
//! - [`pci`]: a PCI driver whose `probe()` gets a scope; its DMA, resets and errors.
//! - [`irq`]: interrupt vectors and their handlers.
//! - [`binding`], [`users`], [`completion`], [`managed`], [`registered`]: see the list above.
//! - [`fallible`]: calls that drivers make themselves, which tests can have fail.
//!
//! C header: [`include/linux/device/driver.h`](srctree/include/linux/device/driver.h)

use kernel::prelude::*;

pub mod binding;
mod bindings;
pub mod completion;
pub mod fallible;
pub mod irq;
mod list;
pub mod managed;
pub mod pci;
pub mod registered;
pub mod scope;
pub mod users;

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
        // SAFETY: this is called once, and the module's functions are called after it is loaded.
        unsafe { pci::dma::init() };
        Ok(Self)
    }
}

impl Drop for PhyrDriverModule {
    fn drop(&mut self) {
        // A count that was killed and leaked is still to be released, by a function of this module.
        // SAFETY: this is process context.
        unsafe { kernel::bindings::rcu_barrier() };
    }
}
