// SPDX-License-Identifier: GPL-2.0

//! The one decision: by which strategy memory is mapped.
//!
//! [`choose`] is asked with all that decides it, and its `match` is the table of
//! Documentation/design.rst, which a test compares with it. It is asked twice for memory that may
//! have gaps: with what its source knows beforehand, and with the plan. Each strategy is carried
//! out by one function of `exec.rs`.
//!
//! Plain Rust, without a kernel call.

/// The way in which a device gets at memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// On the direct map or by bounce buffers; also behind an IOMMU where nothing is to be joined.
    Direct,
    /// Through an IOMMU, which joins.
    Iommu {
        /// Several runs may share a range of IOVA: the device may see whole granules, and nothing
        /// has to be synchronised by hand.
        packs: bool,
    },
    /// Behind an IOMMU, after an IOVA range could not be allocated.
    NoSpace,
}

/// The memory that is to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One phyr.
    One,
    /// Several phyrs that are one run: an IOMMU joins all of them.
    Run,
    /// Several phyrs with gaps between them, or that a limit of the device cuts.
    Gaps {
        /// All runs are within the device's limits when they are packed into one IOVA range.
        fit: bool,
    },
}

/// The way in which memory is mapped, and so the way in which the mapping ends.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// Nothing is mapped.
    Unmapped,
    /// One phyr by itself, see [`IovaSpace::map_phys`](crate::space::IovaSpace::map_phys): one
    /// `dma_map_phys()`, or where the IOTLB is flushed for several mappings together, an IOVA range
    /// for just this phyr.
    Single,
    /// One IOVA range, linked phyr by phyr, one flush.
    Joined,
    /// One IOVA range that holds all runs, one flush.
    Packed,
    /// An IOVA range a run, `dma_map_phys()` for a run of one phyr.
    Runs,
    /// One `dma_map_phys()` a phyr.
    Each,
}

/// Chooses the strategy.
#[inline(always)]
pub(crate) const fn choose(reach: Reach, shape: Shape) -> Strategy {
    match (reach, shape) {
        (_, Shape::One) => Strategy::Single,
        (Reach::Direct | Reach::NoSpace, _) => Strategy::Each,
        (Reach::Iommu { .. }, Shape::Run) => Strategy::Joined,
        (Reach::Iommu { packs: true }, Shape::Gaps { fit: true }) => Strategy::Packed,
        (Reach::Iommu { .. }, Shape::Gaps { .. }) => Strategy::Runs,
    }
}
