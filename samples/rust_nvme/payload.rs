// SPDX-License-Identifier: GPL-2.0

//! Requests that the driver makes itself, for commands of user space.

use super::{
    completion::NvmeStatus,
    transfer::Transfer,
    user_entry::UserEntry, //
};
use kernel::prelude::*;
use phyr_blk::{
    uring::CommandResult,
    Passthrough,
    Status, //
};

/// Commands of user space that a request of the driver's own is for.
pub(crate) enum Payload {
    /// A command of `rust_nvme.h`, on a registered buffer.
    Transfer(Transfer),
    /// A command of `nvme_ioctl.h`, with the data of the request.
    Passthru(Passthru),
}

impl Payload {
    /// Returns the transfer, if it is one.
    pub(crate) fn transfer(&self) -> Option<&Transfer> {
        match self {
            Self::Transfer(transfer) => Some(transfer),
            Self::Passthru(_) => None,
        }
    }

    /// Returns the command of `nvme_ioctl.h`, if it is one.
    pub(crate) fn passthru(&self) -> Option<&Passthru> {
        match self {
            Self::Passthru(passthru) => Some(passthru),
            Self::Transfer(_) => None,
        }
    }

    /// Returns the command of `nvme_ioctl.h`, if it is one, for writing.
    pub(crate) fn passthru_mut(&mut self) -> Option<&mut Passthru> {
        match self {
            Self::Passthru(passthru) => Some(passthru),
            Self::Transfer(_) => None,
        }
    }
}

impl Passthrough for Payload {
    #[inline]
    fn end(self, status: Status) -> CommandResult {
        match self {
            Self::Transfer(transfer) => transfer.end(status),
            Self::Passthru(passthru) => passthru.end(status),
        }
    }
}

/// A command of user space that is sent as it is, but for its data pointer.
pub(crate) struct Passthru {
    pub(crate) entry: UserEntry,
    /// The bytes that it transfers; [`None`] if only the sender knows.
    pub(crate) bytes: Option<u32>,
    /// 0: the driver's.
    pub(crate) timeout_ms: u32,
    /// The controller's answer: a status and a result.
    answer: Option<(NvmeStatus, u64)>,
}

impl Passthru {
    /// Returns the command `entry`, which transfers `bytes`.
    pub(crate) fn new(entry: UserEntry, bytes: Option<u32>, timeout_ms: u32) -> Self {
        Self {
            entry,
            bytes,
            timeout_ms,
            answer: None,
        }
    }

    /// Stores what the controller has answered.
    pub(crate) fn set_answer(&mut self, status: NvmeStatus, result: u64) {
        self.answer = Some((status, result));
    }

    /// Returns the NVMe status and the result; or, where the controller has not answered, the error
    /// of `status`.
    #[inline]
    pub(crate) fn outcome(&self, status: Status) -> Result<(u16, u64)> {
        match self.answer {
            Some((status, result)) => Ok((status.into_raw(), result)),
            None => Err(Result::from(status).err().unwrap_or(EIO)),
        }
    }

    #[inline(always)]
    fn end(self, status: Status) -> CommandResult {
        let outcome = self.outcome(status);
        CommandResult {
            result: outcome.map(|(status, _)| status.into()),
            extra: Some(outcome.map_or(0, |(_, result)| result)),
        }
    }
}
