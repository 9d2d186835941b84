// SPDX-License-Identifier: GPL-2.0

//! Pointers that the kernel crate keeps to itself, and layouts that are those of C.
//!
//! `Device::as_raw` and its like are private to the kernel crate. The types are transparent
//! wrappers of the C structures; every cast that relies on it is in this file.

use super::{
    bindings::dma_vec,
    types::{
        DmaVec,
        Phyr, //
    },
};
use core::mem::{
    align_of,
    offset_of,
    size_of, //
};
use kernel::{
    alloc::Flags,
    bindings::{
        self,
        phys_vec, //
    },
    device::{
        Device,
        DeviceContext, //
    },
    pci,
    static_assert, //
};

/// Returns the C device behind `dev`, valid for as long as `dev` is.
#[inline]
pub fn device<Ctx: DeviceContext>(dev: &Device<Ctx>) -> *mut bindings::device {
    // `Device` is a transparent wrapper of `Opaque<bindings::device>`, which has interior
    // mutability: a pointer from a shared reference may be written through.
    core::ptr::from_ref(dev).cast_mut().cast()
}

/// Returns the C device behind `pdev`, valid for as long as `pdev` is.
#[inline]
pub fn pci_device<Ctx: DeviceContext>(pdev: &pci::Device<Ctx>) -> *mut bindings::pci_dev {
    // As above, of `Opaque<bindings::pci_dev>`.
    core::ptr::from_ref(pdev).cast_mut().cast()
}

/// Returns the allocation flags as C has them.
#[inline]
pub(crate) fn gfp(flags: Flags) -> bindings::gfp_t {
    // SAFETY: `Flags` is a transparent wrapper of the number; that they have the same size is
    // checked by the compiler.
    unsafe { core::mem::transmute(flags) }
}

// The two ends of a mapping are what C has.
static_assert!(size_of::<Phyr>() == size_of::<phys_vec>());
static_assert!(align_of::<Phyr>() == align_of::<phys_vec>());
static_assert!(offset_of!(Phyr, paddr) == offset_of!(phys_vec, paddr));
static_assert!(offset_of!(Phyr, len) == offset_of!(phys_vec, len));

static_assert!(size_of::<DmaVec>() == size_of::<dma_vec>());
static_assert!(align_of::<DmaVec>() == align_of::<dma_vec>());
static_assert!(offset_of!(DmaVec, addr) == offset_of!(dma_vec, addr));
static_assert!(offset_of!(DmaVec, len) == offset_of!(dma_vec, len));

// No room is lost where a length is never zero.
static_assert!(size_of::<Option<Phyr>>() == size_of::<phys_vec>());
