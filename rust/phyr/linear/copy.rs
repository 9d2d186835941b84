// SPDX-License-Identifier: GPL-2.0

//! Linearising by bouncing: a copy that is linear where the memory is not.
//!
//! Where no IOMMU can join pages, a device that needs one range can be given a contiguous buffer
//! instead, and the data be copied as the turn goes from the CPU to the device and back. That costs
//! a copy each way and memory of the same size, so it has a constructor and a type of its own:
//! [`Mapper::linear_copy`] makes a [`LinearCopy`], whose address only [`LinearCopy::hand_over`]
//! gives out.
//!
//! C: what `swiotlb_bounce()` ([`kernel/dma/swiotlb.c`](srctree/kernel/dma/swiotlb.c)) does for one
//! segment.

use super::error::{
    Limit,
    LinearError, //
};
use crate::{
    access::Access,
    fail::{
        self,
        Point, //
    },
    mapper::Mapper,
    memory::{
        check_access,
        check_pages,
        MapError,
        Memory, //
    },
    types::{
        DmaAddr,
        DmaVec, //
    }, //
};
use core::marker::PhantomData;
use kernel::{
    dma::{
        attrs::DMA_ATTR_NO_WARN,
        Coherent,
        DataDirection, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};

/// Memory, and a contiguous copy of it that a device can reach. It is the CPU's turn.
///
/// Dropping it may sleep.
pub struct LinearCopy<'bound, M: Memory> {
    /// The buffer is not there for longer than the driver is bound.
    _mapper: PhantomData<Mapper<'bound>>,
    /// Declared before the memory: the device's part goes first.
    buffer: Coherent<[u8]>,
    dir: DataDirection,
    /// The page by way of which one is copied to the other.
    page: KVec<u8>,
    memory: M,
}

impl<'bound> Mapper<'bound> {
    /// Makes a contiguous buffer that stands in for `memory`, which it owns from now on.
    ///
    /// A try of [`Mapper::linear`] should come first: this is for when that says
    /// [`LinearError::NotTranslated`].
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// The memory comes back.
    ///
    /// - [`LinearError::Empty`], [`LinearError::Limit`]: as for [`Mapper::linear`].
    /// - [`LinearError::NoMemory`]: there is no contiguous memory of that size, or no more memory.
    /// - [`LinearError::NoSpace`]: what there is lies across a boundary of the device.
    /// - [`LinearError::Failed`] with `EINVAL`: `dir` is [`DataDirection::None`]; with
    ///   `EOPNOTSUPP`: the mapper is in a domain of the driver's own, where there is nothing to
    ///   copy for; with `EACCES`: the device may not access the memory in that direction; with
    ///   `EBUSY`: the device is in a domain of its own, and the mapper is not.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::prelude::*;
    /// use phyr::{memory::Pages, DataDirection, DmaVec, Mapper};
    ///
    /// fn receive(mapper: &Mapper<'_>, run: impl Fn(DmaVec)) -> Result {
    ///     let pages = Pages::zeroed(65536, GFP_KERNEL)?;
    ///     let mut copy = mapper.linear_copy(pages, DataDirection::FromDevice)?;
    ///
    ///     let turn = copy.hand_over()?;
    ///     run(turn.dma_vec());
    ///     // ... wait for the device ...
    ///     turn.hand_back()?;
    ///
    ///     let mut header = [0; 16];
    ///     copy.read(0, &mut header)
    /// }
    /// ```
    pub fn linear_copy<M: Memory>(
        &self,
        memory: M,
        dir: M::Direction,
    ) -> Result<LinearCopy<'bound, M>, MapError<M, LinearError>> {
        let dir = dir.into();
        let buffer = check_access(&memory, Access::of(dir))
            .map_err(LinearError::Failed)
            .and_then(|()| self.copy_buffer(memory.len(), dir));
        match buffer {
            Ok((buffer, page)) => Ok(LinearCopy {
                _mapper: PhantomData,
                buffer,
                dir,
                page,
                memory,
            }),
            Err(reason) => Err(MapError::new(memory, reason)),
        }
    }

    fn copy_buffer(
        &self,
        len: usize,
        dir: DataDirection,
    ) -> Result<(Coherent<[u8]>, KVec<u8>), LinearError> {
        // CAST: a `usize` is at most 64 bits wide.
        let asked = len as u64;
        let limit = |limit, max| LinearError::Limit { limit, asked, max };
        let limits = self.limits();

        if dir == DataDirection::None {
            return Err(LinearError::Failed(EINVAL));
        }
        // The DMA API has no address in the domain for its buffer.
        if self.space().is_some() {
            return Err(LinearError::Failed(EOPNOTSUPP));
        }
        self.check_domain().map_err(LinearError::Failed)?;
        if len == 0 {
            return Err(LinearError::Empty);
        }
        if asked > limits.max_segment() {
            return Err(limit(Limit::Segment, limits.max_segment()));
        }
        if !limits.boundary_allows(asked) {
            return Err(limit(Limit::Boundary, limits.max_len_at(0)));
        }
        check_pages(len.div_ceil(PAGE_SIZE)).map_err(|_| LinearError::NoMemory)?;
        let page = KVec::from_elem(0, PAGE_SIZE.min(len), GFP_KERNEL)
            .map_err(|_| LinearError::NoMemory)?;
        fail::at(Point::dma_alloc_attrs).map_err(|_| LinearError::NoMemory)?;
        let (dev, attrs) = (self.device(), DMA_ATTR_NO_WARN);
        let buffer = Coherent::<u8>::zeroed_slice_with_attrs(dev, len, GFP_KERNEL, attrs)
            .map_err(|_| LinearError::NoMemory)?;

        // Pages are aligned to their number; a CMA area may not do as much.
        if asked > limits.max_len_at(buffer.dma_address()) {
            return Err(LinearError::NoSpace);
        }
        Ok((buffer, page))
    }
}

impl<'bound, M: Memory> LinearCopy<'bound, M> {
    /// Gives the device its turn: copies the memory to the buffer.
    ///
    /// It is copied in each direction. Bytes that a writing device leaves out are then still there
    /// when all of the buffer is copied back, as with the kernel's own bounce buffers.
    ///
    /// Context: that of [`Memory::read`].
    ///
    /// # Errors
    ///
    /// Those of [`Memory::read`].
    pub fn hand_over(&mut self) -> Result<DeviceTurn<'_, 'bound, M>> {
        let Self {
            buffer,
            page,
            memory,
            ..
        } = self;

        each_page(buffer, page, |offset, page, at| {
            memory.read(offset, page)?;
            // SAFETY: `at` has room for that many bytes of the buffer; it is the CPU's turn.
            unsafe { at.copy_from_nonoverlapping(page.as_ptr(), page.len()) };
            Ok(())
        })?;
        Ok(DeviceTurn { copy: self })
    }

    /// Copies from the memory at `offset` to `to`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the memory ends before.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.memory.read(offset, to)
    }

    /// Copies `from` to the memory at `offset`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the memory ends before.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.memory.write(offset, from)
    }

    /// Gives the memory back. The device must be done with the buffer.
    ///
    /// Context: may sleep.
    pub fn into_memory(self) -> M {
        self.memory
    }
}

/// The device's turn with a copy; see [`LinearCopy::hand_over`].
///
/// If it is dropped or leaked rather than handed back, what the device wrote is lost.
#[must_use = "what the device writes is lost unless its turn is handed back"]
pub struct DeviceTurn<'a, 'bound, M: Memory> {
    copy: &'a mut LinearCopy<'bound, M>,
}

impl<M: Memory> DeviceTurn<'_, '_, M> {
    /// Returns the one range that the device sees: a copy of the memory.
    pub fn dma_vec(&self) -> DmaVec {
        let buffer = &self.copy.buffer;
        DmaVec::new(DmaAddr::from_raw(buffer.dma_address()), buffer.size())
    }

    /// Gives the CPU its turn: copies what the device may have written to the memory.
    ///
    /// The device must be done with the buffer.
    ///
    /// Context: that of [`Memory::write`].
    ///
    /// # Errors
    ///
    /// Those of [`Memory::write`].
    pub fn hand_back(self) -> Result {
        let LinearCopy {
            buffer,
            dir,
            page,
            memory,
            ..
        } = self.copy;

        if *dir == DataDirection::ToDevice {
            return Ok(());
        }
        each_page(buffer, page, |offset, page, at| {
            // SAFETY: `at` points at that many bytes of the buffer. A device that is not done
            // may write meanwhile; any byte is a `u8`.
            unsafe { at.copy_to_nonoverlapping(page.as_mut_ptr(), page.len()) };
            memory.write(offset, page)
        })
    }
}

/// Calls `f` for each piece of `buffer` that fits in `page`, with its offset, as much of `page`,
/// and where it is.
fn each_page(
    buffer: &Coherent<[u8]>,
    page: &mut [u8],
    mut f: impl FnMut(usize, &mut [u8], *mut u8) -> Result,
) -> Result {
    let (start, len) = (buffer.as_mut_ptr().cast::<u8>(), buffer.size());

    for offset in (0..len).step_by(page.len().max(1)) {
        let nr = page.len().min(len - offset);
        let page = page.get_mut(..nr).ok_or(EINVAL)?;
        f(offset, page, start.wrapping_add(offset))?;
    }
    Ok(())
}
