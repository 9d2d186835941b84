// SPDX-License-Identifier: GPL-2.0

//! The error of a call that takes memory by value: the memory comes back with it.

use core::fmt;
use kernel::prelude::*;

/// The error of a mapping that was not made, and the value that was to be mapped.
///
/// With `?` it becomes the errno of the error, and the value is dropped.
pub struct MapError<M, E = Error> {
    /// The value, as it was.
    pub value: M,
    /// The reason.
    pub error: E,
}

impl<M, E> MapError<M, E> {
    #[inline]
    #[doc(hidden)]
    pub fn new(value: M, error: E) -> Self {
        Self { value, error }
    }
}

impl<M, E: fmt::Debug> fmt::Debug for MapError<M, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<M, E: Into<Error>> From<MapError<M, E>> for Error {
    fn from(failed: MapError<M, E>) -> Self {
        failed.error.into()
    }
}
