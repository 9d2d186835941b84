// SPDX-License-Identifier: GPL-2.0

//! How the CPU gets at a buffer: from the kernel ([`CpuAccess`]), and from user space (`mmap()`).
//!
//! Each access is between `dma_buf_begin_cpu_access()`, which waits for what devices were asked to
//! do before and makes what they wrote visible, and `dma_buf_end_cpu_access()`.

use super::{
    peer::BarMemory,
    DmaBuf, //
};
use crate::bindings as helpers;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    memory::{
        vmap_pages,
        Memory,
        PageMemory, //
    },
    DataDirection,
    Phyr, //
};

/// Whether the CPU can get at memory of the type `M` through a dma-buf: [`Paged`] or [`Unpaged`];
/// [`Peer`](super::Peer) if it is memory of a device.
pub trait Cpu<M: Memory>: private::Sealed + 'static {
    #[doc(hidden)]
    const PAGED: bool;

    #[doc(hidden)]
    fn vmap(memory: &M, _: private::Token) -> Result<NonNull<u8>>;

    /// The memory, if it is another device's.
    #[doc(hidden)]
    fn peer(memory: &M) -> Option<&BarMemory> {
        let _ = memory;
        None
    }
}

pub(super) mod private {
    pub trait Sealed {}

    /// Nobody else can call what takes one.
    pub struct Token;

    impl Sealed for super::Paged {}
    impl Sealed for super::Unpaged {}
    impl Sealed for super::super::Peer {}
}

/// The memory is pages: user space may map it (`mmap()`), and so may importers (`vmap()`).
pub struct Paged;

/// Only devices get at the memory.
pub struct Unpaged;

impl<M: PageMemory> Cpu<M> for Paged {
    const PAGED: bool = true;

    fn vmap(memory: &M, _: private::Token) -> Result<NonNull<u8>> {
        vmap_pages(memory)
    }
}

impl<M: Memory> Cpu<M> for Unpaged {
    const PAGED: bool = false;

    fn vmap(_memory: &M, _: private::Token) -> Result<NonNull<u8>> {
        Err(EOPNOTSUPP)
    }
}

/// A part of a user mapping that is to be filled, from a place in the buffer on.
///
/// # Invariants
///
/// `vma` is one that is being set up; `[addr, end)` is the part of it that shows nothing yet.
pub(super) struct UserRange {
    vma: *mut bindings::vm_area_struct,
    addr: usize,
    end: usize,
    /// Bytes of the buffer that come before.
    skip: usize,
}

impl UserRange {
    /// All of `vma`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: it is private: a copy on write of memory that devices write makes no sense.
    ///
    /// # Safety
    ///
    /// `vma` is being set up by `mmap()` of a dma-buf.
    pub(super) unsafe fn new(vma: *mut bindings::vm_area_struct) -> Result<Self> {
        // SAFETY: `vma` is valid and ours for now.
        unsafe {
            if !helpers::phyr_dma_buf_helper_vma_is_shared(vma) {
                return Err(EINVAL);
            }
            // INVARIANT: nothing has been mapped.
            Ok(Self {
                vma,
                addr: (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_start,
                end: (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_end,
                skip: (*vma).vm_pgoff.checked_mul(PAGE_SIZE).ok_or(EINVAL)?,
            })
        }
    }

    /// Whether all of it shows memory.
    pub(super) fn is_full(&self) -> bool {
        self.addr == self.end
    }

    /// Shows what of `phyr`, the next of the buffer, belongs here: `remap_pfn_range()`.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no page table.
    ///
    /// # Safety
    ///
    /// The memory of `phyr` is whole pages of the buffer, which live as long as it does, and may
    /// be seen by who maps it.
    pub(super) unsafe fn fill(&mut self, phyr: Phyr) -> Result {
        let skipped = self.skip.min(phyr.len());
        self.skip -= skipped;
        let len = (phyr.len() - skipped).min(self.end - self.addr);
        if len == 0 {
            return Ok(());
        }
        // CAST: a `usize` is at most 64 bits wide.
        let pfn = (phyr.paddr().into_raw() + skipped as u64) / PAGE_SIZE as u64;
        fail::at(Point::remap_pfn_range)?;
        // SAFETY: by the type invariant the range is part of `vma`, which is being set up, and
        // shows nothing. A user mapping holds the file of the buffer, and so the pages.
        // CAST: a frame number fits in an `unsigned long`.
        to_result(unsafe {
            let prot = (*self.vma).vm_page_prot;
            bindings::remap_pfn_range(self.vma, self.addr, pfn as usize, len, prot)
        })?;
        // INVARIANT: just mapped.
        self.addr += len;
        Ok(())
    }
}

/// The kernel's turn with a buffer, as one range of its address space. See [`DmaBuf::cpu`].
///
/// # Invariants
///
/// `map` is what `dma_buf_vmap()` gave, between begin and end of an access in the direction `dir`.
pub struct CpuAccess {
    buf: ARef<DmaBuf>,
    map: bindings::iosys_map,
    dir: DataDirection,
}

// SAFETY: the range is the same for every thread.
unsafe impl Send for CpuAccess {}

impl DmaBuf {
    /// Gives the CPU access to the buffer until the returned guard is dropped.
    ///
    /// `dir` is as in `DMA_BUF_IOCTL_SYNC`: from the device is for reading, to the device for
    /// writing. A driver has its device wait meanwhile.
    ///
    /// Context: process context, may sleep. Not with the buffer's reservation lock.
    ///
    /// # Errors
    ///
    /// - `EACCES`: `dir` says to write and the file was not opened for it, or to read, as well.
    /// - `ENODEV`: the buffer is revoked.
    /// - `EINVAL`: its exporter offers no such access.
    /// - `ENOMEM`: no memory, or no room in the address space.
    /// - `ERESTARTSYS`: a signal came.
    /// - What else its exporter fails with.
    pub fn cpu(&self, dir: DataDirection) -> Result<CpuAccess> {
        // The CPU's part in the transfer is the other one.
        self.check_access(match dir {
            DataDirection::ToDevice => DataDirection::FromDevice,
            DataDirection::FromDevice => DataDirection::ToDevice,
            dir => dir,
        })?;
        fail::at(Point::dma_buf_begin_cpu_access)?;
        // SAFETY: the dma-buf is valid.
        to_result(unsafe { bindings::dma_buf_begin_cpu_access(self.as_raw(), dir.into()) })?;

        let mut map = bindings::iosys_map::default();
        let mapped = fail::at(Point::dma_buf_vmap_unlocked).and_then(|()| {
            // SAFETY: the dma-buf is valid and `map` may be written.
            to_result(unsafe { bindings::dma_buf_vmap_unlocked(self.as_raw(), &mut map) })
        });
        if let Err(e) = mapped {
            self.end_cpu_access(dir);
            return Err(e);
        }
        // INVARIANT: just begun and mapped.
        Ok(CpuAccess {
            buf: self.into(),
            map,
            dir,
        })
    }

    fn end_cpu_access(&self, dir: DataDirection) {
        // SAFETY: the dma-buf is valid. It may fail, but there is nothing that could be done.
        let _ = unsafe { bindings::dma_buf_end_cpu_access(self.as_raw(), dir.into()) };
    }
}

impl CpuAccess {
    fn check(&self, offset: usize, len: usize, other: DataDirection) -> Result {
        if self.dir == other {
            return Err(EACCES);
        }
        match offset.checked_add(len) {
            Some(end) if end <= self.buf.size() => Ok(()),
            _ => Err(EINVAL),
        }
    }

    /// Copies from the buffer at `offset` to `to`.
    ///
    /// # Errors
    ///
    /// - `EACCES`: the access is for writing only.
    /// - `EINVAL`: the buffer ends before.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.check(offset, to.len(), DataDirection::ToDevice)?;
        // SAFETY: by the type invariant the buffer is mapped, and the bytes are within it; `to`
        // may be written.
        unsafe {
            helpers::phyr_dma_buf_helper_iosys_map_read(
                to.as_mut_ptr().cast(),
                &self.map,
                offset,
                to.len(),
            )
        };
        Ok(())
    }

    /// Copies `from` to the buffer at `offset`.
    ///
    /// # Errors
    ///
    /// - `EACCES`: the access is for reading only.
    /// - `EINVAL`: the buffer ends before.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.check(offset, from.len(), DataDirection::FromDevice)?;
        // SAFETY: as above; `from` may be read.
        unsafe {
            helpers::phyr_dma_buf_helper_iosys_map_write(
                &mut self.map,
                offset,
                from.as_ptr().cast(),
                from.len(),
            )
        };
        Ok(())
    }
}

impl Drop for CpuAccess {
    fn drop(&mut self) {
        // SAFETY: by the type invariant this is mapped, and is not used again.
        unsafe { bindings::dma_buf_vunmap_unlocked(self.buf.as_raw(), &mut self.map) };
        self.buf.end_cpu_access(self.dir);
    }
}
