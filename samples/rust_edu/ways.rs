// SPDX-License-Identifier: GPL-2.0

//! The ways in which memory is mapped for the device.
//!
//! Five of them map the same [`Message`]. Besides, [`dump`] maps a vector, and [`import`] a
//! dma-buf, which is memory of another driver.

use super::engine::{
    Edu,
    Transfer,
    DEVICE_MEMORY_SIZE, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    ptr::Alignment,
    sync::aref::ARef, //
};
use phyr::{
    batch::Capacity,
    linear::LinearError,
    memory::{
        Bytes,
        Chunks, //
    },
    DataDirection,
    DmaAddr,
    Limits,
    MapError,
    Mapper, //
};
use phyr_dma_buf::{
    Attachment,
    DmaBuf, //
};
use phyr_iommu::{
    Access,
    Domain, //
};

/// Pages of main memory that a transfer maps.
const PAGES: usize = 16;

/// Size of that memory.
pub(crate) const MEMORY_SIZE: usize = PAGES * PAGE_SIZE;

/// The address of the header in a domain of the driver's own.
const HEADER: DmaAddr = DmaAddr::from_raw(0x1000_0000);

/// The memory that a transfer maps: a header of one page, and a payload.
pub(crate) type Message = KVVec<Chunks>;

/// Allocates a message of [`PAGES`] pages.
pub(crate) fn new_message() -> Result<Message> {
    let header = Chunks::zeroed(PAGE_SIZE, 0, GFP_KERNEL)?;
    let mut payload = Chunks::zeroed(MEMORY_SIZE - PAGE_SIZE, 0, GFP_KERNEL)?;
    // Out of order, the pages are never one physical range.
    payload.swap(0, payload.count() - 1);

    let mut message = KVVec::with_capacity(2, GFP_KERNEL)?;
    message.push(header, GFP_KERNEL)?;
    message.push(payload, GFP_KERNEL)?;
    Ok(message)
}

/// A way: maps memory, makes the device do the transfer, and unmaps it.
pub(crate) type Way = fn(&Transfer<'_>, Message) -> Result<Message>;

/// The ways, and the names of their files.
pub(crate) const WAYS: [(&CStr, Way); 5] = [
    (c"scatter", scatter),
    (c"batch", batch),
    (c"linear", linear),
    (c"copy", copy),
    (c"domain", domain),
];

/// Maps `memory` to as few DMA ranges as possible, has the device do the transfer, and unmaps it.
fn scatter(transfer: &Transfer<'_>, memory: Message) -> Result<Message> {
    let mapper = Mapper::new(transfer.pdev.as_ref(), Limits::NONE)?;
    let mapping = mapper.map(memory, transfer.direction, GFP_KERNEL)?;

    transfer.run(mapping.dma_vecs())?;
    Ok(mapping.unmap())
}

/// Maps the header and the payload one after the other, as a driver does that gets them so. The
/// device gathers both from one list of ranges.
fn batch(transfer: &Transfer<'_>, memory: Message) -> Result<Message> {
    let mapper = Mapper::new(transfer.pdev.as_ref(), Limits::NONE)?;
    let capacity = Capacity {
        pieces: memory.len(),
        segments: PAGES,
        bytes: MEMORY_SIZE,
    };
    let mut batch = mapper.batch(capacity, transfer.direction, GFP_KERNEL)?;
    for piece in memory {
        batch.add(piece)?;
    }
    let mapping = batch.finalise()?;

    transfer.run(mapping.dma_vecs())?;
    Ok(mapping.unmap())
}

/// Maps `memory` as exactly one DMA range, at a multiple of its size: the low bits of an address
/// are the offset in it. If that is impossible, the log has the reason.
fn linear(transfer: &Transfer<'_>, memory: Message) -> Result<Message> {
    let mapper = Mapper::new(transfer.pdev.as_ref(), Limits::NONE)?;
    let align = Alignment::new::<MEMORY_SIZE>();
    let mapping = match mapper.linear_aligned(memory, transfer.direction, align) {
        Ok(mapping) => mapping,
        Err(refused) => {
            dev_err!(transfer.pdev, "not linear: {}\n", refused.error);
            return Err(refused.into());
        }
    };

    transfer.run([mapping.dma_vec()])?;
    Ok(mapping.unmap())
}

/// Maps `memory` as one DMA range wherever it is. Where no IOMMU joins its pages, the device gets a
/// contiguous copy of it.
fn copy(transfer: &Transfer<'_>, memory: Message) -> Result<Message> {
    let mapper = Mapper::new(transfer.pdev.as_ref(), Limits::NONE)?;
    let memory = match mapper.linear(memory, transfer.direction) {
        Ok(mapping) => {
            transfer.run([mapping.dma_vec()])?;
            return Ok(mapping.unmap());
        }
        Err(MapError {
            value,
            error: LinearError::NotTranslated { .. },
        }) => value,
        Err(refused) => return Err(refused.into()),
    };
    let mut copy = mapper.linear_copy(memory, transfer.direction)?;

    let turn = copy.hand_over()?;
    transfer.run([turn.dma_vec()])?;
    turn.hand_back()?;
    Ok(copy.into_memory())
}

/// Maps `memory` in an IOMMU domain of the driver's own, where the device reaches nothing else.
/// Dropping the domain puts the device back into its default domain.
fn domain(transfer: &Transfer<'_>, memory: Message) -> Result<Message> {
    let domain = match Domain::attach(transfer.pdev.as_ref(), None) {
        Ok(domain) => domain,
        Err(refused) => {
            dev_err!(transfer.pdev, "no domain: {}\n", refused);
            return Err(refused.into());
        }
    };
    let mut gather = domain.gather(memory.len())?;
    let mut mappings = KVVec::with_capacity(memory.len(), GFP_KERNEL)?;
    for piece in memory {
        // The header goes where the driver says, the payload where the domain has IOVA space.
        let mapping = if mappings.is_empty() {
            domain.map_at(piece, HEADER, Access::READ_WRITE)?
        } else {
            domain.map(piece, Access::READ_WRITE)?
        };
        mappings.push(mapping, GFP_KERNEL)?;
    }

    transfer.run(mappings.iter().map(|mapping| mapping.dma_vec()))?;
    for mapping in mappings {
        gather.unmap(mapping)?;
    }
    // Until the IOTLB is flushed the device may still reach the memory.
    Ok(gather.flush())
}

/// Returns the device's own memory, which the device writes to a vector.
///
/// # Errors
///
/// Those of [`Mapper::map`] and [`Transfer::run`].
pub(crate) fn dump(edu: &Edu) -> Result<VVec<u8>> {
    let bytes = VVec::from_elem(0, DEVICE_MEMORY_SIZE, GFP_KERNEL)?;

    edu.with_device(|pdev| {
        let transfer = Transfer {
            edu,
            pdev,
            direction: DataDirection::FromDevice,
            part: 0..bytes.len(),
        };
        let mapper = Mapper::new(pdev.as_ref(), Limits::NONE)?;
        let mapping = mapper.map(Bytes::new(bytes)?, transfer.direction, GFP_KERNEL)?;

        transfer.run(mapping.dma_vecs())?;
        Ok(mapping.unmap().into_inner())
    })
}

/// Makes the device write its memory to the beginning of a dma-buf, or to all of a shorter one.
///
/// The device must see the buffer as one range; if it does not, the log has the reason. This driver
/// cannot be told to end its mapping (a static importer), so it has one for the transfer only.
///
/// # Errors
///
/// - [`EILSEQ`]: the device sees more than one range.
/// - Those of [`Attachment::static_importer`], [`Attachment::map`] and [`Transfer::run`].
pub(crate) fn import(edu: &Edu, buf: ARef<DmaBuf>) -> Result {
    edu.with_device(|pdev| {
        let transfer = Transfer {
            edu,
            pdev,
            direction: DataDirection::FromDevice,
            part: 0..DEVICE_MEMORY_SIZE.min(buf.size()),
        };
        let attachment = Attachment::static_importer(pdev.as_ref(), buf)?;
        attachment.map(transfer.direction)?;
        let whole = attachment
            .linear()
            .inspect_err(|refused| dev_err!(pdev, "not linear: {}\n", refused))?;

        // Dropping the attachment ends the mapping.
        transfer.run([whole])
    })
}
