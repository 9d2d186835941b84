// SPDX-License-Identifier: GPL-2.0

//! Copies of structures from and to user space, for the ioctls of the character devices.

use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};
use zerocopy::Immutable;

/// Size of the largest structure, or more.
const MAX: usize = 80;

/// Reads a structure of user space.
///
/// # Errors
///
/// [`EFAULT`]: the memory cannot be read.
pub(crate) fn read<T: FromBytes>(from: UserPtr) -> Result<T> {
    const { assert!(size_of::<T>() <= MAX) };
    let mut bytes = [0; MAX];
    // PANIC: The size is at most `MAX`, as is asserted above.
    let bytes = &mut bytes[..size_of::<T>()];
    UserSlice::new(from, bytes.len())
        .reader()
        .read_slice(bytes)?;
    T::read_from_bytes(bytes).map_err(|_| EINVAL)
}

/// Writes a structure of user space.
///
/// # Errors
///
/// [`EFAULT`]: the memory cannot be written.
pub(crate) fn write<T: IntoBytes + Immutable>(to: UserPtr, value: &T) -> Result {
    let bytes = value.as_bytes();
    UserSlice::new(to, bytes.len()).writer().write_slice(bytes)
}
