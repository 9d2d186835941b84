// SPDX-License-Identifier: GPL-2.0

//! Memory that a mapping owns while the device may reach it.
//!
//! A mapping takes its memory by value. It gives it back when it is unmapped; should the mapping be
//! leaked, so is the memory, and the device never reaches memory that is in use for something else.
//!
//! A new kind of memory is a file in this folder that implements [`Memory`], and its line here.

mod alloc;
mod chunks;
mod heap;
mod lines;
mod pages;
mod traits;
mod user;
mod vmap;

#[doc(hidden)]
pub use self::{
    alloc::list_flags,
    traits::check_access,
    vmap::vmap_pages, //
};
pub use self::{
    alloc::{
        available,
        unless_killed, //
    },
    chunks::{
        ChunkPieces,
        Chunks, //
    },
    heap::{
        BytePieces,
        Bytes,
        Heap,
        KernelAllocator, //
    },
    lines::SharedLine,
    pages::{
        PagePieces,
        Pages, //
    },
    traits::{
        segments,
        Chain,
        MapError,
        Memory,
        PageMemory, //
    },
    user::{
        UserPages,
        UserPieces, //
    },
    vmap::Vmap, //
};

pub(crate) use self::alloc::check_pages;
