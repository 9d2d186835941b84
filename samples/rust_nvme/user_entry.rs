// SPDX-License-Identifier: GPL-2.0

//! Commands that user space makes itself, word by word; the driver adds the data pointer.

use super::{
    cmd::{
        words,
        Sqe,
        SubmissionEntry,
        PSDT_SGL, //
    },
    desc::{
        DataPointer,
        DescriptorKind, //
    }, //
};

/// The words of a command of user space. The driver adds the identifier and the data pointer.
///
/// User space sets neither the flags in word 0 nor a metadata pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserEntry {
    pub(crate) opcode: u8,
    pub(crate) nsid: u32,
    /// Words 2 and 3.
    pub(crate) cdw2: [u32; 2],
    /// Words 10 to 15.
    pub(crate) cdw10: [u32; 6],
}

impl UserEntry {
    /// Returns whether its data goes to the controller.
    pub(crate) fn is_write(&self) -> bool {
        self.opcode & 1 != 0
    }

    /// Returns the command with the data that `pointer` describes.
    pub(crate) fn with_data(self, pointer: Option<&DataPointer>) -> UserCommandEntry {
        let psdt = match pointer.map(|pointer| pointer.kind) {
            Some(DescriptorKind::Sgl) => PSDT_SGL,
            Some(DescriptorKind::Prp) | None => 0,
        };
        UserCommandEntry {
            word0: u32::from(self.opcode) | psdt,
            entry: self,
            data: pointer.map_or([0; 2], |pointer| pointer.words),
        }
    }
}

/// A [`UserEntry`] with its data pointer.
#[derive(Clone, Copy)]
pub(crate) struct UserCommandEntry {
    word0: u32,
    entry: UserEntry,
    data: [u64; 2],
}

impl SubmissionEntry for UserCommandEntry {
    fn with_cid(mut self, cid: u16) -> Self {
        self.word0 = (self.word0 & 0xffff) | u32::from(cid) << 16;
        self
    }

    fn to_entry(self) -> Sqe {
        let UserEntry {
            nsid, cdw2, cdw10, ..
        } = self.entry;
        let head = words(self.word0, nsid);
        let [first, second] = self.data;
        let [ten, eleven, twelve, thirteen, fourteen, fifteen] = cdw10;
        [
            head,
            words(cdw2[0], cdw2[1]),
            0,
            first,
            second,
            words(ten, eleven),
            words(twelve, thirteen),
            words(fourteen, fifteen),
        ]
        .map(u64::to_le)
    }

    fn opcode(self) -> u8 {
        self.entry.opcode
    }
}

#[kernel::prelude::kunit_tests(rust_nvme_user_entry)]
mod tests {
    use super::*;

    const ENTRY: UserEntry = UserEntry {
        opcode: 0x81,
        nsid: 7,
        cdw2: [2, 3],
        cdw10: [10, 11, 12, 13, 14, 15],
    };

    #[test]
    fn all_words_but_those_of_the_driver_are_the_users() {
        let entry = ENTRY.with_data(None).with_cid(0xabcd).to_entry();
        let expected = [
            0x7_abcd_0081,
            3 << 32 | 2,
            0,
            0,
            0,
            11 << 32 | 10,
            13 << 32 | 12,
            15 << 32 | 14,
        ];
        assert_eq!(entry.map(u64::from_le), expected);
        assert!(ENTRY.is_write());
        assert_eq!(ENTRY.with_data(None).opcode(), 0x81);
    }

    #[test]
    fn the_data_pointer_is_the_drivers() {
        for (kind, psdt) in [(DescriptorKind::Prp, 0), (DescriptorKind::Sgl, 0x4000)] {
            let pointer = DataPointer {
                kind,
                words: [0x1000, 0x2000],
                entries: 2,
            };
            let entry = ENTRY.with_data(Some(&pointer)).with_cid(1).to_entry();
            let [first, _, _, third, fourth, ..] = entry.map(u64::from_le);
            assert_eq!(first, 0x7_0001_0081 | psdt);
            assert_eq!([third, fourth], [0x1000, 0x2000]);
        }
    }
}
