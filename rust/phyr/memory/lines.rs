// SPDX-License-Identifier: GPL-2.0

//! Whole cache lines.
//!
//! Plain Rust, without a kernel call.

use kernel::{
    fmt,
    prelude::*, //
};

/// The reason for which memory is refused: a part of a cache line of it may be other memory's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedLine {
    /// The bytes of the line in front of the memory's beginning, or of its end.
    pub offset: usize,
    /// The length of a line in bytes.
    pub line: usize,
}

impl fmt::Display for SharedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, line } = self;
        write!(
            f,
            "the memory begins or ends {offset} bytes into a cache line of {line} bytes"
        )
    }
}

impl From<SharedLine> for Error {
    fn from(_: SharedLine) -> Self {
        EDOM
    }
}

/// Checks that `len` bytes from `start` on are whole lines of `line` bytes, a power of two.
pub(super) fn check_lines(start: usize, len: usize, line: usize) -> Result<(), SharedLine> {
    for edge in [start, start.wrapping_add(len)] {
        let offset = edge & (line - 1);
        if len != 0 && offset != 0 {
            return Err(SharedLine { offset, line });
        }
    }
    Ok(())
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(phyr_memory_lines)]
mod tests {
    use super::*;

    #[test]
    fn both_edges_must_be_those_of_a_line() {
        let shared = |offset, line| Err(SharedLine { offset, line });
        assert_eq!(check_lines(0x1000, 128, 128), Ok(()));
        assert_eq!(check_lines(0x1000, 0x3000, 128), Ok(()));
        assert_eq!(check_lines(0x1040, 128, 128), shared(64, 128));
        assert_eq!(check_lines(0x1000, 64, 128), shared(64, 128));
        assert_eq!(check_lines(0x1000, 129, 128), shared(1, 128));
        assert_eq!(check_lines(0x107f, 1, 128), shared(127, 128));
        assert_eq!(check_lines(0x1040, 64, 64), Ok(()));
    }

    #[test]
    fn what_is_nowhere_shares_no_line() {
        assert_eq!(check_lines(8, 0, 128), Ok(()));
        assert_eq!(check_lines(1, 7, 1), Ok(()));
        let last = usize::MAX - 127;
        assert_eq!(check_lines(last, 128, 128), Ok(()));
    }
}
