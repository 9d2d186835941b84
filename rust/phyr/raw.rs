// SPDX-License-Identifier: GPL-2.0

//! Pointers that the kernel crate keeps to itself.
//!
//! `Device::as_raw` and its like are private to the kernel crate. The types are transparent
//! wrappers of the C structures; every cast that relies on it is in this file.

use kernel::{
    alloc::Flags,
    bindings,
    device::{
        Device,
        DeviceContext, //
    },
    pci, //
};

/// The C device behind `dev`, valid for as long as `dev` is.
#[inline]
pub fn device<Ctx: DeviceContext>(dev: &Device<Ctx>) -> *mut bindings::device {
    // `Device` is a transparent wrapper of `Opaque<bindings::device>`, which has interior
    // mutability: a pointer from a shared reference may be written through.
    core::ptr::from_ref(dev).cast_mut().cast()
}

/// The C device behind `pdev`, valid for as long as `pdev` is.
#[inline]
pub fn pci_device<Ctx: DeviceContext>(pdev: &pci::Device<Ctx>) -> *mut bindings::pci_dev {
    // As above, of `Opaque<bindings::pci_dev>`.
    core::ptr::from_ref(pdev).cast_mut().cast()
}

/// The allocation flags as C has them.
#[inline]
pub fn gfp(flags: Flags) -> bindings::gfp_t {
    // SAFETY: `Flags` is a transparent wrapper of the number; that they have the same size is
    // checked by the compiler.
    unsafe { core::mem::transmute(flags) }
}
