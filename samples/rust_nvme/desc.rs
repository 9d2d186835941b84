// SPDX-License-Identifier: GPL-2.0

//! What the descriptor builders [`prp`](super::prp) and [`sgl`](super::sgl) share.
//!
//! Both turn DMA ranges into a [`Pointer`]: the 16 bytes of a command that say where its data
//! is. What does not fit there goes into a [`List`], memory that the controller can read.
//!
//! Nothing here calls the kernel; it is arithmetic on addresses.

use phyr::DmaVec;

/// A range of device addresses, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) addr: u64,
    pub(crate) len: u64,
}

impl From<DmaVec> for Range {
    #[inline]
    fn from(vec: DmaVec) -> Self {
        Self {
            addr: vec.addr().into_raw(),
            // CAST: A length fits in 64 bits.
            len: vec.len() as u64,
        }
    }
}

/// Memory for a descriptor list, one 64-bit word after the other.
///
/// Words are in the CPU's byte order; the implementation stores them as little endian.
pub(crate) trait List {
    /// Device address of word 0. A multiple of 8.
    fn addr(&self) -> u64;

    /// Number of words.
    fn words(&self) -> usize;

    /// Stores `value` as word `index`, which is below [`List::words`].
    fn put(&mut self, index: usize, value: u64);
}

/// Which kind of descriptor a [`Pointer`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Prp,
    Sgl,
}

/// The data pointer of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) kind: Kind,
    /// The two words of the command.
    pub(crate) words: [u64; 2],
    /// Descriptors that the controller reads: PRP entries (without chain pointers) or SGL data
    /// blocks.
    pub(crate) entries: u32,
}

/// Why ranges cannot be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// No range at all, or one of zero bytes.
    Empty,
    /// The address or length is not a multiple of 4 bytes.
    Misaligned,
    /// PRP only: the data leaves a hole inside a memory page. An SGL can describe it.
    Gap,
    /// The list has no room for so many.
    TooMany,
    /// A range wraps around the address space, or is longer than a descriptor can say.
    TooLong,
}
