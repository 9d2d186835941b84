// SPDX-License-Identifier: GPL-2.0

//! Completions and status codes.
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h), `struct nvme_completion`,
//! `NVME_SC_*`

use kernel::fmt;
use phyr_blk::Status as BlkStatus;

/// Bytes of a completion queue entry, as a power of two (`CC.IOCQES`).
pub(crate) const CQE_SHIFT: u32 = 4;

/// A completion queue entry in memory.
pub(crate) type Cqe = [u32; 4];

/// A completion, in the CPU's byte order.
#[derive(Clone, Copy)]
pub(crate) struct Completion {
    /// Word 0: the command's result.
    pub(crate) result: u32,
    pub(crate) cid: u16,
    pub(crate) status: Status,
}

impl Completion {
    /// The phase bit of an entry's last word.
    pub(crate) fn phase(word3: u32) -> bool {
        u32::from_le(word3) & (1 << 16) != 0
    }

    /// The completion of an entry with these words, the first and the last.
    pub(crate) fn new(word0: u32, word3: u32) -> Self {
        let last = u32::from_le(word3);
        Self {
            result: u32::from_le(word0),
            // CAST: The low half on purpose.
            cid: last as u16,
            // CAST: The high half, without the phase.
            status: Status((last >> 17) as u16),
        }
    }
}

/// The status field of a completion, without the phase bit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u16);

impl Status {
    const TYPE_AND_CODE: u16 = 0x7ff;
    const RETRY_DELAY: u16 = 0x1800;
    const MORE: u16 = 0x2000;
    const DO_NOT_RETRY: u16 = 0x4000;

    pub(crate) fn is_ok(self) -> bool {
        self.code() == 0
    }

    /// Status code type (10:8) and status code (7:0).
    pub(crate) fn code(self) -> u16 {
        self.0 & Self::TYPE_AND_CODE
    }

    /// The same command may succeed later.
    pub(crate) fn may_retry(self) -> bool {
        !self.is_ok() && self.0 & Self::DO_NOT_RETRY == 0
    }

    /// What the block layer is told, as `nvme_error_status()` has it.
    pub(crate) fn to_blk(self) -> BlkStatus {
        match self.code() {
            0x000 => BlkStatus::Ok,
            // Capacity exceeded.
            0x081 => BlkStatus::NoSpace,
            // LBA range; command interrupted; namespace not ready.
            0x080 | 0x021 | 0x082 => BlkStatus::Target,
            // Conflicting attributes; invalid opcode, field, namespace.
            0x180 | 0x001 | 0x002 | 0x00b => BlkStatus::NotSupported,
            // Write fault; read error; unwritten block; access denied; read only; compare failed.
            0x280 | 0x281 | 0x287 | 0x286 | 0x182 | 0x285 => BlkStatus::Medium,
            // Guard, application tag, reference tag check; invalid protection information.
            0x282..=0x284 | 0x181 => BlkStatus::Protection,
            // Reservation conflict.
            0x083 => BlkStatus::ReservationConflict,
            // Host path error.
            0x370 => BlkStatus::Transport,
            // Too many active zones; too many open ones.
            0x1bd => BlkStatus::ZoneActiveResource,
            0x1be => BlkStatus::ZoneOpenResource,
            _ => BlkStatus::IoErr,
        }
    }
}

/// As the C driver writes it.
impl fmt::Display for Status {
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
        let entry: Cqe = [7u32, 0, 0x0001_0002, 0xc002_1234 | 0x0281 << 17].map(u32::to_le);
        let completion = Completion::new(entry[0], entry[3]);

        assert!(!Completion::phase(entry[3]));
        assert!(Completion::phase((1u32 << 16).to_le()));
        assert_eq!(completion.result, 7);
        assert_eq!(completion.cid, 0x1234);
        assert_eq!(completion.status.code(), 0x281);
        assert!(!completion.status.may_retry());
        assert!(!completion.status.is_ok());
        assert!(completion.status.to_blk() == BlkStatus::Medium);
    }

    #[test]
    fn statuses_are_told_apart() {
        let table = [
            (0x000, BlkStatus::Ok, false),
            (0x4000, BlkStatus::Ok, false),
            (0x006, BlkStatus::IoErr, true),
            (0x4002, BlkStatus::NotSupported, false),
            (0x081, BlkStatus::NoSpace, true),
            (0x4080, BlkStatus::Target, false),
            (0x182, BlkStatus::Medium, true),
            (0x282, BlkStatus::Protection, true),
            (0x284, BlkStatus::Protection, true),
            (0x083, BlkStatus::ReservationConflict, true),
            (0x7fff, BlkStatus::IoErr, false),
        ];

        for (raw, status, may_retry) in table {
            assert!(Status(raw).to_blk() == status);
            assert_eq!(Status(raw).may_retry(), may_retry);
        }
    }

    /// The whole table of `nvme_error_status()`, and nothing else.
    #[test]
    fn statuses_become_what_they_become_in_c() {
        let table = [
            (0x000, BlkStatus::Ok),
            (0x001, BlkStatus::NotSupported),
            (0x002, BlkStatus::NotSupported),
            (0x00b, BlkStatus::NotSupported),
            (0x021, BlkStatus::Target),
            (0x080, BlkStatus::Target),
            (0x081, BlkStatus::NoSpace),
            (0x082, BlkStatus::Target),
            (0x083, BlkStatus::ReservationConflict),
            (0x180, BlkStatus::NotSupported),
            (0x181, BlkStatus::Protection),
            (0x182, BlkStatus::Medium),
            (0x1bd, BlkStatus::ZoneActiveResource),
            (0x1be, BlkStatus::ZoneOpenResource),
            (0x280, BlkStatus::Medium),
            (0x281, BlkStatus::Medium),
            (0x282, BlkStatus::Protection),
            (0x283, BlkStatus::Protection),
            (0x284, BlkStatus::Protection),
            (0x285, BlkStatus::Medium),
            (0x286, BlkStatus::Medium),
            (0x287, BlkStatus::Medium),
            (0x370, BlkStatus::Transport),
        ];

        for raw in 0..0x8000 {
            let code = raw & Status::TYPE_AND_CODE;
            let known = table.iter().find(|&&(of, _)| of == code);
            let expected = known.map_or(BlkStatus::IoErr, |&(_, status)| status);
            assert!(Status(raw).to_blk() == expected);
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
            assert!(is_written(fmt!("{}", Status(raw)), expected));
        }
    }
}
