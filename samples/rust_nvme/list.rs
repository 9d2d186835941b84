// SPDX-License-Identifier: GPL-2.0

//! Descriptor memory: a list of the request's own, which the library has for those that need one.
//!
//! It holds a PRP or SGL list, or the ranges of a dataset management command. The controller may
//! read it at any time while the command runs. A wrong word could make it access memory that is not
//! mapped for it; the driver itself never reads a list.

use super::desc::DescriptorList;
use kernel::{
    dma::CoherentView,
    io::{
        io_write,
        Io, //
    },
    prelude::*, //
};

/// The list of a request, of a whole number of words.
pub(crate) struct List<'a>(pub(crate) CoherentView<'a, [u64]>);

impl DescriptorList for List<'_> {
    #[inline]
    fn addr(&self) -> u64 {
        self.0.dma_address()
    }

    #[inline]
    fn words(&self) -> usize {
        self.0.size() / size_of::<u64>()
    }

    #[inline]
    fn put(&mut self, index: usize, value: u64) {
        // PANIC: The caller of `put` promises that `index` is below `words`.
        io_write!(self.0, [panic: index], value.to_le());
    }
}
