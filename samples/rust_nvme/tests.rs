// SPDX-License-Identifier: GPL-2.0

//! Fixtures of the tests of this crate.

// PANIC: An `unwrap` or an index that fails is a failed test.

use super::desc::{
    DataRange, //
    DescriptorList,
};
use kernel::{
    fmt,
    prelude::*, //
};

/// Descriptor memory that records the words that were written.
pub(crate) struct ListMemory {
    addr: u64,
    words: KVec<Option<u64>>,
}

impl ListMemory {
    /// Returns `words` words at device address `addr`.
    pub(crate) fn new(addr: u64, words: usize) -> Self {
        Self {
            addr,
            words: KVec::from_elem(None, words, GFP_KERNEL).unwrap(),
        }
    }

    /// Returns the word at device address `addr`, which must have been written.
    pub(crate) fn read(&self, addr: u64) -> u64 {
        // CAST: An offset in memory.
        let index = (addr - self.addr) as usize / 8;
        self.words[index].unwrap()
    }

    /// Returns the number of words that were written.
    pub(crate) fn written(&self) -> usize {
        self.words.iter().flatten().count()
    }
}

impl DescriptorList for ListMemory {
    fn addr(&self) -> u64 {
        self.addr
    }

    fn words(&self) -> usize {
        self.words.len()
    }

    fn put(&mut self, index: usize, value: u64) {
        self.words[index] = Some(value);
    }
}

/// Returns pairs of address and length as ranges.
pub(crate) fn ranges(of: &[(u64, u64)]) -> impl Iterator<Item = DataRange> + '_ {
    of.iter().map(|&(addr, len)| DataRange { addr, len })
}

/// xorshift64: the same numbers in every run.
pub(crate) struct Random(u64);

impl Random {
    /// Returns a generator; `seed` must not be 0.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % limit
    }
}

/// Returns an Identify structure that is all zeroes.
pub(crate) fn zeroed() -> KVec<u8> {
    KVec::from_elem(0, 4096, GFP_KERNEL).unwrap()
}

/// Returns whether `parse` needs the first `needed` bytes of `data` and no more: cut at every
/// length, it fails with `short` if these are not all there, and only then.
pub(crate) fn needs<E: Copy + PartialEq>(
    needed: usize,
    data: &[u8],
    short: E,
    mut parse: impl FnMut(&[u8]) -> Result<(), E>,
) -> bool {
    (0..=data.len()).all(|len| {
        let want = if len < needed { Err(short) } else { Ok(()) };
        parse(&data[..len]) == want
    })
}

/// Text that has room for `room` more bytes.
struct BoundedText {
    bytes: KVec<u8>,
    room: usize,
}

impl fmt::Write for BoundedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.room = self.room.checked_sub(text.len()).ok_or(fmt::Error)?;
        for &byte in text.as_bytes() {
            self.bytes.push(byte, GFP_KERNEL).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

/// Returns whether `args` is written as `expected`, and fails wherever there is room for less.
pub(crate) fn is_written(args: fmt::Arguments<'_>, expected: &str) -> bool {
    let write = |room| {
        let mut text = BoundedText {
            bytes: KVec::new(),
            room,
        };
        fmt::Write::write_fmt(&mut text, args).map(|()| text.bytes)
    };
    (0..expected.len()).all(|room| write(room).is_err())
        && write(expected.len()).is_ok_and(|bytes| bytes[..] == *expected.as_bytes())
}
