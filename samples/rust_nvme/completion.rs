// SPDX-License-Identifier: GPL-2.0

//! Completions and status codes.
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h), `struct nvme_completion`,
//! `NVME_SC_*`

use kernel::fmt;
use phyr_blk::Status;

/// Bytes of a completion queue entry, as a power of two (`CC.IOCQES`).
pub(crate) const CQE_SHIFT: u32 = 4;

/// A completion queue entry in memory.
pub(crate) type Cqe = [u32; 4];

/// A completion, in the CPU's byte order.
// Two words, which are passed in registers.
#[derive(Clone, Copy)]
pub(crate) struct Completion {
    /// Words 0 and 1: the command's result.
    pub(crate) result: u64,
    /// Word 3: the command's identifier, the phase, the status.
    last: u32,
}

impl Completion {
    /// Returns the phase bit of an entry's last word.
    pub(crate) fn phase(word3: u32) -> bool {
        u32::from_le(word3) & (1 << 16) != 0
    }

    /// Returns the completion of an entry whose first two words and last one are given.
    pub(crate) fn new(word0: u32, word1: u32, word3: u32) -> Self {
        Self {
            result: u64::from(u32::from_le(word0)) | u64::from(u32::from_le(word1)) << 32,
            last: u32::from_le(word3),
        }
    }

    /// Returns the command's identifier.
    pub(crate) fn cid(self) -> u16 {
        // CAST: The low half on purpose.
        self.last as u16
    }

    /// Returns the status.
    pub(crate) fn status(self) -> NvmeStatus {
        // CAST: The high half, without the phase.
        NvmeStatus((self.last >> 17) as u16)
    }
}

/// The status field of a completion, without the phase bit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct NvmeStatus(u16);

impl NvmeStatus {
    const TYPE_AND_CODE: u16 = 0x7ff;
    const RETRY_DELAY: u16 = 0x1800;
    const MORE: u16 = 0x2000;
    const DO_NOT_RETRY: u16 = 0x4000;

    /// Returns whether the command succeeded.
    pub(crate) fn is_ok(self) -> bool {
        self.code() == 0
    }

    /// Returns the field as it is.
    pub(crate) fn into_raw(self) -> u16 {
        self.0
    }

    /// Returns status code type (10:8) and status code (7:0).
    pub(crate) fn code(self) -> u16 {
        self.0 & Self::TYPE_AND_CODE
    }

    /// Returns whether the same command may succeed later.
    pub(crate) fn may_retry(self) -> bool {
        !self.is_ok() && self.0 & Self::DO_NOT_RETRY == 0
    }

    /// Returns the block layer's status, as `nvme_error_status()`.
    pub(crate) fn to_blk(self) -> Status {
        match self.code() {
            0x000 => Status::Ok,
            // Capacity exceeded.
            0x081 => Status::NoSpace,
            // LBA range; command interrupted; namespace not ready.
            0x080 | 0x021 | 0x082 => Status::Target,
            // Conflicting attributes; invalid opcode, field, namespace.
            0x180 | 0x001 | 0x002 | 0x00b => Status::NotSupported,
            // Write fault; read error; unwritten block; access denied; read only; compare failed.
            0x280 | 0x281 | 0x287 | 0x286 | 0x182 | 0x285 => Status::Medium,
            // Guard, application tag, reference tag check; invalid protection information.
            0x282..=0x284 | 0x181 => Status::Protection,
            // Reservation conflict.
            0x083 => Status::ReservationConflict,
            // Host path error.
            0x370 => Status::Transport,
            // Too many active zones; too many open ones.
            0x1bd => Status::ZoneActiveResource,
            0x1be => Status::ZoneOpenResource,
            _ => Status::IoErr,
        }
    }
}

/// Writes the status as the C driver does.
impl fmt::Display for NvmeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code();
        write!(f, "sct {:#x} / sc {:#x}", code >> 8, code & 0xff)?;
        let delay = (self.0 & Self::RETRY_DELAY) >> 11;
        if delay != 0 {
            write!(f, ", CRD {delay}")?;
        }
        if self.0 & Self::MORE != 0 {
            f.write_str(", MORE")?;
        }
        if self.0 & Self::DO_NOT_RETRY != 0 {
            f.write_str(", DNR")?;
        }
        Ok(())
    }
}

#[kernel::prelude::kunit_tests(rust_nvme_completion)]
mod tests {
    use super::{
        super::tests::is_written,
        *, //
    };
    use kernel::prelude::*;

    #[test]
    fn completions_are_read_with_their_status() {
        // Phase, do not retry, more, status.
        let entry: Cqe = [7u32, 1, 0x0001_0002, 0xc002_1234 | 0x0281 << 17].map(u32::to_le);
        let completion = Completion::new(entry[0], entry[1], entry[3]);

        assert!(!Completion::phase(entry[3]));
        assert!(Completion::phase((1u32 << 16).to_le()));
        assert_eq!(completion.result, 0x1_0000_0007);
        assert_eq!(completion.cid(), 0x1234);
        assert_eq!(completion.status().code(), 0x281);
        assert!(!completion.status().may_retry());
        assert!(!completion.status().is_ok());
        assert!(completion.status().to_blk() == Status::Medium);
    }

    #[test]
    fn statuses_are_told_apart() {
        let table = [
            (0x000, Status::Ok, false),
            (0x4000, Status::Ok, false),
            (0x006, Status::IoErr, true),
            (0x4002, Status::NotSupported, false),
            (0x081, Status::NoSpace, true),
            (0x4080, Status::Target, false),
            (0x182, Status::Medium, true),
            (0x282, Status::Protection, true),
            (0x284, Status::Protection, true),
            (0x083, Status::ReservationConflict, true),
            (0x7fff, Status::IoErr, false),
        ];

        for (raw, status, may_retry) in table {
            assert!(NvmeStatus(raw).to_blk() == status);
            assert_eq!(NvmeStatus(raw).may_retry(), may_retry);
        }
    }

    /// The whole table of `nvme_error_status()`, and nothing else.
    #[test]
    fn statuses_become_what_they_become_in_c() {
        let table = [
            (0x000, Status::Ok),
            (0x001, Status::NotSupported),
            (0x002, Status::NotSupported),
            (0x00b, Status::NotSupported),
            (0x021, Status::Target),
            (0x080, Status::Target),
            (0x081, Status::NoSpace),
            (0x082, Status::Target),
            (0x083, Status::ReservationConflict),
            (0x180, Status::NotSupported),
            (0x181, Status::Protection),
            (0x182, Status::Medium),
            (0x1bd, Status::ZoneActiveResource),
            (0x1be, Status::ZoneOpenResource),
            (0x280, Status::Medium),
            (0x281, Status::Medium),
            (0x282, Status::Protection),
            (0x283, Status::Protection),
            (0x284, Status::Protection),
            (0x285, Status::Medium),
            (0x286, Status::Medium),
            (0x287, Status::Medium),
            (0x370, Status::Transport),
        ];

        for raw in 0..0x8000 {
            let code = raw & NvmeStatus::TYPE_AND_CODE;
            let known = table.iter().find(|&&(of, _)| of == code);
            let expected = known.map_or(Status::IoErr, |&(_, status)| status);
            assert!(NvmeStatus(raw).to_blk() == expected);
        }
    }

    #[test]
    fn statuses_are_written_as_c_writes_them() {
        for (raw, expected) in [
            (0x281, "sct 0x2 / sc 0x81"),
            (0x006, "sct 0x0 / sc 0x6"),
            (0x4002, "sct 0x0 / sc 0x2, DNR"),
            (0x7a82, "sct 0x2 / sc 0x82, CRD 3, MORE, DNR"),
        ] {
            assert!(is_written(fmt!("{}", NvmeStatus(raw)), expected));
        }
    }
}
