// SPDX-License-Identifier: GPL-2.0

//! Fixtures of tests.

// PANIC: An `unwrap` or an index that fails is a failed test.

use super::desc::{
    List,
    Range, //
};
use kernel::{
    fmt,
    prelude::*, //
};

/// Descriptor memory that knows what was written.
pub(crate) struct Memory {
    addr: u64,
    words: KVec<Option<u64>>,
}

impl Memory {
    /// `words` words at device address `addr`.
    pub(crate) fn new(addr: u64, words: usize) -> Self {
        Self {
            addr,
            words: KVec::from_elem(None, words, GFP_KERNEL).unwrap(),
        }
    }

    /// The word at device address `addr`, which must have been written.
    pub(crate) fn read(&self, addr: u64) -> u64 {
        // CAST: An offset in memory.
        let index = (addr - self.addr) as usize / 8;
        self.words[index].unwrap()
    }

    /// How many words were written.
    pub(crate) fn written(&self) -> usize {
        self.words.iter().flatten().count()
    }
}

impl List for Memory {
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

/// A table's pairs as ranges.
pub(crate) fn ranges(of: &[(u64, u64)]) -> impl Iterator<Item = Range> + '_ {
    of.iter().map(|&(addr, len)| Range { addr, len })
}

/// xorshift64: the same numbers in every run.
pub(crate) struct Random(u64);

impl Random {
    /// `seed` must not be 0.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % limit
    }
}

/// Text of a few lines at most, and of `room` bytes more.
struct Text {
    bytes: KVec<u8>,
    room: usize,
}

impl fmt::Write for Text {
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
        let mut text = Text {
            bytes: KVec::new(),
            room,
        };
        fmt::Write::write_fmt(&mut text, args).map(|()| text.bytes)
    };
    (0..expected.len()).all(|room| write(room).is_err())
        && write(expected.len()).is_ok_and(|bytes| bytes[..] == *expected.as_bytes())
}
