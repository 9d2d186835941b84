// SPDX-License-Identifier: GPL-2.0

//! Completions and status codes.
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h), `struct nvme_completion`,
//! `NVME_SC_*`

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
            _ => BlkStatus::IoErr,
        }
    }
}

#[kernel::prelude::kunit_tests(rust_nvme_completion)]
mod tests {
    use super::*;

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
}
