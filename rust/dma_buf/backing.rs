// SPDX-License-Identifier: GPL-2.0

//! The exporter of a buffer with its memory, behind one type for all exporters.

use crate::{
    bar::BarMemory,
    exporter::{
        AttachmentRef,
        CpuMapping,
        Exporter, //
    },
    mapped::DeviceMapping,
    mmap::UserRange,
    route::Route, //
};
use core::{
    any::Any,
    ptr::NonNull, //
};
use kernel::prelude::*;
use phyr::{
    memory::Memory,
    DataDirection, //
};

/// The exporter and the memory of a buffer.
pub(crate) struct Backing<E: Exporter> {
    // Dropped in this order: the exporter may know of its memory.
    pub(crate) exporter: E,
    pub(crate) memory: E::Memory,
}

/// A [`Backing`] of any exporter. The operations that C calls are the same for all of them, as
/// their address is what tells a buffer of this crate from others.
pub(crate) trait AnyBacking: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn exporter(&self) -> &dyn Exporter;

    /// Returns the memory if it is that of a BAR.
    fn bar_memory(&self) -> Option<&BarMemory>;

    /// Maps the memory for the device of `attachment`.
    ///
    /// # Safety
    ///
    /// `self` outlives the returned value, and DMA of the device may be mapped for as long.
    unsafe fn map(
        &self,
        attachment: &AttachmentRef<'_>,
        dir: DataDirection,
    ) -> Result<DeviceMapping>;

    /// Maps the memory into `range`.
    fn mmap(&self, range: &mut UserRange) -> Result;

    /// Maps the memory into the kernel's address space, for `vunmap_pages()` to undo.
    fn vmap(&self) -> Result<NonNull<u8>>;
}

impl<E: Exporter> AnyBacking for Backing<E> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn exporter(&self) -> &dyn Exporter {
        &self.exporter
    }

    fn bar_memory(&self) -> Option<&BarMemory> {
        let memory: &dyn Any = &self.memory;
        memory.downcast_ref()
    }

    unsafe fn map(
        &self,
        attachment: &AttachmentRef<'_>,
        dir: DataDirection,
    ) -> Result<DeviceMapping> {
        let bus_offset = self
            .bar_memory()
            .filter(|_| attachment.route() == Route::Bus)
            .map(BarMemory::bus_offset);
        // SAFETY: The caller promises that `self`, and so the memory, outlives the mapping, and
        // that DMA of the device may be mapped.
        unsafe { DeviceMapping::new(attachment.device(), &self.memory, dir, bus_offset) }
    }

    fn mmap(&self, range: &mut UserRange) -> Result {
        if !E::CpuMapping::MMAP_VMAP {
            return Err(EOPNOTSUPP);
        }
        for phyr in self.memory.phyrs() {
            // SAFETY: The memory is the buffer's. It is pages, as `MmapVmap` takes nothing else.
            unsafe { range.fill(phyr?) }?;
            if range.is_full() {
                return Ok(());
            }
        }
        Err(EINVAL)
    }

    fn vmap(&self) -> Result<NonNull<u8>> {
        E::CpuMapping::vmap(&self.memory)
    }
}
