// SPDX-License-Identifier: GPL-2.0

//! Memory: vectors and boxes of the kernel's allocators.
//!
//! A device writes whatever bytes it likes, and reads all of them. So the elements must have no
//! padding ([`IntoBytes`]), and, unless no device may write them, hold any bytes ([`FromBytes`]):
//! numbers and arrays and structures of numbers, but neither references nor [`bool`].
//!
//! Memory of `vmalloc()` ([`VVec`], [`VBox`]) is whole pages. Memory of `kmalloc()` ([`KVec`],
//! [`KBox`]) shares its pages with other memory, and perhaps its cache lines, too: a device that is
//! not coherent would lose what the CPU writes to the rest of such a line. That is refused, with
//! [`SharedLine`].

use super::{
    lines::{
        check_lines,
        SharedLine, //
    },
    traits::{
        check_range,
        MapError,
        Memory, //
    }, //
};
use crate::{
    access::{
        Access,
        Direction,
        ToDevice, //
    },
    bindings,
    types::{
        Phyr,
        PhysAddr, //
    }, //
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::{
        copy_nonoverlapping,
        NonNull, //
    }, //
};
use kernel::{
    alloc::{
        allocator::{
            KVmalloc,
            Kmalloc,
            Vmalloc, //
        },
        Allocator,
        Box,
        Vec, //
    },
    dma::DataDirection,
    page::PAGE_SIZE,
    prelude::*, //
};
use zerocopy::Immutable;

/// A vector or a box of one of the kernel's allocators.
///
/// # Safety
///
/// [`Heap::start`] returns the address of an allocation of at least [`Heap::capacity`] bytes, by
/// `kmalloc()` or `vmalloc()`, of which the first [`Heap::size`] are elements, unless that is zero.
/// The memory may be read and written by it, and all three are the same, until the value is dropped
/// or accessed mutably, even if it is moved.
pub unsafe trait Heap: Send + 'static {
    /// The type of the elements.
    type Element;

    /// Returns the address of the first byte.
    fn start(&mut self) -> *mut u8;

    /// Returns the number of bytes of all elements.
    fn size(&self) -> usize;

    /// Returns the number of bytes that are allocated for elements.
    fn capacity(&self) -> usize;
}

// SAFETY: a vector owns an allocation of its capacity, and its elements are in the beginning of it.
// They are where they are until it is accessed mutably.
unsafe impl<T: Send + 'static, A: KernelAllocator> Heap for Vec<T, A> {
    type Element = T;

    fn start(&mut self) -> *mut u8 {
        self.as_mut_ptr().cast()
    }

    fn size(&self) -> usize {
        // Not by a slice, which promises that no device writes. There is an allocation of so many
        // bytes, so this does not overflow.
        self.len() * size_of::<T>()
    }

    fn capacity(&self) -> usize {
        // There is an allocation only for elements that have a size; then it is no longer than
        // `isize::MAX`.
        self.capacity().saturating_mul(size_of::<T>())
    }
}

// SAFETY: a box owns an allocation of one element's size.
unsafe impl<T: Send + 'static, A: KernelAllocator> Heap for Box<T, A> {
    type Element = T;

    fn start(&mut self) -> *mut u8 {
        core::ptr::from_mut::<T>(self).cast()
    }

    fn size(&self) -> usize {
        size_of::<T>()
    }

    fn capacity(&self) -> usize {
        size_of::<T>()
    }
}

/// An allocator by `kmalloc()`, `vmalloc()`, or either of them.
pub trait KernelAllocator: Allocator + private::Sealed + Send + 'static {}

impl KernelAllocator for Kmalloc {}
impl KernelAllocator for Vmalloc {}
impl KernelAllocator for KVmalloc {}

mod private {
    pub trait Sealed {}

    impl Sealed for super::Kmalloc {}
    impl Sealed for super::Vmalloc {}
    impl Sealed for super::KVmalloc {}
}

/// The bytes of a vector or a box, wherever in physical memory they are.
///
/// There is no slice of them while a device may write: a slice promises that nobody does, and a
/// device writes also while an `Arc` of the value is shared. The vector can be had again, with
/// [`Bytes::into_inner`], when the mapping has given the value back. Of [`Bytes::read_only`], which
/// no device writes, the vector can be read at any time.
///
/// Capacity beyond the length is not mapped, but for the rest of the last page: an IOMMU maps whole
/// granules.
///
/// # Examples
///
/// ```
/// use kernel::prelude::*;
/// use phyr::{memory::Bytes, DataDirection, Mapper, ToDevice};
///
/// fn exchange(mapper: &Mapper<'_>, table: VVec<u64>) -> Result<KVec<u8>> {
///     let table = mapper.map(Bytes::read_only(table)?, ToDevice, GFP_KERNEL)?;
///     let answer = KVec::from_elem(0u8, 4096, GFP_KERNEL)?;
///     let answer = mapper.map(Bytes::new(answer)?, DataDirection::FromDevice, GFP_KERNEL)?;
///     // ... wait for the device ...
///     drop(table);
///     Ok(answer.unmap().into_inner())
/// }
/// ```
///
/// # Invariants
///
/// - All bytes of the elements are initialised. If `D` allows devices to write, they may be any
///   bytes; otherwise a shared reference to them writes nothing.
/// - If the memory is of `vmalloc()`, the rest of the page of the last byte holds zeros, or what a
///   device has written there. If it is of `kmalloc()`, it is whole cache lines.
/// - `start` is that of `heap`, which is not accessed mutably.
pub struct Bytes<B, D = DataDirection> {
    heap: B,
    start: *mut u8,
    _directions: PhantomData<fn() -> D>,
}

// SAFETY: `start` is the address of what `heap` owns, which may be sent.
unsafe impl<B: Send, D> Send for Bytes<B, D> {}

// SAFETY: by a shared reference the bytes are only read, as are those of a `heap` that is shared.
unsafe impl<B: Sync, D> Sync for Bytes<B, D> {}

impl<B: Heap> Bytes<B>
where
    B::Element: FromBytes + IntoBytes,
{
    /// Takes a vector or a box. If it is of `vmalloc()`, the rest of its last page is zeroed.
    ///
    /// # Errors
    ///
    /// The value comes back.
    ///
    /// - [`SharedLine`], `EDOM`: other memory may be in its first or its last cache line.
    pub fn new(heap: B) -> Result<Self, MapError<B, SharedLine>> {
        Self::prepare(heap)
    }
}

impl<B: Heap> Bytes<B, ToDevice>
where
    B::Element: IntoBytes + Immutable,
{
    /// Takes a vector or a box that no device may write, as [`Bytes::new`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Bytes::new`].
    pub fn read_only(heap: B) -> Result<Self, MapError<B, SharedLine>> {
        Self::prepare(heap)
    }
}

impl<B: Heap, D: Direction> Bytes<B, D> {
    fn prepare(mut heap: B) -> Result<Self, MapError<B, SharedLine>> {
        let start = heap.start();
        // SAFETY: only the number is used.
        if !unsafe { kernel::bindings::is_vmalloc_addr(start.cast()) } {
            if let Err(shared) = check_lines(start.addr(), heap.capacity(), cache_line()) {
                return Err(MapError::new(heap, shared));
            }
        } else if let Some(last) = heap.size().checked_sub(1) {
            // SAFETY: by the contract of `Heap` there is a last byte.
            zero_rest(unsafe { NonNull::new_unchecked(start.add(last)) });
        }
        // INVARIANT: the elements are as the callers' bounds say; the rest was just looked after.
        // Nothing accesses `heap` mutably from here on.
        Ok(Self {
            heap,
            start,
            _directions: PhantomData,
        })
    }

    /// Returns the vector or the box, with what a device has written to it.
    pub fn into_inner(self) -> B {
        self.heap
    }
}

/// Returns the length of a cache line, of which memory of `kmalloc()` is to be whole ones.
///
/// On a machine on which all devices are coherent (`dma_get_cache_alignment()` is 1) it is a line
/// all the same: a driver that works there is to work on others, and DMA-API debugging asks for it.
fn cache_line() -> usize {
    // SAFETY: always allowed.
    unsafe { bindings::phyr_helper_cache_line() }
}

/// Zeroes the bytes after `last` in its page, which is of `vmalloc()` and owned by the caller.
///
/// By the page, not by the address: the allocation may end before the page does.
fn zero_rest(last: NonNull<u8>) {
    let used = last.addr().get() % PAGE_SIZE + 1;
    // SAFETY: the callers' address is one of `vmalloc()`, whose memory they own.
    let page = unsafe { Vmalloc::to_page(last) };
    // SAFETY: `vmalloc()` gives out whole pages, so this one is of no other memory, and after the
    // last element there is nothing that anybody accesses.
    let _within_the_page = unsafe { page.fill_zero_raw(used, PAGE_SIZE - used) };
}

/// The vector or box, which no device writes.
impl<B> Deref for Bytes<B, ToDevice> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.heap
    }
}

// SAFETY:
// - By the type invariant the bytes are initialised, and what else a granule of the IOMMU may hold
//   is nothing of earlier users, or memory of `kmalloc()` that a trusted device may see.
// - The allocation is owned by the value, does not move with it, and stays as it is: nothing here
//   takes the vector mutably but to write its elements.
// - Only this value gives access to it, by copies of raw pointers, until `into_inner` consumes it;
//   to memory that no device writes also by shared references.
unsafe impl<B: Heap, D: Direction> Memory for Bytes<B, D> {
    type Direction = D;

    type Phyrs<'a> = BytePieces<'a>;

    fn phyrs(&self) -> BytePieces<'_> {
        BytePieces {
            at: self.start,
            left: self.heap.size(),
            _heap: PhantomData,
        }
    }

    fn len(&self) -> usize {
        self.heap.size()
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        check_range(offset, to.len(), self.heap.size())?;
        // SAFETY: the bytes are within the elements, which are borrowed; a device may write
        // meanwhile, and any byte is a `u8`.
        unsafe { copy_nonoverlapping(self.start.add(offset), to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// # Errors
    ///
    /// - `EROFS`: no device may write the memory, so neither do bytes that are no elements.
    fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        if !D::ACCESS.contains(Access::WRITE) {
            return Err(EROFS);
        }
        check_range(offset, from.len(), self.heap.size())?;
        // SAFETY: the bytes are within the elements, which are borrowed mutably, and which may be
        // any bytes by the type invariant.
        unsafe { copy_nonoverlapping(from.as_ptr(), self.start.add(offset), from.len()) };
        Ok(())
    }
}

/// The pieces of [`Bytes`], a page each at the most.
#[derive(Clone)]
pub struct BytePieces<'a> {
    at: *mut u8,
    left: usize,
    _heap: PhantomData<&'a ()>,
}

impl Iterator for BytePieces<'_> {
    type Item = Result<Phyr>;

    #[inline]
    fn next(&mut self) -> Option<Result<Phyr>> {
        let len = self.left.min(PAGE_SIZE - self.at.addr() % PAGE_SIZE);
        if len == 0 {
            return None;
        }
        // SAFETY: by the contract of `Heap` the address is one of `kmalloc()` or `vmalloc()`.
        let paddr = unsafe { bindings::phyr_helper_virt_to_phys(self.at.cast()) };

        self.at = self.at.wrapping_add(len);
        self.left -= len;
        Some(Phyr::new(PhysAddr::from_raw(paddr), len).map_err(Into::into))
    }
}
