// SPDX-License-Identifier: GPL-2.0

//! Memory that was not mapped: it comes back with the reason.

use core::fmt;
use kernel::prelude::*;

/// Memory that was not mapped, and why.
///
/// With `?` it becomes the errno of the reason, and the memory is dropped.
pub struct NotMapped<M, R = Error> {
    /// The memory, as it was.
    pub memory: M,
    /// Why.
    pub reason: R,
}

impl<M, R> NotMapped<M, R> {
    #[inline]
    #[doc(hidden)]
    pub fn new(memory: M, reason: R) -> Self {
        Self { memory, reason }
    }
}

impl<M, R: fmt::Debug> fmt::Debug for NotMapped<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<M, R: Into<Error>> From<NotMapped<M, R>> for Error {
    fn from(refused: NotMapped<M, R>) -> Self {
        refused.reason.into()
    }
}
