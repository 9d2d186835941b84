// SPDX-License-Identifier: GPL-2.0

//! A stand-in for the kernel crate, for the pure part in user space.
//!
//! Only what is plain Rust in the kernel as well: error numbers, formatting, numbers of ioctls, and
//! a vector, which fails to grow when a test asks for it ([`alloc::fail_after`]).

/// Error numbers, as `include/uapi/asm-generic/errno*.h` has them.
pub mod error {
    /// An errno.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Error(i32);

    impl Error {
        /// Returns the number, which is negative.
        pub fn to_errno(self) -> i32 {
            self.0
        }
    }

    /// Result with an [`Error`].
    pub type Result<T = (), E = Error> = core::result::Result<T, E>;

    macro_rules! code {
        ($($name:ident $number:literal)*) => {
            /// The error numbers.
            pub mod code {
                $(
                    #[doc = stringify!($name)]
                    pub const $name: super::Error = super::Error(-$number);
                )*
            }
        };
    }

    code! {
        EPERM 1 EIO 5 ENXIO 6 EBADF 9 EAGAIN 11 ENOMEM 12 EINVAL 22 ENOTTY 25 EFBIG 27 ENOSPC 28
        EROFS 30 EDOM 33 ERANGE 34 EXDEV 18 EOVERFLOW 75 EILSEQ 84 EMSGSIZE 90 EOPNOTSUPP 95
        EADDRNOTAVAIL 99 ENOBUFS 105 EREMOTEIO 121
    }
}

/// Formatting.
pub mod fmt {
    pub use core::fmt::*;
}

/// The page of the machine that the tests stand for.
pub mod page {
    /// Bytes of a page.
    pub const PAGE_SIZE: usize = 4096;
}

/// Numbers of ioctls, as `include/uapi/asm-generic/ioctl.h` makes them.
#[allow(non_snake_case)]
pub mod ioctl {
    const fn number<T>(dir: u32, ty: u32, nr: u32) -> u32 {
        // CAST: a structure of a few bytes.
        dir << 30 | (size_of::<T>() as u32) << 16 | ty << 8 | nr
    }

    /// Returns the number of a command that user space reads by.
    pub const fn _IOR<T>(ty: u32, nr: u32) -> u32 {
        number::<T>(2, ty, nr)
    }

    /// Returns the number of a command that user space writes by.
    pub const fn _IOW<T>(ty: u32, nr: u32) -> u32 {
        number::<T>(1, ty, nr)
    }

    /// Returns the number of a command that does both.
    pub const fn _IOWR<T>(ty: u32, nr: u32) -> u32 {
        number::<T>(3, ty, nr)
    }
}

/// A vector whose growth can fail.
pub mod alloc {
    use crate::error::{
        code::ENOMEM,
        Result, //
    };
    use std::{
        cell::Cell,
        ops::{
            Deref,
            DerefMut, //
        }, //
    };

    /// Flags of allocations, which have no effect here.
    #[derive(Clone, Copy)]
    pub struct Flags;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Makes this thread's allocations fail after `left` more that succeed; with `None` none fails.
    pub fn fail_after(left: Option<usize>) {
        LEFT.set(left);
    }

    fn allocate() -> Result {
        match LEFT.get() {
            Some(0) => return Err(ENOMEM),
            left => LEFT.set(left.map(|left| left - 1)),
        }
        Ok(())
    }

    /// A vector with the methods that are used. Each push allocates.
    #[derive(Clone, Debug)]
    pub struct KVec<T>(Vec<T>);

    impl<T> KVec<T> {
        /// Returns an empty vector.
        pub const fn new() -> Self {
            Self(Vec::new())
        }

        /// Appends `value`.
        pub fn push(&mut self, value: T, _flags: Flags) -> Result {
            allocate()?;
            self.0.push(value);
            Ok(())
        }
    }

    impl<T: Clone> KVec<T> {
        /// Returns a vector of `n` times `value`.
        pub fn from_elem(value: T, n: usize, _flags: Flags) -> Result<Self> {
            allocate()?;
            Ok(Self(vec![value; n]))
        }
    }

    impl<T> Default for KVec<T> {
        fn default() -> Self {
            Self::new()
        }
    }

    impl<T> IntoIterator for KVec<T> {
        type Item = T;
        type IntoIter = std::vec::IntoIter<T>;

        fn into_iter(self) -> Self::IntoIter {
            self.0.into_iter()
        }
    }

    impl<'a, T> IntoIterator for &'a KVec<T> {
        type Item = &'a T;
        type IntoIter = std::slice::Iter<'a, T>;

        fn into_iter(self) -> Self::IntoIter {
            self.0.iter()
        }
    }

    impl<T> Deref for KVec<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0
        }
    }

    impl<T> DerefMut for KVec<T> {
        fn deref_mut(&mut self) -> &mut [T] {
            &mut self.0
        }
    }
}

/// Imports that most files need.
pub mod prelude {
    pub use crate::{
        alloc::{
            Flags,
            KVec,
            KVec as KVVec, //
        },
        error::{
            code::*,
            Error,
            Result, //
        }, //
    };
    pub use core::format_args as fmt;
    pub use macros::{
        kunit_tests,
        FromBytes,
        IntoBytes, //
    };

    /// Flags of allocations.
    pub const GFP_KERNEL: Flags = Flags;
    /// Flags of allocations that are charged.
    pub const GFP_KERNEL_ACCOUNT: Flags = Flags;
}
