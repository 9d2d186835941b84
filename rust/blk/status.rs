// SPDX-License-Identifier: GPL-2.0

//! The result of a request.
//!
//! C: `blk_status_t` ([`include/linux/blk_types.h`](srctree/include/linux/blk_types.h)) and the
//! table `blk_errors` in [`block/blk-core.c`](srctree/block/blk-core.c).

use kernel::{
    bindings,
    error::code,
    prelude::*, //
};

/// Result of a request: a `blk_status_t`.
///
/// The errno in parentheses is what a submitter of I/O gets.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It succeeded.
    Ok = 0,
    /// The device does not do this (`EOPNOTSUPP`).
    NotSupported = 1,
    /// The device did not answer in time (`ETIMEDOUT`).
    Timeout = 2,
    /// The device is full (`ENOSPC`).
    NoSpace = 3,
    /// The way to the device failed, another may work (`ENOLINK`).
    Transport = 4,
    /// The device failed and will fail again (`EREMOTEIO`).
    Target = 5,
    /// Another host has reserved the device (`EBADE`).
    ReservationConflict = 6,
    /// The medium failed here (`ENODATA`).
    Medium = 7,
    /// A check of the data's integrity failed (`EILSEQ`).
    Protection = 8,
    /// The kernel lacks memory or the like (`ENOMEM`).
    Resource = 9,
    /// Anything else (`EIO`).
    IoErr = 10,
    /// It would have had to wait, and was told not to (`EAGAIN`).
    Again = 12,
    /// The device lacks room for it now (`EBUSY`).
    DevResource = 13,
    /// Too many open zones (`ETOOMANYREFS`).
    ZoneOpenResource = 14,
    /// Too many active zones (`EOVERFLOW`).
    ZoneActiveResource = 15,
    /// The device is there and not ready (`ENODEV`).
    Offline = 16,
    /// The device gave up at the command's duration limit (`ETIME`).
    DurationLimit = 17,
    /// The request makes no sense (`EINVAL`).
    Invalid = 19,
}

impl Status {
    /// Every status.
    const ALL: [Self; 18] = [
        Self::Ok,
        Self::NotSupported,
        Self::Timeout,
        Self::NoSpace,
        Self::Transport,
        Self::Target,
        Self::ReservationConflict,
        Self::Medium,
        Self::Protection,
        Self::Resource,
        Self::IoErr,
        Self::Again,
        Self::DevResource,
        Self::ZoneOpenResource,
        Self::ZoneActiveResource,
        Self::Offline,
        Self::DurationLimit,
        Self::Invalid,
    ];

    /// Returns the `blk_status_t` of this status.
    #[inline]
    pub(crate) const fn into_raw(self) -> u8 {
        // CAST: the discriminants are the values of C, which fit.
        self as u8
    }

    /// Returns the status with the `blk_status_t` `raw`.
    ///
    /// A value without a name here, such as the device mapper's own, is [`Status::IoErr`].
    #[inline]
    pub(crate) fn from_raw(raw: u8) -> Self {
        match raw {
            0 => Self::Ok,
            raw => Self::from_raw_error(raw),
        }
    }

    #[cold]
    fn from_raw_error(raw: u8) -> Self {
        Self::ALL
            .into_iter()
            .find(|status| status.into_raw() == raw)
            .unwrap_or(Self::IoErr)
    }

    /// Returns whether the request succeeded.
    #[inline]
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::Ok)
    }

    /// Returns whether the failure is a lack of something that comes back, so that blk-mq tries the
    /// request again if `queue_rq` gives it back with this status.
    #[inline]
    pub(crate) const fn is_busy(self) -> bool {
        matches!(self, Self::Resource | Self::DevResource)
    }
}

/// Converts the error of a request that could not be prepared.
///
/// An error that passes by itself is [`Status::Resource`]: `ENOMEM`, `EAGAIN`, `EBUSY`, and
/// `ENOSPC`, which is a lack of IOVA space, not of space on the medium. `EOPNOTSUPP` and
/// `EINVAL` keep their meaning. All else is [`Status::IoErr`]: `ENOBUFS`, `EFBIG` and `ERANGE`, for
/// memory that the device cannot be given, and `E2BIG` and `EMSGSIZE`, for wrong limits of the
/// driver, of which [`Request::map`](super::Request::map) warns.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let passes = [code::ENOMEM, code::EAGAIN, code::EBUSY, code::ENOSPC];
        if passes.contains(&error) {
            Self::Resource
        } else if error == code::EOPNOTSUPP {
            Self::NotSupported
        } else if error == code::EINVAL {
            Self::Invalid
        } else {
            Self::IoErr
        }
    }
}

/// Converts to the errno that a submitter gets; `Ok(())` for [`Status::Ok`].
impl From<Status> for Result {
    #[inline]
    fn from(status: Status) -> Self {
        if status.is_ok() {
            return Ok(());
        }
        // SAFETY: `blk_status_to_errno` takes any status and only reads a constant table.
        kernel::error::to_result(unsafe { bindings::blk_status_to_errno(status.into_raw()) })
    }
}

#[kunit_tests(phyr_blk_status)]
mod tests {
    use super::*;

    #[test]
    fn is_what_c_means() {
        let expected = [
            (Status::Ok, Ok(())),
            (Status::NotSupported, Err(code::EOPNOTSUPP)),
            (Status::Timeout, Err(code::ETIMEDOUT)),
            (Status::NoSpace, Err(code::ENOSPC)),
            (Status::Transport, Err(code::ENOLINK)),
            (Status::Target, Err(code::EREMOTEIO)),
            (Status::ReservationConflict, Err(code::EBADE)),
            (Status::Medium, Err(code::ENODATA)),
            (Status::Protection, Err(code::EILSEQ)),
            (Status::Resource, Err(code::ENOMEM)),
            (Status::IoErr, Err(code::EIO)),
            (Status::Again, Err(code::EAGAIN)),
            (Status::DevResource, Err(code::EBUSY)),
            (Status::ZoneOpenResource, Err(code::ETOOMANYREFS)),
            (Status::ZoneActiveResource, Err(code::EOVERFLOW)),
            (Status::Offline, Err(code::ENODEV)),
            (Status::DurationLimit, Err(code::ETIME)),
            (Status::Invalid, Err(code::EINVAL)),
        ];
        assert_eq!(expected.len(), Status::ALL.len());
        for (status, errno) in expected {
            assert_eq!(Result::from(status), errno);
        }
    }

    #[test]
    fn survives_the_way_through_c() {
        for status in Status::ALL {
            assert_eq!(Status::from_raw(status.into_raw()), status);
        }
    }

    #[test]
    fn takes_any_raw_value() {
        for raw in 0..=u8::MAX {
            let status = Status::from_raw(raw);
            assert!(status.into_raw() == raw || status == Status::IoErr);
        }
        assert_eq!(Status::from_raw(11), Status::IoErr);
        assert_eq!(Status::from_raw(u8::MAX), Status::IoErr);
    }

    #[test]
    fn tells_what_passes_from_what_does_not() {
        for error in [code::ENOMEM, code::EAGAIN, code::EBUSY, code::ENOSPC] {
            assert!(Status::from(error).is_busy());
        }
        for error in [
            code::E2BIG,
            code::EMSGSIZE,
            code::EIO,
            code::ENOBUFS,
            code::EFBIG,
            code::ERANGE,
        ] {
            assert_eq!(Status::from(error), Status::IoErr);
        }
        for error in [code::EIO, code::EFAULT, code::EREMOTEIO, code::EINVAL] {
            assert!(!Status::from(error).is_busy());
            assert!(!Status::from(error).is_ok());
        }
    }
}
