// SPDX-License-Identifier: GPL-2.0

//! A mapping of a buffer for the device of one importer.
//!
//! One range if it can be, which takes a few words however long the buffer is; else scattered.

use core::ptr;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    page::PAGE_SIZE,
    prelude::*,
    ptr::Alignment,
    sync::aref::ARef, //
};
use phyr::{
    device::does_dma,
    linear::PinnedLinear,
    mapping::PinnedMapping,
    memory::{
        segments,
        Memory, //
    },
    DataDirection,
    DmaAddr,
    DmaVec,
    Limits,
    Mapper,
    MemoryKind,
    Pinned, //
};

/// Memory of a buffer that is mapped for a device; dropping it unmaps it.
///
/// # Invariants
///
/// `made` is of a mapper of the device that `device` keeps: it goes first.
pub(super) struct Mapped {
    made: Made,
    device: ARef<Device>,
}

/// The ways in which it is mapped.
enum Made {
    /// As one range of an IOMMU, or of memory that is contiguous. There is nothing to sync.
    Linear(PinnedLinear<'static>),
    /// As several, or by mappings that have to be synced.
    Scatter(PinnedMapping<'static>),
    /// Not at all: these are addresses on a bus.
    Bus(KVVec<DmaVec>),
}

// SAFETY: a mapping has no thread.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps all of `memory`; or, if there is a `bus_offset`, works out where it is on the bus.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the device has no DMA mask, or its limits do not even allow a page.
    /// - Those of [`Mapper::map_into`] except `E2BIG`.
    ///
    /// # Safety
    ///
    /// - `memory` outlives the returned value, and DMA of `device` may be mapped for as long.
    /// - `dir` is a direction in which the device may access it.
    pub(super) unsafe fn new<M: Memory>(
        device: &Device,
        memory: &M,
        dir: DataDirection,
        bus_offset: Option<u64>,
    ) -> Result<Self> {
        let device = ARef::from(device);
        let made = match bus_offset {
            Some(offset) => on_bus(memory, offset)?,
            None => {
                // SAFETY: `device` is kept for as long as the mapper is, which is a part of `made`;
                // the caller promises that DMA may be mapped, which is what being bound stands for
                // here.
                let bound = unsafe { &*ptr::from_ref(&*device).cast::<Device<Bound>>() };
                // SAFETY: by the contract of `Memory` it is of its kind and stays in place; the
                // caller promises that it outlives the mapping, and the direction.
                unsafe { map(bound, memory, dir) }?
            }
        };
        // INVARIANT: just mapped so.
        Ok(Self { made, device })
    }

    /// Returns the device that the memory is mapped for.
    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the ranges that the device sees.
    pub(super) fn dma_vecs(&self) -> impl Iterator<Item = DmaVec> + '_ {
        let (one, many, bus): (_, _, &[DmaVec]) = match &self.made {
            Made::Linear(mapped) => (Some(mapped.dma_vec()), None, &[]),
            Made::Scatter(mapped) => (None, Some(mapped.dma_vecs()), &[]),
            Made::Bus(vecs) => (None, None, vecs),
        };
        let mapped = Iterator::chain(one.into_iter(), many.into_iter().flatten());
        Iterator::chain(mapped, bus.iter().copied())
    }

    /// Lets the CPU see what the device wrote.
    pub(super) fn sync_for_cpu(&self) {
        if let Made::Scatter(mapped) = &self.made {
            mapped.sync_for_cpu();
        }
    }

    /// Lets the device see what the CPU wrote.
    pub(super) fn sync_for_device(&self) {
        if let Made::Scatter(mapped) = &self.made {
            mapped.sync_for_device();
        }
    }
}

/// Maps all of `memory` for `dev`.
///
/// # Safety
///
/// `memory` outlives the mapping, and `dir` is a direction in which the device may access it.
unsafe fn map<M: Memory>(
    dev: &'static Device<Bound>,
    memory: &M,
    dir: DataDirection,
) -> Result<Made> {
    let mapper = mapper(dev)?;
    // A range that was linked cannot be synced. Where the device is coherent it need not be, unless
    // it is bounced; nor has memory of a device ever to be.
    if mapper.is_coherent() || M::KIND == MemoryKind::Mmio {
        // SAFETY: by the contract of `Memory` it is of its kind and stays in place for as long as it
        // exists; the caller promises that it outlives the mapping, and the direction.
        let pinned = unsafe { Pinned::new(memory.phyrs(), dir, M::KIND) }?;
        if let Ok(mapped) = mapper.linear_pinned(&pinned, Alignment::new::<1>()) {
            return Ok(Made::Linear(mapped.owned()));
        }
    }
    let source = segments(memory, *mapper.limits());
    // SAFETY: by the contract of `Memory` it is of its kind and stays in place for as long as it
    // exists; the caller promises that it outlives the mapping, and the direction.
    let pinned = unsafe { Pinned::new(source, dir, M::KIND) }?;
    Ok(Made::Scatter(mapper.map_pinned(&pinned, GFP_KERNEL)?))
}

/// Returns where `memory` is on a bus on which addresses are `offset` more than for the CPU.
fn on_bus<M: Memory>(memory: &M, offset: u64) -> Result<Made> {
    let mut vecs = KVVec::new();
    for phyr in segments(memory, Limits::NONE) {
        let phyr = phyr?;
        let addr = DmaAddr::from_raw(phyr.paddr().into_raw().wrapping_add(offset));
        vecs.push(DmaVec::new(addr, phyr.len()), GFP_KERNEL)?;
    }
    Ok(Made::Bus(vecs))
}

/// Makes the mapper of an importer's device. Ranges are made as long as they can be: what the device's
/// limits say is for the entries of the table, which are cut afterwards.
fn mapper(dev: &'static Device<Bound>) -> Result<Mapper<'static>> {
    if !does_dma(dev) {
        return Err(EINVAL);
    }
    let mapper = Mapper::new(dev, Limits::NONE)?;
    let max = mapper.max_mapping_size();
    if max == usize::MAX {
        return Ok(mapper);
    }
    // Bounced: what one bounce buffer holds, in whole pages.
    // CAST: a `usize` is at most 64 bits wide.
    let max = (max & !(PAGE_SIZE - 1)) as u64;
    Mapper::new(dev, Limits::NONE.with_max_segment(max).ok_or(EINVAL)?)
}
