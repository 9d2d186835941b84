// SPDX-License-Identifier: GPL-2.0

//! Linear: one DMA mapping of these pages, or the reason why not.
//!
//! [`Mapper::linear`] takes memory, wherever its pages are, and gives the device exactly one
//! [`DmaVec`] for all of it. It plans first (`linear/plan.rs`), and refuses with a [`LinearError`]
//! before anything is allocated. Documentation/design.rst has a table of what becomes one range.
//!
//! A copy never passes for the memory: memory that would be bounced is refused. A caller that wants
//! a copy asks for it: [`Mapper::linear_copy`].
//!
//! CPU and device access the memory in turns. For a ring, which both access at any time, use
//! [`kernel::dma::Coherent`].
//!
//! A mapping keeps a few words, however many pages there are, and its length is a `usize`.

mod copy;
mod error;
#[cfg(CONFIG_KUNIT = "y")]
mod model;
mod plan;
#[cfg(CONFIG_KUNIT = "y")]
mod plan_test;

pub use self::{
    copy::{
        DeviceTurn,
        LinearCopy, //
    },
    error::{
        Edge,
        Limit,
        LinearError, //
    },
};

use self::plan::{
    Constraints,
    LinearPlan,
    LinearPlanner, //
};
use super::{
    access::Access,
    attrs::MapAttrs,
    device,
    limits::Limits,
    map::{
        choose::{
            choose,
            Shape,
            Strategy, //
        },
        dma_api::Space,
        mapping::{
            CpuAccess,
            InTurns, //
        },
        range::{
            Closed,
            IovaRange, //
        },
        state::Segment, //
    },
    mapper::Mapper,
    memory::{
        check_access,
        MapError,
        Memory, //
    },
    pinned::{
        Pinned,
        PinnedPhyr, //
    },
    source::{
        Segments,
        Source, //
    },
    space::{
        Iova,
        IovaSpace,
        Single, //
    },
    trace,
    types::{
        DmaVec,
        Granule,
        Phyr,
        PhysAddr, //
    },
};
use core::{
    borrow::Borrow,
    marker::PhantomData,
    mem::ManuallyDrop, //
};
use kernel::{
    dma::DataDirection,
    prelude::*,
    ptr::Alignment, //
};

/// Pinned memory that is mapped for a device as one range, whoever keeps it. Dropping it unmaps it.
///
/// `R` is a mapper, or a reference to one.
///
/// # Invariants
///
/// `vec` is mapped for `attrs` by `mapper`: it is the linked part of an IOVA range of the size
/// `range`, from its beginning on, or was mapped by itself.
pub struct PinnedLinear<'bound, R: Borrow<Mapper<'bound>> = Mapper<'bound>> {
    mapper: R,
    vec: DmaVec,
    range: Option<u64>,
    attrs: MapAttrs,
    _bound: PhantomData<&'bound ()>,
}

/// Memory that is mapped for a device as one range.
///
/// The CPU gets at it through [`Linear::cpu`] only. If it is leaked, the memory is never freed, and
/// stays mapped for as long as the device has its IOMMU domain.
///
/// # Invariants
///
/// `mapped` is a mapping of `memory`. It is declared first: it ends before the memory is freed.
pub struct Linear<'bound, M: Memory> {
    mapped: PinnedLinear<'bound>,
    memory: M,
}

impl<'bound> Mapper<'bound> {
    /// Maps `memory`, which the mapping owns from now on, as one range.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// The memory comes back, and nothing is left mapped; [`LinearError`] has the reasons, each
    /// with an errno of its own. [`LinearError::Failed`] with `EINVAL`: `dir` is
    /// [`DataDirection::None`]; with `EACCES`: the device may not access the memory in that
    /// direction.
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
    ///         Err(failed) => {
    ///             dev_err!(mapper.device(), "no frame: {}\n", failed.error);
    ///             Err(failed.into())
    ///         }
    ///     }
    /// }
    /// ```
    pub fn linear<M: Memory>(
        &self,
        memory: M,
        dir: M::Direction,
    ) -> Result<Linear<'bound, M>, MapError<M, LinearError>> {
        self.linear_aligned(memory, dir, Alignment::new::<1>())
    }

    /// Maps `memory` as [`Mapper::linear`] does, at a DMA address that is a multiple of `align`.
    ///
    /// More IOVA space than the memory needs is taken where it is shorter than `align`.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::linear`], among them [`LinearError::Alignment`].
    pub fn linear_aligned<M: Memory>(
        &self,
        memory: M,
        dir: M::Direction,
        align: Alignment,
    ) -> Result<Linear<'bound, M>, MapError<M, LinearError>> {
        let dir = dir.into();
        if let Err(error) = check_access(&memory, Access::of(dir)) {
            return Err(MapError::new(memory, LinearError::Failed(error)));
        }
        // SAFETY: by the contract of `Memory` it is of its kind, a device may access it with the
        // rights that were checked, and it stays where it is for as long as it exists, for ever if
        // it is leaked: with the mapping, which owns it.
        let pinned = unsafe { Pinned::new(memory.phyrs(), dir, M::KIND) };
        let mapped = pinned
            .map_err(LinearError::Failed)
            .and_then(|pinned| Ok(PinnedLinear::new(self, &pinned, align)?.owned()));
        match mapped {
            // INVARIANT: just mapped so.
            Ok(mapped) => Ok(Linear { mapped, memory }),
            Err(error) => Err(MapError::new(memory, error)),
        }
    }

    /// Maps `memory`, which the caller keeps, as one range, at a multiple of `align`.
    ///
    /// Its source is read twice: to plan, and to map.
    ///
    /// Context: any; allocates no memory of its own and does not sleep.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::linear_aligned`]. [`LinearError::Failed`] with `EINVAL`: the source does
    /// not yield the same twice.
    pub fn linear_pinned<S: Source>(
        &self,
        memory: &Pinned<S>,
        align: Alignment,
    ) -> Result<PinnedLinear<'bound, &Self>, LinearError> {
        PinnedLinear::new(self, memory, align)
    }

    /// Returns the constraints that the device puts on a linear mapping.
    fn constraints(&self, align: Alignment) -> Constraints {
        let granule = self.granule();
        Constraints {
            granule,
            limits: *self.limits(),
            // CAST: a `usize` is at most 64 bits wide.
            max_len: self.max_mapping_size() as u64,
            first: Space::of(self).first(),
            mask: self.last_addr(),
            bounces: match granule {
                Some(_) => !self.is_trusted(),
                None => device::always_bounces(self.device()),
            },
            // CAST: a `usize` is at most 64 bits wide.
            align: align.as_usize() as u64,
        }
    }
}

impl<'m, 'bound> PinnedLinear<'bound, &'m Mapper<'bound>> {
    /// Plans a mapping, and makes it.
    fn new<S: Source>(
        mapper: &'m Mapper<'bound>,
        memory: &Pinned<S>,
        align: Alignment,
    ) -> Result<Self, LinearError> {
        mapper.check_domain().map_err(LinearError::Failed)?;
        let mut planner = LinearPlanner::new(mapper.constraints(align));
        for phyr in memory.phyrs() {
            planner.push(phyr.map_err(LinearError::Failed)?.phyr())?;
        }
        let plan = planner.finish(|paddr| device::to_dma(mapper.device(), paddr))?;
        // By definition one phyr where nothing translates, and one run elsewhere.
        let shape = match plan {
            LinearPlan::Direct { .. } => Shape::One,
            LinearPlan::Range { .. } => Shape::Run,
        };
        let mapped = match (choose(mapper.reach(), shape), plan) {
            (
                Strategy::Joined,
                LinearPlan::Range {
                    start,
                    len,
                    reserve,
                },
            ) => {
                let range = (start, len, reserve);
                match Space::of(mapper) {
                    Space::DmaApi(api) => Self::joined(mapper, api, memory, range, align),
                    space => Self::joined(mapper, space, memory, range, align),
                }
            }
            (Strategy::Single, LinearPlan::Direct { start, len }) => {
                let len = usize::try_from(len).map_err(|_| LinearError::Overflow)?;
                let phyr = Phyr::new(PhysAddr::from_raw(start), len)
                    .map_err(|e| LinearError::Failed(e.into()))?;
                // SAFETY: the phyrs of the pinned memory adjoin, from `start` on, as the planner
                // found.
                Self::single(mapper, unsafe { PinnedPhyr::again(phyr) }, memory.attrs())
            }
            _ => Err(LinearError::Failed(EINVAL)),
        }?;
        if trace::map_enabled() {
            // CAST: joined phyrs of a mapping are counted in 32 bits.
            let phyrs = Segments::new(memory.source().phyrs(), Limits::NONE).count() as u32;
            let ranges = u32::from(mapped.range.is_some());
            trace::linear(mapper, phyrs, mapped.vec.len() as u64, ranges);
        }
        Ok(mapped)
    }

    /// Carries out [`Strategy::Single`]; a copy is refused.
    fn single(
        mapper: &'m Mapper<'bound>,
        phyr: PinnedPhyr,
        attrs: MapAttrs,
    ) -> Result<Self, LinearError> {
        let (start, len) = (phyr.phyr().paddr().into_raw(), phyr.phyr().len());
        let addr = Space::of(mapper)
            .map_phys(phyr, attrs)
            // Nothing is allocated but for a copy.
            .map_err(|_| LinearError::Bounced)?;
        // INVARIANT: just mapped so.
        let mapped = Self {
            mapper,
            vec: DmaVec::new(addr, len),
            range: None,
            attrs,
            _bound: PhantomData,
        };
        // A copy is elsewhere. The DMA API may make one for reasons that it does not tell.
        if addr.into_raw() != device::to_dma(mapper.device(), start) {
            return Err(LinearError::Bounced);
        }
        Ok(mapped)
    }

    /// Carries out [`Strategy::Joined`], in a range of `reserve` bytes, for the alignment.
    fn joined<A: IovaSpace + Copy, S: Source>(
        mapper: &'m Mapper<'bound>,
        space: A,
        memory: &Pinned<S>,
        (start, len, reserve): (u64, u64, u64),
        align: Alignment,
    ) -> Result<Self, LinearError> {
        let attrs = memory.attrs();
        let granule = mapper.granule().ok_or(LinearError::NoSpace)?;
        let reserve = usize::try_from(reserve).map_err(|_| LinearError::Overflow)?;
        let start = PhysAddr::from_raw(start);
        let mut range =
            IovaRange::alloc(space, granule, start, reserve, attrs).ok_or(LinearError::NoSpace)?;
        // That an allocation is aligned to its length is how the allocator of the DMA API works,
        // not what it promises.
        // CAST: a `usize` is at most 64 bits wide.
        let (addr, align) = (range.addr().into_raw(), align.as_usize() as u64);
        if addr % align != 0 || len > mapper.limits().max_len_at(addr) {
            return Err(LinearError::NoSpace);
        }
        let failed = |e| match e {
            ENOMEM => LinearError::NoMemory,
            e => LinearError::Failed(e),
        };
        let phyrs = as_planned(granule, start, memory.phyrs().joined());
        range.link_all(phyrs).map_err(failed)?;
        // CAST: a `usize` is at most 64 bits wide.
        if range.linked() as u64 != len {
            return Err(LinearError::Failed(EINVAL));
        }
        // For the same reasons, of a part of a granule.
        if range.is_bounced() {
            return Err(LinearError::Bounced);
        }
        range.sync().map_err(failed)?;

        let len = range.linked();
        let range = range.close();
        // INVARIANT: the range is linked up to `len`.
        Ok(Self {
            mapper,
            vec: DmaVec::new(range.addr, len),
            range: Some(range.size),
            attrs,
            _bound: PhantomData,
        })
    }

    /// Gives the mapping a mapper of its own.
    pub fn owned(self) -> PinnedLinear<'bound> {
        let this = ManuallyDrop::new(self);
        // INVARIANT: it is mapped by the mapper that this is a clone of, and `this` is forgotten.
        PinnedLinear {
            mapper: this.mapper.clone(),
            vec: this.vec,
            range: this.range,
            attrs: this.attrs,
            _bound: PhantomData,
        }
    }
}

/// Returns `phyrs`, with an error in the place of one that does not begin at `start`, or join the
/// one before: a source need not yield what was planned.
fn as_planned(
    granule: Granule,
    start: PhysAddr,
    phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
) -> impl Iterator<Item = Result<PinnedPhyr>> {
    let mut end = None;
    phyrs.map(move |pinned| {
        let pinned = pinned?;
        let phyr = pinned.phyr();
        let is_planned = match end.replace(phyr.end()) {
            None => phyr.paddr() == start,
            Some(end) => granule.joins(end, phyr.paddr().into_raw()),
        };
        if !is_planned {
            return Err(EINVAL);
        }
        Ok(pinned)
    })
}

impl<'bound, R: Borrow<Mapper<'bound>>> PinnedLinear<'bound, R> {
    /// Returns the one range that the device sees.
    #[inline]
    pub fn dma_vec(&self) -> DmaVec {
        self.vec
    }

    /// Names the range again, to end it or to synchronise it.
    fn reopen(&self) -> Segment {
        let (addr, len, attrs) = (self.vec.addr(), self.vec.len(), self.attrs);
        // INVARIANT: by the type invariant it is linked, or mapped, so.
        match self.range {
            Some(size) => Segment::Iova(Iova {
                state: Closed { addr, size }.state(),
                linked: len,
                attrs,
            }),
            None => Segment::Single(Single { addr, len, attrs }),
        }
    }
}

impl<'bound, R: Borrow<Mapper<'bound>> + Sync> InTurns for PinnedLinear<'bound, R> {
    // The DMA API knows no others.
    fn sync_for_cpu(&self) {
        if let Segment::Single(single) = self.reopen() {
            Space::of(self.mapper.borrow()).sync_for_cpu(&single);
        }
    }

    fn sync_for_device(&self) {
        if let Segment::Single(single) = self.reopen() {
            Space::of(self.mapper.borrow()).sync_for_device(&single);
        }
    }
}

impl<'bound, R: Borrow<Mapper<'bound>>> Drop for PinnedLinear<'bound, R> {
    fn drop(&mut self) {
        self.reopen().end(&Space::of(self.mapper.borrow()));
    }
}

impl<M: Memory> Linear<'_, M> {
    /// Returns the one range that the device sees.
    #[inline]
    pub fn dma_vec(&self) -> DmaVec {
        self.mapped.vec
    }

    /// Returns the direction in which the memory is mapped.
    #[inline]
    pub fn direction(&self) -> DataDirection {
        self.mapped.attrs.direction()
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
        if self.mapped.range.is_some() && !self.mapped.mapper.is_coherent() {
            return Err(EOPNOTSUPP);
        }
        Ok(CpuAccess::new(&self.mapped, &mut self.memory))
    }

    /// Ends the mapping and gives the memory back. The device must be done with it.
    ///
    /// Context: any, unless it is the last of its mapper in a domain of the driver's own.
    pub fn unmap(self) -> M {
        let Self { mapped, memory } = self;
        drop(mapped);
        memory
    }
}
