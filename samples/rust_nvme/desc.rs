// SPDX-License-Identifier: GPL-2.0

//! Types that the descriptor builders [`prp`](super::prp) and [`sgl`](super::sgl) share.
//!
//! Both turn DMA ranges into a [`DataPointer`]: the 16 bytes of a command that tell where its data
//! is. Descriptors that do not fit there go into a [`DescriptorList`], memory that the controller
//! reads.
//!
//! Nothing here calls the kernel; it is arithmetic on addresses.

use phyr::DmaVec;

/// The controller's memory page (`CC.MPS`). The smallest there is: every controller but a few
/// exotic ones has it, and pages of the host of any size consist of whole ones.
pub(crate) const PAGE_SHIFT: u32 = 12;
pub(crate) const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// A range of device addresses, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataRange {
    pub(crate) addr: u64,
    pub(crate) len: u64,
}

impl From<DmaVec> for DataRange {
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
pub(crate) trait DescriptorList {
    /// Returns the device address of word 0, a multiple of 8.
    fn addr(&self) -> u64;

    /// Returns the number of words.
    fn words(&self) -> usize;

    /// Stores `value` as word `index`, which is below [`DescriptorList::words`].
    fn put(&mut self, index: usize, value: u64);
}

impl<L: DescriptorList> DescriptorList for &mut L {
    fn addr(&self) -> u64 {
        (**self).addr()
    }

    fn words(&self) -> usize {
        (**self).words()
    }

    fn put(&mut self, index: usize, value: u64) {
        (**self).put(index, value);
    }
}

/// No memory: the command itself has room for all.
pub(crate) struct NoList;

impl DescriptorList for NoList {
    fn addr(&self) -> u64 {
        0
    }

    fn words(&self) -> usize {
        0
    }

    fn put(&mut self, _index: usize, _value: u64) {}
}

/// Kinds of descriptors that a [`DataPointer`] can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DescriptorKind {
    Prp,
    Sgl,
}

/// The data pointer of a command (`DPTR`).
///
/// In this order the error of a [`Result`] lies beside the kind rather than in a word, so that the
/// words are passed on whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataPointer {
    pub(crate) kind: DescriptorKind,
    /// Number of descriptors that the controller reads: PRP entries (without chain pointers) or SGL
    /// data blocks.
    pub(crate) entries: u32,
    /// The two words of the command.
    pub(crate) words: [u64; 2],
}

/// Reasons why ranges cannot be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DescriptorError {
    /// There is no range at all, or one of zero bytes.
    Empty,
    /// The address or length is not a multiple of 4 bytes.
    Misaligned,
    /// PRP only: the data leaves a hole inside a memory page. An SGL can describe it.
    Gap,
    /// The list has no room for that many.
    TooMany,
    /// A range wraps around the address space, or is longer than a descriptor can describe.
    TooLong,
}
