// SPDX-License-Identifier: GPL-2.0

//! From a mapped request to its command. `queue_rq()` in [`io`](super::io) calls it.
//!
//! C: `nvme_setup_cmd()` in [`drivers/nvme/host/core.c`](srctree/drivers/nvme/host/core.c),
//! `nvme_map_data()` in [`drivers/nvme/host/pci.c`](srctree/drivers/nvme/host/pci.c)
//!
//! Nothing allocates: what does not fit in the command is in a list that the library has set aside
//! ([`list`](super::list)). If all are in use the request waits.

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
        NoList,
        PAGE_SHIFT, //
    },
    format::Format,
    list::List,
    namespace::Namespace,
    payload::{
        Passthru,
        Payload, //
    },
    prp,
    request::NvmeBlk,
    sgl,
    user_entry::UserCommandEntry, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};
use phyr::trace;
use phyr_blk::{
    Descriptors,
    DiscardRanges,
    DriverTypes,
    Mapped,
    Op,
    Status, //
};

/// A mapped request of a disk.
type Io<'a, 'bound> = Mapped<'a, 'bound, NvmeBlk>;

/// DMA ranges, and the memory to describe them in.
struct Ranges<'m, I> {
    ranges: I,
    count: usize,
    /// Their length.
    bytes: u32,
    descriptors: Descriptors<'m>,
}

/// The DMA ranges of a request of the driver `T`, wherever they are.
trait Data<T: DriverTypes> {
    /// Returns the ranges. [`None`]: it has no such data.
    fn of<'m>(
        io: &'m mut Mapped<'_, '_, T>,
    ) -> Option<Ranges<'m, impl Iterator<Item = DataRange> + Clone + 'm>>;
}

/// Those of its own pages.
enum RequestPages {}

impl<T: DriverTypes> Data<T> for RequestPages {
    #[inline]
    fn of<'m>(
        io: &'m mut Mapped<'_, '_, T>,
    ) -> Option<Ranges<'m, impl Iterator<Item = DataRange> + Clone + 'm>> {
        let bytes = io.bytes();
        let (vecs, descriptors) = io.dma_vecs_and_descriptors();
        Some(Ranges {
            count: vecs.len(),
            ranges: vecs.map(DataRange::from),
            bytes,
            descriptors,
        })
    }
}

/// Those of the registered buffer of a command of user space.
enum RegisteredData {}

impl<T: DriverTypes<Passthrough = Payload>> Data<T> for RegisteredData {
    #[inline]
    fn of<'m>(
        io: &'m mut Mapped<'_, '_, T>,
    ) -> Option<Ranges<'m, impl Iterator<Item = DataRange> + Clone + 'm>> {
        let (payload, descriptors) = io.passthrough_and_descriptors();
        let transfer = payload?.transfer()?;
        let span = transfer.span();
        Some(Ranges {
            // CAST: A count of 32 bits fits in a `usize`.
            count: span.count() as usize,
            ranges: transfer.ranges(),
            bytes: span.len(),
            descriptors,
        })
    }
}

/// Sets up the commands of a queue's requests.
pub(crate) struct Setup<'bound> {
    dev: &'bound Device<Bound>,
    format: Format,
}

impl<'bound> Setup<'bound> {
    /// Returns the one of a queue with commands of `format`.
    pub(crate) fn new(dev: &'bound Device<Bound>, format: Format) -> Self {
        Self { dev, format }
    }

    /// Returns the command for `io`, which reads or writes.
    ///
    /// # Errors
    ///
    /// - [`Status::Resource`]: the request has to wait for descriptor memory.
    /// - [`Status::Invalid`]: the disk's limits exclude it.
    #[inline(always)]
    pub(crate) fn read_write(
        &self,
        ns: &Namespace,
        io: &mut Io<'_, 'bound>,
    ) -> Result<Command, Status> {
        let blocks = Blocks::new(io.sector(), io.bytes(), ns.shift).ok_or(Status::Invalid)?;
        let data = self.describe(io)?;

        Ok(match io.op() {
            Op::Write => Command::write(ns.id, blocks, &data, io.is_fua()),
            _ => Command::read(ns.id, blocks, &data),
        })
    }

    /// Returns the command for `io`, which is the block layer's, and does not read or write.
    ///
    /// # Errors
    ///
    /// The status that the request is to end with, or [`Status::Resource`] if it has to wait for
    /// descriptor memory. The disk's limits exclude all others but [`Status::NotSupported`].
    pub(crate) fn other(&self, ns: &Namespace, io: &mut Io<'_, 'bound>) -> Result<Command, Status> {
        let blocks = Blocks::new(io.sector(), io.bytes(), ns.shift).ok_or(Status::Invalid);

        Ok(match io.op() {
            Op::Flush => Command::flush(ns.id),
            Op::WriteZeroes => {
                let deallocate = ns.zeroes_when_deallocated && !io.is_nounmap();
                Command::write_zeroes(ns.id, blocks?, io.is_fua(), deallocate)
            }
            Op::Discard => discard(ns, io)?,
            _ => return Err(Status::NotSupported),
        })
    }

    /// Returns the command for `io`, a transfer with a registered buffer.
    ///
    /// # Errors
    ///
    /// - [`Status::Resource`]: the request has to wait for descriptor memory.
    /// - [`Status::NotSupported`]: it is no such transfer.
    #[inline(always)]
    pub(crate) fn transfer(
        &self,
        ns: &Namespace,
        io: &mut Io<'_, 'bound>,
    ) -> Result<Command, Status> {
        let transfer = io.passthrough().and_then(Payload::transfer);
        let only = transfer.and_then(|transfer| transfer.span().only());
        if let (Some(transfer), Some(range)) = (transfer, only) {
            if let Some(pointer) = self.format.short(range) {
                self.trace(&pointer);
                return Ok(transfer.command(ns.id, &pointer));
            }
        }
        let pointer = self.describe_registered(io)?;
        let transfer = io.passthrough().and_then(Payload::transfer);
        let transfer = transfer.ok_or(Status::NotSupported)?;
        Ok(transfer.command(ns.id, &pointer))
    }

    /// Describes the part of a registered buffer that `io` is about.
    ///
    /// # Errors
    ///
    /// Those of [`Self::transfer`].
    #[inline(never)]
    fn describe_registered(&self, io: &mut Io<'_, 'bound>) -> Result<DataPointer, Status> {
        self.describe_data::<_, RegisteredData>(io)
    }

    /// Returns the command of user space that `io` is.
    ///
    /// # Errors
    ///
    /// - [`Status::Resource`]: the request has to wait for descriptor memory.
    /// - [`Status::Invalid`]: its data is not as long as the command says.
    /// - [`Status::NotSupported`]: it is no such command.
    pub(crate) fn passthru<T: DriverTypes<Passthrough = Payload>>(
        &self,
        io: &mut Mapped<'_, 'bound, T>,
    ) -> Result<UserCommandEntry, Status> {
        let passthru = io.passthrough().and_then(Payload::passthru);
        let Passthru { entry, bytes, .. } = *passthru.ok_or(Status::NotSupported)?;
        if bytes.is_some_and(|bytes| bytes != io.bytes()) {
            return Err(Status::Invalid);
        }
        if io.bytes() == 0 {
            return Ok(entry.with_data(None));
        }
        let setup = Self::new(self.dev, self.format.for_user_commands());
        Ok(entry.with_data(Some(&setup.describe_pages(io)?)))
    }

    /// Describes the data of `io`. The common case of one range that the command has room for is
    /// inlined.
    ///
    /// # Errors
    ///
    /// Those of [`Self::read_write`].
    #[inline(always)]
    fn describe(&self, io: &mut Io<'_, 'bound>) -> Result<DataPointer, Status> {
        let only = io.dma_vec().map(DataRange::from);
        if let Some(pointer) = only.and_then(|range| self.format.shortest(range)) {
            self.trace(&pointer);
            return Ok(pointer);
        }
        self.describe_pages(io)
    }

    /// Describes the pages of `io`.
    ///
    /// # Errors
    ///
    /// Those of [`Self::read_write`].
    #[inline(never)]
    fn describe_pages<T: DriverTypes>(
        &self,
        io: &mut Mapped<'_, 'bound, T>,
    ) -> Result<DataPointer, Status> {
        let pointer = self.describe_data::<_, RequestPages>(io)?;
        // The controller has them now.
        io.forget_dma_vecs();
        Ok(pointer)
    }

    /// Describes data of `io`, if need be in a list.
    ///
    /// # Errors
    ///
    /// - Those of [`Self::read_write`].
    /// - [`Status::NotSupported`]: there is no such data.
    fn describe_data<T: DriverTypes, D: Data<T>>(
        &self,
        io: &mut Mapped<'_, 'bound, T>,
    ) -> Result<DataPointer, Status> {
        let pointer = self.pointer::<T, D>(io)?;
        self.trace(&pointer);
        Ok(pointer)
    }

    /// Returns the data pointer to data of `io`.
    ///
    /// # Errors
    ///
    /// Those of [`Self::describe_data`].
    fn pointer<T: DriverTypes, D: Data<T>>(
        &self,
        io: &mut Mapped<'_, 'bound, T>,
    ) -> Result<DataPointer, Status> {
        let Ranges {
            ranges,
            count,
            bytes,
            mut descriptors,
        } = D::of(io).ok_or(Status::NotSupported)?;
        if count == 1 {
            let only = ranges.clone().next();
            if let Some(pointer) = only.and_then(|range| self.format.short(range)) {
                return Ok(pointer);
            }
        }
        let plan = self.format.plan(ranges.clone(), count, bytes);
        let built = plan.carry_out(
            &mut descriptors,
            |descriptors, words| build_prp(ranges.clone(), descriptors, words),
            |descriptors, words| build_sgl(ranges.clone(), descriptors, words),
        );
        built?.map_err(|_| Status::Invalid)
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

/// Describes `ranges` by PRPs, with a list of `words` words if there are any.
///
/// # Errors
///
/// - [`Status::Resource`]: the request has to wait for descriptor memory.
/// - [`Status::Invalid`]: the disk's limits exclude so long a list.
#[inline(always)]
fn build_prp(
    ranges: impl Iterator<Item = DataRange>,
    descriptors: &mut Descriptors<'_>,
    words: usize,
) -> Result<Result<DataPointer, DescriptorError>, Status> {
    if words == 0 {
        return Ok(prp::build(ranges, NoList, PAGE_SHIFT));
    }
    let list = List(descriptors.list(words)?);
    Ok(prp::build(ranges, list, PAGE_SHIFT))
}

/// Describes `ranges` by an SGL, with a list of `words` words if there are any.
///
/// # Errors
///
/// Those of [`build_prp`].
#[inline(always)]
fn build_sgl(
    mut ranges: impl Iterator<Item = DataRange>,
    descriptors: &mut Descriptors<'_>,
    words: usize,
) -> Result<Result<DataPointer, DescriptorError>, Status> {
    if words == 0 {
        let only = ranges.next();
        return Ok(only.and_then(sgl::short).ok_or(DescriptorError::Misaligned));
    }
    let mut list = List(descriptors.list(words)?);
    Ok(sgl::build(ranges, &mut list))
}

/// Returns the command for `io`, a discard.
///
/// # Errors
///
/// - [`Status::Resource`]: the request has to wait for descriptor memory.
/// - [`Status::Invalid`]: the disk's limits exclude it.
fn discard(ns: &Namespace, io: &mut Io<'_, '_>) -> Result<Command, Status> {
    let words = cmd::DSM_RANGE_WORDS * io.discard_ranges().count();
    io.describe(words, |io, list| {
        let mut list = List(list);
        let last = put_dsm_ranges(io.discard_ranges(), ns.shift, &mut list);
        last.map(|last| Command::discard(ns.id, list.addr(), last))
    })?
    .ok_or(Status::Invalid)
}

/// Writes the ranges of a discard to `list`. Returns their number, less one. [`None`]: the disk's
/// limits exclude it.
fn put_dsm_ranges(ranges: DiscardRanges<'_>, shift: u32, list: &mut List<'_>) -> Option<u8> {
    let mut count = 0usize;
    for range in ranges {
        let at = count * cmd::DSM_RANGE_WORDS;
        if at + cmd::DSM_RANGE_WORDS > list.words() {
            return None;
        }
        let [length, first] = cmd::dsm_range(range.sector, range.sectors, shift);
        list.put(at, length);
        list.put(at + 1, first);
        count += 1;
    }
    u8::try_from(count.checked_sub(1)?).ok()
}
