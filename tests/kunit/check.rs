// SPDX-License-Identifier: GPL-2.0

//! Assertions that show the values and the errnos on which they fail.
//!
//! The kernel's `kunit_assert!` shows an expression without its values, and ends the thread without
//! dropping anything. A case here returns an [`Outcome`] instead. A [`Failure`] is logged with its
//! file and line as soon as it is made, by one of:
//!
//! - `?` on an [`Error`], or on another [`Cause`]: the reason and the errno.
//! - `check!(condition)`: the condition.
//! - `check_eq!(left, right)`, `check_cmp!(left, <=, right)`: both values.
//! - `check_matches!(value, pattern)`: the value.
//! - `check_err!(result, ENOSPC)`: the result. Otherwise returns the error.
//! - `check_some!(option)`: the option. Otherwise returns the value.
//! - [`check_bytes()`]: the first byte that differs.
//!
//! Those of a condition, two values and an errno take a format string with arguments as well, for
//! what the expressions do not show: `check!(fits, "{len} at {offset}")`.
//!
//! A helper that only passes the kernel's errors on returns a plain [`Result`]; one that checks
//! something for its caller is `#[track_caller]`. The line in the log is then the caller's.

use core::panic::Location;
use kernel::{
    alloc::AllocError,
    fmt,
    prelude::*, //
};
use phyr::{
    memory::Memory,
    BadPhyr,
    MapError, //
};
use phyr_iommu::{
    AttachError,
    UnmapError, //
};

/// A failure of a case. It has been logged.
#[must_use]
pub(crate) struct Failure(());

/// The result of a case, or of a part of one.
pub(crate) type Outcome = Result<(), Failure>;

impl Failure {
    /// Logs a failure at the caller's line.
    #[track_caller]
    pub(crate) fn new(what: fmt::Arguments<'_>) -> Self {
        let at = Location::caller();
        pr_err!("{}:{}: {what}\n", at.file(), at.line());
        Self(())
    }
}

/// An error that `?` turns into a [`Failure`].
pub(crate) trait Cause {
    /// Returns the errno that a driver would pass on.
    fn errno(&self) -> Error;

    /// Shows the reason, and the errno by its name.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl Cause for Error {
    fn errno(&self) -> Error {
        *self
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Name(*self), f)
    }
}

macro_rules! causes {
    ($($error:ty)*) => {$(
        impl Cause for $error {
            fn errno(&self) -> Error {
                (*self).into()
            }

            fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self:?} ({:?})", Name(self.errno()))
            }
        }
    )*};
}

causes! {
    AllocError
    BadPhyr
    AttachError
    phyr_iommu::DomainError
    phyr::linear::LinearError
    phyr::memory::SharedLine
}

impl<M, R: Cause> Cause for MapError<M, R> {
    fn errno(&self) -> Error {
        self.error.errno()
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.show(f)
    }
}

impl<M: Memory> Cause for UnmapError<'_, M> {
    fn errno(&self) -> Error {
        self.error
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.show(f)
    }
}

impl<E: Cause> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::new(fmt!("{:?}", Shown(&error)))
    }
}

/// Shows a [`Cause`].
pub(crate) struct Shown<'a, E>(pub(crate) &'a E);

impl<E: Cause> fmt::Debug for Shown<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f)
    }
}

macro_rules! names {
    ($($name:ident)*) => {
        &[$(($name, stringify!($name))),*]
    };
}

/// Names of errors; the kernel has them with `CONFIG_SYMBOLIC_ERRNAME` only.
const NAMES: &[(Error, &str)] = names! {
    EPERM ENOENT EINTR EIO ENXIO E2BIG EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST ENODEV EINVAL
    ENFILE EMFILE ENOTTY EFBIG ENOSPC EROFS EDOM ERANGE EDEADLK ENODATA EOVERFLOW EMSGSIZE
    EOPNOTSUPP ENOBUFS ETIMEDOUT
};

/// An errno, shown by its name.
pub(crate) struct Name(pub(crate) Error);

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(error, _)| *error == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "errno {}", -self.0.to_errno()),
        }
    }
}

/// Checks that `seen` is `expected`.
#[track_caller]
pub(crate) fn check_bytes(seen: &[u8], expected: &[u8]) -> Outcome {
    if let Some(at) = Iterator::zip(seen.iter(), expected).position(|(a, b)| a != b) {
        let (seen, expected) = (seen[at], expected[at]);
        return Err(Failure::new(fmt!(
            "byte {at} is {seen}, expected {expected}"
        )));
    }
    if seen.len() != expected.len() {
        let (seen, expected) = (seen.len(), expected.len());
        return Err(Failure::new(fmt!("{seen} bytes, expected {expected}")));
    }
    Ok(())
}

macro_rules! context {
    () => {
        ""
    };
    ($($context:tt)+) => {
        fmt!(": {}", fmt!($($context)+))
    };
}

macro_rules! check {
    ($condition:expr $(, $($context:tt)+)?) => {
        if !$condition {
            return Err($crate::check::Failure::new(fmt!(
                "{} is false{}",
                stringify!($condition),
                context!($($($context)+)?)
            )));
        }
    };
}

macro_rules! check_cmp {
    ($left:expr, $operator:tt, $right:expr $(, $($context:tt)+)?) => {
        match (&$left, &$right) {
            (left, right) => {
                if !(*left $operator *right) {
                    return Err($crate::check::Failure::new(fmt!(
                        "{} is {left:?}, expected {} {right:?}{}",
                        stringify!($left),
                        stringify!($operator),
                        context!($($($context)+)?)
                    )));
                }
            }
        }
    };
}

macro_rules! check_eq {
    ($left:expr, $right:expr $(, $($context:tt)+)?) => {
        check_cmp!($left, ==, $right $(, $($context)+)?)
    };
}

macro_rules! check_matches {
    ($value:expr, $pattern:pat $(if $guard:expr)? $(,)?) => {
        match $value {
            $pattern $(if $guard)? => {}
            value => {
                return Err($crate::check::Failure::new(fmt!(
                    "{} is {value:?}, expected {}",
                    stringify!($value),
                    stringify!($pattern $(if $guard)?)
                )))
            }
        }
    };
}

macro_rules! check_err {
    ($result:expr, $errno:expr $(, $($context:tt)+)?) => {
        match $result {
            Err(error) if $crate::check::Cause::errno(&error) == $errno => error,
            other => {
                return Err($crate::check::Failure::new(fmt!(
                    "{} is {:?}, expected Err({:?}){}",
                    stringify!($result),
                    other.as_ref().map(drop).map_err($crate::check::Shown),
                    $crate::check::Name($errno),
                    context!($($($context)+)?)
                )))
            }
        }
    };
}

macro_rules! check_some {
    ($option:expr $(,)?) => {
        match $option {
            Some(value) => value,
            None => {
                return Err($crate::check::Failure::new(fmt!(
                    "{} is None",
                    stringify!($option)
                )))
            }
        }
    };
}

#[kunit_tests(phyr_device_check)]
mod tests {
    use super::*;

    /// Logs each kind of failure once.
    #[test]
    fn failures_are_logged() -> Outcome {
        pr_info!("these 8 failures are part of a test:\n");
        let failures: [fn() -> Outcome; 8] = [
            || Err(ENOSPC)?,
            || {
                let (one, two) = (1, 2);
                check!(two < one, "{} and {}", 3, 4);
                Ok(())
            },
            || {
                check_eq!(1 + 1, 3);
                Ok(())
            },
            || {
                check_cmp!(2, >, 5, "row {}", 7);
                Ok(())
            },
            || {
                check_matches!(Some(2), Some(3 | 4));
                Ok(())
            },
            || {
                check_err!(Err::<(), _>(EINVAL), ENOSPC);
                Ok(())
            },
            || {
                check_some!(None::<u8>);
                Ok(())
            },
            || check_bytes(&[1, 2, 3], &[1, 2, 4]),
        ];
        for (nr, failure) in failures.into_iter().enumerate() {
            check!(failure().is_err(), "failure {nr}");
        }
        pr_info!("end of the failures\n");
        Ok(())
    }

    #[test]
    fn checks_that_hold_log_nothing() -> Outcome {
        Ok::<(), Error>(())?;
        check!(usize::MAX > 2);
        check_eq!(1 + 1, 2);
        check_cmp!(2, <, 5);
        check_matches!(Some(4), Some(3 | 4));
        check_eq!(check_err!(Err::<(), _>(ENOSPC), ENOSPC), ENOSPC);
        check_eq!(check_some!(Some(3)), 3);
        check_bytes(&[1, 2, 3], &[1, 2, 3])
    }
}
