// SPDX-License-Identifier: GPL-2.0

//! Asserts at build time that the two ends of a mapping have the layout of C's.

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
    bindings::phys_vec,
    static_assert, //
};

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
