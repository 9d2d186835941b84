// SPDX-License-Identifier: GPL-2.0

//! Linear: one DMA mapping of these pages, or the reason why not.
//!
//! [`Mapper::linear`] takes memory, wherever its pages are, and gives the device exactly one
//! [`DmaVec`] for all of it. It plans first (`linear/plan.rs`), and refuses with a [`NotLinear`]
//! before anything is allocated:
//!
//! | device | memory | mapped as |
//! |---|---|---|
//! | not translated | physically contiguous | one `dma_map_phys()` |
//! | IOMMU | joins at granules | one IOVA range, linked phyr by phyr, one flush |
//! | any | else | a reason |
//!
//! A copy never passes for the memory: what would be bounced is refused. Who wants a copy asks for
//! it: [`Mapper::linear_copy`].
//!
//! CPU and device access the memory in turns. For a ring, which both access at any time, use
//! [`kernel::dma::Coherent`].
//!
//! A mapping keeps a few words, however many pages there are, and its length is a `usize`.

mod copy;
mod plan;
#[cfg(CONFIG_KUNIT = "y")]
mod plan_test;
mod reason;

pub use self::{
    copy::{
        DeviceTurn,
        LinearCopy, //
    },
    reason::{
        Edge,
        Limit,
        NotLinear, //
    },
};

use self::plan::{
    Demand,
    LinearPlanner,
    Shape, //
};
use super::{
    bindings,
    mapper::Mapper,
    mapping::CpuAccess,
    memory::{
        Kind,
        Memory, //
    },
    not_mapped::NotMapped,
    ops::{
        self,
        Closed,
        IovaRange,
        Mode, //
    },
    plan::Limits,
    raw,
    source::{
        Segments,
        Source, //
    },
    trace,
    types::{
        DmaAddr,
        DmaVec,
        PhysAddr, //
    },
};
use core::{
    mem::ManuallyDrop,
    ptr, //
};
use kernel::{
    dma::DataDirection,
    prelude::*,
    ptr::Alignment, //
};

/// Memory that is mapped for a device as one range.
///
/// The CPU gets at it through [`Linear::cpu`] only. If it is leaked, the memory is never freed, and
/// stays mapped for as long as the device has its IOMMU domain.
///
/// # Invariants
///
/// `mapped` is that of a mapping of `memory` by `mapper`.
pub struct Linear<'bound, M: Memory> {
    mapper: Mapper<'bound>,
    mapped: Mapped,
    memory: M,
}

impl<'bound> Mapper<'bound> {
    /// Maps `memory`, which the mapping owns from now on, as one range.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// The memory comes back, and nothing is left mapped; [`NotLinear`] has the reasons, each with
    /// an errno of its own. [`NotLinear::Failed`] with `EINVAL`: `dir` is [`DataDirection::None`].
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{prelude::*, ptr::Alignment};
    /// use phyr::{linear::Linear, memory::Pages, DataDirection, Mapper};
    ///
    /// /// A frame that the device wants in one piece, at a multiple of 64 KiB.
    /// fn frame<'bound>(mapper: &Mapper<'bound>) -> Result<Linear<'bound, Pages>> {
    ///     let pages = Pages::zeroed(1 << 20, GFP_KERNEL)?;
    ///     let align = Alignment::new::<65536>();
    ///     match mapper.linear_aligned(pages, DataDirection::FromDevice, align) {
    ///         Ok(frame) => Ok(frame),
    ///         Err(refused) => {
    ///             dev_err!(mapper.device(), "no frame: {}\n", refused.reason);
    ///             Err(refused.into())
    ///         }
    ///     }
    /// }
    /// ```
    pub fn linear<M: Memory>(
        &self,
        memory: M,
        dir: DataDirection,
    ) -> Result<Linear<'bound, M>, NotMapped<M, NotLinear>> {
        self.linear_aligned(memory, dir, Alignment::new::<1>())
    }

    /// As [`Mapper::linear`], at a DMA address that is a multiple of `align`.
    ///
    /// More IOVA space than the memory needs is taken where it is shorter than `align`.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::linear`], among them [`NotLinear::Alignment`].
    pub fn linear_aligned<M: Memory>(
        &self,
        memory: M,
        dir: DataDirection,
        align: Alignment,
    ) -> Result<Linear<'bound, M>, NotMapped<M, NotLinear>> {
        // SAFETY: by the contract of `Memory` it yields the same every time, of its kind, stays
        // where it is for as long as `memory` exists, and a device may access all of it. The
        // mapping owns `memory`.
        match unsafe { self.linear_into(|| memory.phyrs(), M::KIND, dir, align) } {
            // INVARIANT: just mapped so.
            Ok(mapped) => Ok(Linear {
                mapper: self.clone(),
                mapped,
                memory,
            }),
            Err(reason) => Err(NotMapped::new(memory, reason)),
        }
    }

    /// Maps what `source` yields as one range; for libraries that keep the memory themselves.
    ///
    /// `source` is called twice: to plan, and to map.
    ///
    /// Context: any; allocates no memory of its own and does not sleep.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::linear`].
    ///
    /// # Safety
    ///
    /// - `source` yields the same every time.
    /// - Until the mapping has ended by [`Mapper::unmap_linear`] the memory stays allocated; it is
    ///   of the kind `kind`, and such as the device may access in the direction `dir`.
    pub unsafe fn linear_into<S: Source>(
        &self,
        source: impl Fn() -> S,
        kind: Kind,
        dir: DataDirection,
        align: Alignment,
    ) -> Result<Mapped, NotLinear> {
        self.check_domain().map_err(NotLinear::Failed)?;
        let mode = Mode::new(dir, kind).map_err(NotLinear::Failed)?;
        let mut planner = LinearPlanner::new(self.demand(align));
        for phyr in source() {
            planner.push(phyr.map_err(NotLinear::Failed)?)?;
        }
        let mapped = match planner.finish(|paddr| self.to_dma(paddr))? {
            // SAFETY: the phyrs are physically contiguous, from `start` on; the rest is what the
            // caller guarantees.
            Shape::Direct { start, len } => unsafe { self.map_direct(start, len, mode) },
            Shape::Range {
                start,
                len,
                reserve,
            } => {
                let start = PhysAddr::from_raw(start);
                let reserve = usize::try_from(reserve).map_err(|_| NotLinear::Overflow)?;
                let range =
                    IovaRange::try_alloc(self, start, reserve, mode).ok_or(NotLinear::NoSpace)?;
                // SAFETY: the phyrs join at granules as the planner found, and the range is for
                // just them; the rest is what the caller guarantees.
                unsafe { self.link_all(range, len, source(), align) }
            }
        }?;
        if trace::map_enabled() {
            // CAST: joined phyrs of a mapping are counted in 32 bits.
            let phyrs = Segments::new(source(), Limits::NONE).count() as u32;
            let ranges = u32::from(mapped.range.is_some());
            trace::linear(self, phyrs, mapped.vec.len() as u64, ranges);
        }
        Ok(mapped)
    }

    /// Ends the mapping `mapped`.
    ///
    /// Context: any; does not sleep.
    ///
    /// # Safety
    ///
    /// - `mapped` comes from [`Mapper::linear_into`] of this mapper.
    /// - The device is done with the memory.
    pub unsafe fn unmap_linear(&self, mapped: Mapped) {
        let vec = mapped.vec;
        // SAFETY: by the invariant of `Mapped` this was mapped so, and is not unmapped again.
        unsafe {
            match mapped.range {
                Some(range) => ops::destroy(self, range, vec.len(), mapped.mode),
                None => ops::unmap_phys(self, vec.addr(), vec.len(), mapped.mode),
            }
        }
    }

    /// What the planner has to know of the device.
    fn demand(&self, align: Alignment) -> Demand {
        let dev = raw::device(self.device());
        let granule = self.granule();
        Demand {
            granule,
            limits: *self.limits(),
            // CAST: a `usize` is at most 64 bits wide.
            max_len: self.max_mapping_size() as u64,
            first: self.window().map_or(0, |space| space.first()),
            mask: self.last_addr(),
            bounces: match granule {
                Some(_) => !self.is_trusted(),
                // SAFETY: the device is valid.
                None => unsafe { bindings::phyr_helper_dma_bounces(dev) },
            },
            // CAST: as above.
            align: align.as_usize() as u64,
        }
    }

    /// The DMA address of a physical address where nothing translates, or all ones.
    fn to_dma(&self, paddr: u64) -> u64 {
        // SAFETY: the device is valid.
        unsafe { bindings::phyr_helper_phys_to_dma(raw::device(self.device()), paddr) }
    }

    /// # Safety
    ///
    /// Those of [`ops::map_phys`].
    unsafe fn map_direct(&self, start: u64, len: u64, mode: Mode) -> Result<Mapped, NotLinear> {
        let len = usize::try_from(len).map_err(|_| NotLinear::Overflow)?;
        // SAFETY: by the requirements of this function.
        let addr = unsafe { ops::map_phys(self, PhysAddr::from_raw(start), len, mode) }
            // Nothing is allocated but for a copy.
            .map_err(|_| NotLinear::Bounced)?;

        // A copy is elsewhere. The DMA API may make one for reasons that it does not tell.
        if addr.into_raw() != self.to_dma(start) {
            // SAFETY: just mapped; the device never learned of it.
            unsafe { ops::unmap_phys(self, addr, len, mode) };
            return Err(NotLinear::Bounced);
        }
        // INVARIANT: just mapped so.
        Ok(Mapped {
            vec: DmaVec::new(addr, len),
            range: None,
            mode,
        })
    }

    /// # Safety
    ///
    /// The memory of `source` is as [`Mapper::linear_into`] asks; its phyrs join, and `range` was
    /// allocated for their `len` bytes.
    unsafe fn link_all<S: Source>(
        &self,
        mut range: IovaRange<'_>,
        len: u64,
        source: S,
        align: Alignment,
    ) -> Result<Mapped, NotLinear> {
        // That an allocation is aligned to its length is how the allocator of the DMA API works,
        // not what it promises.
        // CAST: a `usize` is at most 64 bits wide.
        let (addr, align) = (range.addr().into_raw(), align.as_usize() as u64);
        if addr % align != 0 || len > self.limits().room(addr) {
            return Err(NotLinear::NoSpace);
        }
        let failed = |e| match e {
            ENOMEM => NotLinear::NoMemory,
            e => NotLinear::Failed(e),
        };
        // SAFETY: by the requirements of this function.
        unsafe { range.link_all(Segments::new(source, Limits::NONE)) }.map_err(failed)?;
        // For the same reasons, of a part of a granule.
        if range.is_bounced() {
            return Err(NotLinear::Bounced);
        }
        range.sync().map_err(failed)?;

        let (len, mode) = (range.linked(), range.mode());
        let range = range.close();
        // INVARIANT: the range is linked up to `len`.
        Ok(Mapped {
            vec: DmaVec::new(range.addr, len),
            range: Some(range),
            mode,
        })
    }
}

impl<'bound, M: Memory> Linear<'bound, M> {
    /// The one range that the device sees.
    #[inline]
    pub fn dma_vec(&self) -> DmaVec {
        self.mapped.vec
    }

    /// In which direction the memory is mapped.
    #[inline]
    pub fn direction(&self) -> DataDirection {
        self.mapped.mode.direction()
    }

    /// Hands the memory over to the CPU until the returned guard is dropped.
    ///
    /// The device must not access it meanwhile: the driver has it wait.
    ///
    /// Context: any.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: the caches of the device are kept in step by hand, and the DMA API cannot do
    ///   that for a range that was linked. End the mapping instead.
    pub fn cpu(&mut self) -> Result<CpuAccess<'_, M>> {
        if self.mapped.range.is_some() && !self.mapper.is_coherent() {
            return Err(EOPNOTSUPP);
        }
        // SAFETY: by the type invariant.
        Ok(unsafe { CpuAccess::linear(&self.mapper, &self.mapped, &mut self.memory) })
    }

    /// Ends the mapping and gives the memory back. The device must be done with it.
    ///
    /// Context: any, unless it is the last of its mapper in a domain of the driver's own.
    pub fn unmap(self) -> M {
        let this = ManuallyDrop::new(self);

        // SAFETY: `this` is not used again, nor dropped; each field is taken out once.
        let (mapper, mapped, memory) = unsafe {
            (
                ptr::read(&this.mapper),
                ptr::read(&this.mapped),
                ptr::read(&this.memory),
            )
        };
        // SAFETY: by the type invariant; that the device is done is the driver's part.
        unsafe { mapper.unmap_linear(mapped) };
        memory
    }
}

impl<M: Memory> Drop for Linear<'_, M> {
    fn drop(&mut self) {
        // SAFETY: `self.mapped` is not used again.
        let mapped = unsafe { ptr::read(&self.mapped) };
        // SAFETY: by the type invariant; that the device is done is the driver's part.
        unsafe { self.mapper.unmap_linear(mapped) };
    }
}

/// What the CPU remembers of a linear mapping, so that unmapping is exact.
///
/// It can be neither copied nor made by hand. One that is dropped leaves the mapping in place for
/// ever.
///
/// # Invariants
///
/// `vec` is mapped for `mode`: it is the linked part of `range`, from its beginning on, or was
/// mapped by `ops::map_phys`.
#[must_use = "a mapping whose state is lost is never taken down"]
pub struct Mapped {
    vec: DmaVec,
    range: Option<Closed>,
    mode: Mode,
}

impl Mapped {
    /// The one range that the device sees.
    #[inline]
    pub fn dma_vec(&self) -> DmaVec {
        self.vec
    }

    /// The range, if `dma_sync_*()` knows it.
    pub(crate) fn single(&self) -> Option<(DmaAddr, usize, Mode)> {
        match self.range {
            Some(_) => None,
            None => Some((self.vec.addr(), self.vec.len(), self.mode)),
        }
    }
}
