// SPDX-License-Identifier: GPL-2.0

//! Commands.
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h), `struct nvme_command`
//!
//! A command is 16 little-endian words of 32 bits, here 8 of 64 bits. The constructors leave the
//! command identifier at zero; the queue that submits the command sets it
//! ([`Command::with_cid`]).

use super::desc::{
    DataPointer, //
    DescriptorKind,
};

/// Bytes of a submission queue entry, as a power of two (`CC.IOSQES`).
pub(crate) const SQE_SHIFT: u32 = 6;

/// A submission queue entry in memory.
pub(crate) type Sqe = [u64; 8];

mod admin_op {
    pub(super) const DELETE_SQ: u32 = 0x00;
    pub(super) const CREATE_SQ: u32 = 0x01;
    pub(super) const DELETE_CQ: u32 = 0x04;
    pub(super) const CREATE_CQ: u32 = 0x05;
    pub(super) const GET_LOG_PAGE: u32 = 0x02;
    pub(super) const IDENTIFY: u32 = 0x06;
    pub(super) const SET_FEATURES: u32 = 0x09;
}

mod io_op {
    pub(super) const FLUSH: u32 = 0x00;
    pub(super) const WRITE: u32 = 0x01;
    pub(super) const READ: u32 = 0x02;
    pub(super) const WRITE_ZEROES: u32 = 0x08;
    pub(super) const DATASET_MANAGEMENT: u32 = 0x09;
}

/// `PSDT` of command word 0: the data pointer is an SGL, any metadata pointer is contiguous.
pub(crate) const PSDT_SGL: u32 = 1 << 14;
/// Queue creation: physically contiguous.
const QUEUE_CONTIGUOUS: u32 = 1 << 0;
/// Queue creation: interrupts on.
const CQ_INTERRUPTS: u32 = 1 << 1;
/// Read, write, write zeroes: force unit access.
const RW_FUA: u32 = 1 << 30;
/// Write zeroes: deallocate.
const WZ_DEALLOCATE: u32 = 1 << 25;
/// Dataset management: deallocate.
const DSM_DEALLOCATE: u32 = 1 << 2;
/// Log page: commands supported and their effects.
const LOG_EFFECTS: u32 = 0x05;
/// All namespaces.
const NSID_ALL: u32 = 0xffff_ffff;
/// Feature: number of queues.
const FEATURE_QUEUES: u32 = 0x07;

/// Structures that [`Command::identify`] returns (`CNS`).
#[derive(Clone, Copy)]
pub(crate) enum Identify {
    /// The namespace of this id.
    Namespace(u32),
    Controller,
    /// Ids of the active namespaces above this one.
    ActiveNamespaces(u32),
    /// Identifiers of this namespace.
    Descriptors(u32),
    /// The part of this namespace's data that only the NVM command set has.
    NvmNamespace(u32),
    /// Limits of the controller's NVM command set.
    NvmLimits,
    /// The part of this namespace's data that all command sets have.
    AnyNamespace(u32),
}

/// A command that can be submitted.
pub(crate) trait SubmissionEntry: Copy {
    /// Sets the command identifier.
    fn with_cid(self, cid: u16) -> Self;

    /// Returns the command as the controller reads it.
    fn to_entry(self) -> Sqe;

    /// Returns the operation, for messages.
    fn opcode(self) -> u8;
}

/// A command of the driver's own. Only the words that any of these uses are stored, to keep it
/// short; the others are zero.
#[derive(Clone, Copy)]
pub(crate) struct Command {
    word0: u32,
    nsid: u32,
    /// Words 6 to 9.
    data: [u64; 2],
    /// Words 10 and 11, and 12.
    first: u64,
    last: u32,
}

impl Command {
    #[inline]
    fn new(opcode: u32, nsid: u32) -> Self {
        Self {
            word0: opcode,
            nsid,
            data: [0; 2],
            first: 0,
            last: 0,
        }
    }

    /// Sets words 10 and 11.
    fn with(mut self, word10: u32, word11: u32) -> Self {
        self.first = words(word10, word11);
        self
    }

    /// Sets the data pointer.
    #[inline]
    fn with_data(mut self, data: &DataPointer) -> Self {
        match data.kind {
            DescriptorKind::Prp => {}
            DescriptorKind::Sgl => self.word0 |= PSDT_SGL,
        }
        self.data = data.words;
        self
    }

    /// Sets the data pointer to memory that does not cross a controller page.
    fn with_page(mut self, addr: u64) -> Self {
        self.data = [addr, 0];
        self
    }

    /// Identifies `what`: the controller writes a structure of 4 KiB to `addr`.
    pub(crate) fn identify(what: Identify, addr: u64) -> Self {
        let (nsid, cns) = match what {
            Identify::Namespace(nsid) => (nsid, 0),
            Identify::Controller => (0, 1),
            Identify::ActiveNamespaces(above) => (above, 2),
            Identify::Descriptors(nsid) => (nsid, 3),
            // Word 11 has the command set: NVM is 0.
            Identify::NvmNamespace(nsid) => (nsid, 5),
            Identify::NvmLimits => (0, 6),
            Identify::AnyNamespace(nsid) => (nsid, 8),
        };
        Self::new(admin_op::IDENTIFY, nsid)
            .with_page(addr)
            .with(cns, 0)
    }

    /// Gets the Commands Supported and Effects log: the controller writes 4 KiB to `addr`.
    pub(crate) fn get_effects_log(addr: u64) -> Self {
        // Number of words, less one.
        let count = (1 << 10) - 1;
        Self::new(admin_op::GET_LOG_PAGE, NSID_ALL)
            .with_page(addr)
            .with(count << 16 | LOG_EFFECTS, 0)
    }

    /// Requests `count` pairs of I/O queues. The completion has the number that may be made.
    pub(crate) fn set_queue_count(count: u16) -> Self {
        let count = u32::from(count.saturating_sub(1));
        Self::new(admin_op::SET_FEATURES, 0).with(FEATURE_QUEUES, count << 16 | count)
    }

    /// Creates completion queue `qid` of `entries` at `addr`, with interrupt `vector`.
    pub(crate) fn create_cq(qid: u16, entries: u16, addr: u64, vector: u16) -> Self {
        Self::new(admin_op::CREATE_CQ, 0).with_page(addr).with(
            u32::from(entries - 1) << 16 | u32::from(qid),
            u32::from(vector) << 16 | CQ_INTERRUPTS | QUEUE_CONTIGUOUS,
        )
    }

    /// Creates submission queue `qid` of `entries` at `addr`, which completes to queue `qid`.
    pub(crate) fn create_sq(qid: u16, entries: u16, addr: u64) -> Self {
        Self::new(admin_op::CREATE_SQ, 0).with_page(addr).with(
            u32::from(entries - 1) << 16 | u32::from(qid),
            u32::from(qid) << 16 | QUEUE_CONTIGUOUS,
        )
    }

    /// Deletes submission queue `qid`.
    pub(crate) fn delete_sq(qid: u16) -> Self {
        Self::new(admin_op::DELETE_SQ, 0).with(qid.into(), 0)
    }

    /// Deletes completion queue `qid`.
    pub(crate) fn delete_cq(qid: u16) -> Self {
        Self::new(admin_op::DELETE_CQ, 0).with(qid.into(), 0)
    }

    /// Writes the volatile cache to the medium.
    pub(crate) fn flush(nsid: u32) -> Self {
        Self::new(io_op::FLUSH, nsid)
    }

    /// Reads `blocks` to `data`.
    #[inline]
    pub(crate) fn read(nsid: u32, blocks: Blocks, data: &DataPointer) -> Self {
        Self::new(io_op::READ, nsid)
            .with_data(data)
            .with_blocks(blocks, 0)
    }

    /// Writes `blocks` from `data`.
    #[inline]
    pub(crate) fn write(nsid: u32, blocks: Blocks, data: &DataPointer, fua: bool) -> Self {
        Self::new(io_op::WRITE, nsid)
            .with_data(data)
            .with_blocks(blocks, if fua { RW_FUA } else { 0 })
    }

    /// Makes `blocks` read as zeroes.
    pub(crate) fn write_zeroes(nsid: u32, blocks: Blocks, fua: bool, deallocate: bool) -> Self {
        let fua = if fua { RW_FUA } else { 0 };
        let deallocate = if deallocate { WZ_DEALLOCATE } else { 0 };
        Self::new(io_op::WRITE_ZEROES, nsid).with_blocks(blocks, fua | deallocate)
    }

    /// Deallocates `last + 1` ranges, each a [`dsm_range`], which lie at `addr`.
    pub(crate) fn discard(nsid: u32, addr: u64, last: u8) -> Self {
        Self::new(io_op::DATASET_MANAGEMENT, nsid)
            .with_page(addr)
            .with(last.into(), DSM_DEALLOCATE)
    }

    #[inline]
    fn with_blocks(mut self, blocks: Blocks, control: u32) -> Self {
        self.first = blocks.first;
        self.last = u32::from(blocks.count_less_one) | control;
        self
    }
}

impl SubmissionEntry for Command {
    #[inline]
    fn with_cid(mut self, cid: u16) -> Self {
        self.word0 = (self.word0 & 0xffff) | u32::from(cid) << 16;
        self
    }

    #[inline]
    fn to_entry(self) -> Sqe {
        let [first, second] = self.data;
        let head = words(self.word0, self.nsid);
        [head, 0, 0, first, second, self.first, self.last.into(), 0].map(u64::to_le)
    }

    fn opcode(self) -> u8 {
        // CAST: Cut to the opcode on purpose.
        self.word0 as u8
    }
}

/// Returns two words as one, the lower one first.
#[inline]
pub(crate) fn words(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// The identifier of an I/O command: the request's tag, and a generation, by which it differs from
/// the request that had the tag before.
///
/// C: `nvme_cid()`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cid {
    /// Below [`Cid::TAGS`].
    pub(crate) tag: u16,
    /// Below 16.
    pub(crate) generation: u8,
}

impl Cid {
    const SHIFT: u32 = 12;

    /// Number of possible tags.
    pub(crate) const TAGS: u16 = 1 << Self::SHIFT;

    /// Returns the identifier as the controller has it.
    pub(crate) fn into_raw(self) -> u16 {
        u16::from(self.generation) << Self::SHIFT | self.tag
    }

    /// Splits an identifier that comes from the controller and can be anything.
    pub(crate) fn from_raw(raw: u16) -> Self {
        Self {
            tag: raw % Self::TAGS,
            // CAST: Four bits are left.
            generation: (raw >> Self::SHIFT) as u8,
        }
    }
}

/// A range of logical blocks.
#[derive(Clone, Copy)]
pub(crate) struct Blocks {
    pub(crate) first: u64,
    pub(crate) count_less_one: u16,
}

impl Blocks {
    /// Returns the blocks at `sector` that have `bytes` bytes, on a disk of blocks of `1 << shift`
    /// bytes.
    ///
    /// [`None`] if these are not 1 to 65536 blocks: the disk's limits exclude it.
    pub(crate) fn new(sector: u64, bytes: u32, shift: u32) -> Option<Self> {
        Some(Self {
            first: sector >> (shift - 9),
            count_less_one: u16::try_from((bytes >> shift).checked_sub(1)?).ok()?,
        })
    }
}

/// The most ranges of a dataset management command.
pub(crate) const MAX_DSM_RANGES: u16 = 256;

/// Words of a dataset management range.
pub(crate) const DSM_RANGE_WORDS: usize = 2;

/// Returns the words of a dataset management range: `sectors` from `sector` on, on a disk of blocks
/// of `1 << shift` bytes.
pub(crate) fn dsm_range(sector: u64, sectors: u32, shift: u32) -> [u64; DSM_RANGE_WORDS] {
    let shift = shift - 9;
    [u64::from(sectors >> shift) << 32, sector >> shift]
}

/// The layouts word by word, and conversions at their edges.
#[kernel::prelude::kunit_tests(rust_nvme_cmd)]
mod tests {
    // PANIC: An `unwrap` or an index that fails is a failed test.
    // CAST: Half a word on purpose.

    use super::*;

    fn words(command: Command) -> [u32; 16] {
        let entry = command.to_entry().map(u64::from_le);
        core::array::from_fn(|word| (entry[word / 2] >> (word % 2 * 32)) as u32)
    }

    /// Returns a command with these words; those not named are zero.
    fn expected(set: &[(usize, u32)]) -> [u32; 16] {
        let mut words = [0; 16];
        for &(word, value) in set {
            words[word] = value;
        }
        words
    }

    #[test]
    fn io_commands_have_their_layout() {
        let blocks = Blocks {
            first: 0x1_2345_6789,
            count_less_one: 7,
        };
        let data = |kind| DataPointer {
            kind,
            words: [0x1111_0000_2222_0000, 0x3333_0000_4444_0000],
            entries: 2,
        };
        let address = [
            (6, 0x2222_0000),
            (7, 0x1111_0000),
            (8, 0x4444_0000),
            (9, 0x3333_0000),
            (10, 0x2345_6789),
            (11, 1),
        ];
        let mut read = expected(&address);
        [read[0], read[1], read[12]] = [0x0042_0002, 3, 7];
        let mut write = expected(&address);
        [write[0], write[1], write[12]] = [0xffff_4001, 3, 7 | 1 << 30];

        assert_eq!(
            words(Command::read(3, blocks, &data(DescriptorKind::Prp)).with_cid(0x42)),
            read
        );
        assert_eq!(
            words(Command::write(3, blocks, &data(DescriptorKind::Sgl), true).with_cid(0xffff)),
            write
        );
        assert_eq!(words(Command::flush(9)), expected(&[(1, 9)]));
        assert_eq!(
            words(Command::write_zeroes(1, blocks, false, true)),
            expected(&[
                (0, 8),
                (1, 1),
                (10, 0x2345_6789),
                (11, 1),
                (12, 7 | 1 << 25)
            ])
        );
        let zeroes = words(Command::write_zeroes(1, blocks, true, false));
        assert_eq!(zeroes[12], 7 | 1 << 30);
        assert_eq!(
            words(Command::discard(1, 0x5_0000_1000, 0)),
            expected(&[(0, 9), (1, 1), (6, 0x1000), (7, 5), (11, 4)])
        );
        assert_eq!(
            words(Command::discard(1, 0x1000, 255)),
            expected(&[(0, 9), (1, 1), (6, 0x1000), (10, 255), (11, 4)])
        );
    }

    #[test]
    fn admin_commands_have_their_layout() {
        assert_eq!(
            words(Command::create_cq(5, 128, 0x1000, 3)),
            expected(&[(0, 5), (6, 0x1000), (10, 127 << 16 | 5), (11, 3 << 16 | 3)])
        );
        assert_eq!(
            words(Command::create_sq(5, 2, 0x1000)),
            expected(&[(0, 1), (6, 0x1000), (10, 1 << 16 | 5), (11, 5 << 16 | 1)])
        );
        assert_eq!(
            words(Command::set_queue_count(4)),
            expected(&[(0, 9), (10, 7), (11, 3 << 16 | 3)])
        );
        assert_eq!(
            words(Command::identify(Identify::ActiveNamespaces(6), 0x1000)),
            expected(&[(0, 6), (1, 6), (6, 0x1000), (10, 2)])
        );
        for (what, nsid, cns) in [
            (Identify::Namespace(3), 3, 0),
            (Identify::Controller, 0, 1),
            (Identify::Descriptors(3), 3, 3),
            (Identify::NvmNamespace(3), 3, 5),
            (Identify::NvmLimits, 0, 6),
            (Identify::AnyNamespace(3), 3, 8),
        ] {
            assert_eq!(
                words(Command::identify(what, 0x1000)),
                expected(&[(0, 6), (1, nsid), (6, 0x1000), (10, cns)])
            );
        }
        assert_eq!(words(Command::delete_sq(5)), expected(&[(10, 5)]));
        assert_eq!(words(Command::delete_cq(5)), expected(&[(0, 4), (10, 5)]));
    }

    #[test]
    fn blocks_are_one_to_65536() {
        // Sector, bytes, shift; first block and number of them less one.
        let table = [
            (0, 512, 9, Some((0, 0))),
            (8, 4096, 9, Some((8, 7))),
            (8, 4096, 12, Some((1, 0))),
            (u64::MAX, 65536 << 9, 9, Some((u64::MAX, 65535))),
            (0, 65537 << 9, 9, None),
            (0, 65536 << 12, 12, Some((0, 65535))),
            (0, 65537 << 12, 12, None),
            (0, 0, 9, None),
            (0, 511, 9, None),
            (0, 2048, 12, None),
        ];

        for (sector, bytes, shift, want) in table {
            let got = Blocks::new(sector, bytes, shift);
            assert_eq!(got.map(|b| (b.first, b.count_less_one)), want);
        }
        assert_eq!(dsm_range(80, 24, 12), [3 << 32, 10]);
        assert_eq!(
            dsm_range(u64::MAX, u32::MAX, 9),
            [0xffff_ffff << 32, u64::MAX]
        );
    }

    #[test]
    fn identifiers_hold_tag_and_generation() {
        for (tag, generation, raw) in [
            (0, 0, 0),
            (1, 0, 1),
            (0xfff, 0, 0xfff),
            (0, 1, 0x1000),
            (0x123, 4, 0x4123),
            (0xfff, 15, 0xffff),
        ] {
            let cid = Cid { tag, generation };
            assert_eq!(cid.into_raw(), raw);
            assert_eq!(Cid::from_raw(raw), cid);
        }
    }
}
