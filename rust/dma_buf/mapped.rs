// SPDX-License-Identifier: GPL-2.0

//! A mapping of a buffer for the device of one importer.
//!
//! It is one range if possible, which takes a few words however long the buffer is; else scattered.

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
        check_access,
        segments,
        Memory, //
    },
    source::Source,
    Access,
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
/// `layout` is that of a mapping for the device that `device` keeps.
pub(crate) struct DeviceMapping {
    // Dropped in this order: a mapping ends before its device goes.
    layout: Layout,
    device: ARef<Device>,
}

/// The form of a mapping.
enum Layout {
    /// One range of an IOMMU, or of memory that is contiguous. There is nothing to sync.
    Linear(PinnedLinear<'static>),
    /// Several ranges, or ranges that have to be synced.
    Scatter(PinnedMapping<'static>),
    /// Addresses on a bus, for which nothing is mapped.
    Bus(KVVec<DmaVec>),
}

impl DeviceMapping {
    /// Maps all of `memory`, or finds its addresses on the bus if `bus_offset` is what they differ
    /// by from those of the CPU.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// - `EACCES`: a device may not access the memory in the direction `dir`.
    /// - `EINVAL`: the device has no DMA mask, or its limits do not even allow a page.
    /// - Those of [`Mapper::map_into`] except `E2BIG`.
    ///
    /// # Safety
    ///
    /// `memory` outlives the returned value, and DMA of `device` may be mapped for as long.
    pub(crate) unsafe fn new<M: Memory>(
        device: &Device,
        memory: &M,
        dir: DataDirection,
        bus_offset: Option<u64>,
    ) -> Result<Self> {
        check_access(memory, Access::of(dir))?;
        let device = ARef::from(device);
        // SAFETY: `device` is kept for as long as the mapper, which is a part of `layout`. The
        // caller promises that its DMA may be mapped, for which being bound stands.
        let bound = unsafe { &*ptr::from_ref(&*device).cast::<Device<Bound>>() };
        let mapper = mapper(bound)?;
        let layout = match bus_offset {
            Some(offset) => on_bus(memory, offset)?,
            None => {
                let cut = segments(memory, *mapper.limits());
                // SAFETY: `Memory` promises the kind, the rights that were checked, and that the
                // memory stays in place. The caller promises that it outlives the mapping.
                let whole = unsafe { Pinned::new(memory.phyrs(), dir, M::KIND) }?;
                // SAFETY: These are the same phyrs, but cut.
                let cut = unsafe { Pinned::new(cut, dir, M::KIND) }?;
                // A range that was linked cannot be synced. Where the device is coherent it need
                // not be, unless it is bounced; nor has memory of a device ever to be.
                let linear = mapper.is_coherent() || M::KIND == MemoryKind::Mmio;
                map(&mapper, linear.then_some(&whole), &cut)?
            }
        };
        // INVARIANT: The mapping has just been made.
        Ok(Self { layout, device })
    }

    /// Returns the device that the memory is mapped for.
    pub(crate) fn device(&self) -> &Device<Bound> {
        // SAFETY: `device` is kept for as long as `self`. DMA of it may be mapped for as long, as
        // the caller of `new` has promised, for which being bound stands.
        unsafe { &*ptr::from_ref(&*self.device).cast() }
    }

    /// Returns the ranges that the device sees.
    pub(crate) fn dma_vecs(&self) -> impl Iterator<Item = DmaVec> + Clone + '_ {
        let (one, many, bus): (_, _, &[DmaVec]) = match &self.layout {
            Layout::Linear(mapped) => (Some(mapped.dma_vec()), None, &[]),
            Layout::Scatter(mapped) => (None, Some(mapped.dma_vecs()), &[]),
            Layout::Bus(vecs) => (None, None, vecs),
        };
        let mapped = Iterator::chain(one.into_iter(), many.into_iter().flatten());
        Iterator::chain(mapped, bus.iter().copied())
    }

    /// Lets the CPU see what the device wrote.
    pub(crate) fn sync_for_cpu(&self) {
        if let Layout::Scatter(mapped) = &self.layout {
            mapped.sync_for_cpu();
        }
    }

    /// Lets the device see what the CPU wrote.
    pub(crate) fn sync_for_device(&self) {
        if let Layout::Scatter(mapped) = &self.layout {
            mapped.sync_for_device();
        }
    }
}

/// Maps `whole` as one range, if that is possible, or else `cut`, the same memory in segments.
fn map(
    mapper: &Mapper<'static>,
    whole: Option<&Pinned<impl Source>>,
    cut: &Pinned<impl Source>,
) -> Result<Layout> {
    if let Some(whole) = whole {
        if let Ok(mapped) = mapper.linear_pinned(whole, Alignment::new::<1>()) {
            return Ok(Layout::Linear(mapped.owned()));
        }
    }
    Ok(Layout::Scatter(mapper.map_pinned(cut, GFP_KERNEL)?))
}

/// Returns the addresses of `memory` on a bus, where they are `offset` more than for the CPU.
fn on_bus<M: Memory>(memory: &M, offset: u64) -> Result<Layout> {
    let mut vecs = KVVec::new();
    for phyr in segments(memory, Limits::NONE) {
        let phyr = phyr?;
        let addr = DmaAddr::from_raw(phyr.paddr().into_raw().wrapping_add(offset));
        vecs.push(DmaVec::new(addr, phyr.len()), GFP_KERNEL)?;
    }
    Ok(Layout::Bus(vecs))
}

/// Returns a mapper for an importer's device that makes ranges as long as possible: the limits of
/// the device are for the entries of the table, which are cut afterwards.
fn mapper(dev: &'static Device<Bound>) -> Result<Mapper<'static>> {
    if !does_dma(dev) {
        return Err(EINVAL);
    }
    let mapper = Mapper::new(dev, Limits::NONE)?;
    let max = mapper.max_mapping_size();
    if max == usize::MAX {
        return Ok(mapper);
    }
    // The device bounces: a range is at most what one bounce buffer holds, in whole pages.
    // CAST: A `usize` is at most 64 bits wide.
    let max = (max & !(PAGE_SIZE - 1)) as u64;
    Mapper::new(dev, Limits::NONE.with_max_segment(max).ok_or(EINVAL)?)
}
