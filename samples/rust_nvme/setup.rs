// SPDX-License-Identifier: GPL-2.0

//! From a mapped request to its command.
//!
//! C: `nvme_setup_cmd()` in [`drivers/nvme/host/core.c`](srctree/drivers/nvme/host/core.c),
//! `nvme_map_data()` in [`drivers/nvme/host/pci.c`](srctree/drivers/nvme/host/pci.c)
//!
//! Nothing allocates: what does not fit in the command is in the slot of the request's tag
//! ([`slots`](super::slots)).

use super::{
    cmd::{
        self,
        Blocks,
        Command, //
    },
    desc::{
        DataPointer,
        DataRange,
        DescriptorError,
        DescriptorKind,
        DescriptorList,
        PAGE_SIZE, //
    },
    format::Format,
    layout::Layout,
    map::BufferSpan,
    namespace::Namespace,
    request::NvmeBlk,
    slots::{
        Slot,
        Slots, //
    },
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};
use phyr::{
    trace,
    DmaVecs, //
};
use phyr_blk::{
    DiscardRanges,
    Mapped,
    Op,
    Status, //
};

/// Sets up the commands of a queue's requests.
pub(crate) struct Setup<'bound> {
    dev: &'bound Device<Bound>,
    format: Format,
    slots: Slots,
}

impl<'bound> Setup<'bound> {
    /// Allocates the descriptor memory of a queue of `layout`.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]: memory is short.
    pub(crate) fn new(dev: &'bound Device<Bound>, layout: &Layout) -> Result<Self> {
        Ok(Self {
            dev,
            format: layout.format,
            slots: Slots::new(dev, layout.depth().into(), layout.slot_words(), PAGE_SIZE)?,
        })
    }

    /// Returns the command for `io`, which reads or writes. [`None`]: the disk's limits exclude it.
    #[inline(always)]
    pub(crate) fn read_write(
        &self,
        ns: &Namespace,
        io: &Mapped<'_, 'bound, NvmeBlk>,
    ) -> Option<Command> {
        let blocks = Blocks::new(io.sector(), io.bytes(), ns.shift)?;
        let data = self.describe(io)?;

        Some(match io.op() {
            Op::Write => Command::write(ns.id, blocks, &data, io.is_fua()),
            _ => Command::read(ns.id, blocks, &data),
        })
    }

    /// Returns the command for `io`, which does not read or write, or is not the block layer's.
    ///
    /// # Errors
    ///
    /// The status that the request is to end with. The disk's limits exclude all but
    /// [`Status::NotSupported`].
    pub(crate) fn other(
        &self,
        ns: &Namespace,
        io: &Mapped<'_, 'bound, NvmeBlk>,
    ) -> Result<Command, Status> {
        let blocks = Blocks::new(io.sector(), io.bytes(), ns.shift).ok_or(Status::Invalid);
        let mut slot = self.slots.get(io.tag()).ok_or(Status::Invalid)?;

        Ok(match io.op() {
            Op::Flush => Command::flush(ns.id),
            Op::WriteZeroes => {
                let deallocate = ns.zeroes_when_deallocated && !io.is_nounmap();
                Command::write_zeroes(ns.id, blocks?, io.is_fua(), deallocate)
            }
            Op::Discard => {
                let last = put_dsm_ranges(io.discard_ranges(), ns.shift, &mut slot)
                    .ok_or(Status::Invalid)?;
                Command::discard(ns.id, slot.addr(), last)
            }
            Op::Passthrough => {
                let transfer = io.passthrough().ok_or(Status::NotSupported)?;
                let describe = |ranges, span: BufferSpan| {
                    // CAST: A count of 32 bits fits in a `usize`.
                    self.describe_ranges(ranges, span.count() as usize, span.len(), &mut slot)
                };
                transfer
                    .command(ns.id, describe)
                    .map_err(|_| Status::Invalid)?
            }
            _ => return Err(Status::NotSupported),
        })
    }

    /// Describes the data of `io`. The common case of one range that the command has room for is
    /// inlined. [`None`]: the disk's limits exclude it.
    #[inline(always)]
    fn describe(&self, io: &Mapped<'_, 'bound, NvmeBlk>) -> Option<DataPointer> {
        let only = io.dma_vec().map(DataRange::from);
        if let Some(pointer) = only.and_then(|range| self.format.shortest(range)) {
            self.trace(&pointer);
            return Some(pointer);
        }
        self.describe_vecs(io.dma_vecs(), io.bytes(), io.tag())
    }

    /// Describes `vecs`, of `bytes` in all, if need be with a list in the slot of `tag`.
    #[inline(never)]
    fn describe_vecs(&self, vecs: DmaVecs<'_>, bytes: u32, tag: u16) -> Option<DataPointer> {
        let count = vecs.len();
        if count == 1 {
            let only = vecs.clone().next().map(DataRange::from);
            if let Some(pointer) = only.and_then(|range| self.format.short(range)) {
                self.trace(&pointer);
                return Some(pointer);
            }
        }
        let mut slot = self.slots.get(tag)?;
        self.describe_ranges(vecs.map(DataRange::from), count, bytes, &mut slot)
            .ok()
    }

    /// Describes `count` ranges of `bytes` in all.
    fn describe_ranges(
        &self,
        ranges: impl Iterator<Item = DataRange> + Clone,
        count: usize,
        bytes: u32,
        slot: &mut Slot<'_>,
    ) -> Result<DataPointer, DescriptorError> {
        let pointer = self.format.describe(ranges, count, bytes, slot)?;
        self.trace(&pointer);
        Ok(pointer)
    }

    #[inline]
    fn trace(&self, pointer: &DataPointer) {
        let kind = match pointer.kind {
            DescriptorKind::Prp => c"PRP",
            DescriptorKind::Sgl => c"SGL",
        };
        trace::descriptors(self.dev, kind, pointer.entries);
    }
}

/// Writes the ranges of a discard to `slot`. Returns their number, less one. [`None`]: the disk's
/// limits exclude it.
fn put_dsm_ranges(ranges: DiscardRanges<'_>, shift: u32, slot: &mut Slot<'_>) -> Option<u8> {
    let mut count = 0usize;
    for range in ranges {
        let at = count * cmd::DSM_RANGE_WORDS;
        if at + cmd::DSM_RANGE_WORDS > slot.words() {
            return None;
        }
        let [length, first] = cmd::dsm_range(range.sector, range.sectors, shift);
        slot.put(at, length);
        slot.put(at + 1, first);
        count += 1;
    }
    u8::try_from(count.checked_sub(1)?).ok()
}
