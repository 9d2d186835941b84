// SPDX-License-Identifier: GPL-2.0

//! Memory at an IOVA of a domain.

use super::{
    attach::AttachedDomain,
    error::DomainError,
    range::DomainRange, //
};
use kernel::{
    bindings::scatterlist,
    prelude::*,
    sync::Arc, //
};
use phyr::{
    memory::{
        check_access,
        segments,
        Memory, //
    },
    Access,
    DmaAddr,
    DmaVec,
    Granule,
    Limits,
    MapError,
    MemoryKind, //
};

/// Memory that is mapped in a domain.
///
/// Dropping it unmaps the memory, and may sleep. If it is leaked, the memory is never freed, and
/// stays mapped for as long as the domain exists.
///
/// # Invariants
///
/// All of `memory` is mapped at the beginning of `range`, and nothing else.
pub struct Mapping<'bound, M: Memory> {
    // Dropped first: the memory is freed after it was unmapped.
    range: DomainRange<'bound>,
    memory: M,
}

impl<'bound, M: Memory> Mapping<'bound, M> {
    /// Maps `memory`, at `iova` or else where large pages can be used.
    pub(super) fn new(
        domain: &Arc<AttachedDomain<'bound>>,
        memory: M,
        access: Access,
        iova: Option<DmaAddr>,
    ) -> Result<Self, MapError<M, DomainError>> {
        match map(domain, &memory, access, iova) {
            // INVARIANT: all of `memory` was mapped.
            Ok(range) => Ok(Self { range, memory }),
            Err(error) => Err(MapError::new(memory, error)),
        }
    }

    /// Returns the one range that the device sees.
    pub fn dma_vec(&self) -> DmaVec {
        DmaVec::new(DmaAddr::from_raw(self.range.iova()), self.range.mapped())
    }

    /// Ends the mapping, with a flush of the IOTLB, and gives the memory back. The device must be
    /// done with it.
    ///
    /// Context: process context, may sleep.
    pub fn unmap(self) -> M {
        let (range, memory) = self.into_parts();
        drop(range);
        memory
    }

    pub(super) fn domain(&self) -> &Arc<AttachedDomain<'bound>> {
        self.range.domain()
    }

    /// Returns the range in which the memory is mapped, and the memory, which may be freed when the
    /// device cannot access it through the range any more.
    pub(super) fn into_parts(self) -> (DomainRange<'bound>, M) {
        (self.range, self.memory)
    }
}

/// Most pieces that are mapped with one flush: for more, the scratch list would be too large.
const MAX_LIST: usize = 4096;

/// Allocates a range for `memory` and maps it there, all or nothing.
fn map<'bound, M: Memory>(
    domain: &Arc<AttachedDomain<'bound>>,
    memory: &M,
    access: Access,
    iova: Option<DmaAddr>,
) -> Result<DomainRange<'bound>, DomainError> {
    check_access(memory, access)?;
    let (len, pieces) = measure(memory, domain.granule)?;
    let mut list = KVVec::new();
    if pieces > 1 {
        list.extend_with(
            pieces.min(MAX_LIST),
            scatterlist::default(),
            GFP_KERNEL_ACCOUNT,
        )
        .map_err(Error::from)?;
    }
    let mut range = match iova {
        Some(iova) => DomainRange::at(domain, iova.into_raw(), len)?,
        None => DomainRange::for_pages(domain, len)?,
    };
    let pieces = segments(memory, Limits::NONE).map(|phyr| {
        let phyr = phyr?;
        Ok((phyr.paddr().into_raw(), phyr.len()))
    });
    let prot = access.prot(M::KIND == MemoryKind::Mmio);
    // SAFETY: the range is new. By the contract of `Memory` its phyrs are those that were measured,
    // in whole granules, and a device may access all of them, with the rights that were checked,
    // until the memory is dropped. Its owner does so after the range was unmapped.
    unsafe { range.map(pieces, prot, &mut list) }?;
    Ok(range)
}

/// Returns the length in bytes of `memory` and the count of its pieces, which are in whole
/// granules.
fn measure<M: Memory>(memory: &M, granule: Granule) -> Result<(u64, usize), DomainError> {
    let (mut len, mut pieces) = (0u64, 0);
    for (nr, phyr) in segments(memory, Limits::NONE).enumerate() {
        let phyr = phyr.map_err(DomainError::Failed)?;
        // CAST: a `usize` is at most 64 bits wide.
        let (start, size) = (phyr.paddr().into_raw(), phyr.len() as u64);
        if !granule.aligned(start) || !granule.aligned(size) {
            return Err(DomainError::Misaligned {
                phyr: nr,
                offset: len,
                granule: granule.size(),
            });
        }
        len = len.checked_add(size).ok_or(DomainError::Overflow)?;
        pieces = nr + 1;
    }
    match len {
        0 => Err(DomainError::Empty),
        len if usize::try_from(len).is_err() => Err(DomainError::Overflow),
        len => Ok((len, pieces)),
    }
}
