// SPDX-License-Identifier: GPL-2.0

//! Memory at an IOVA of a domain.

use super::{
    domain::Inner, //
    list::Entry,
    pages::PageSizes,
    Access,
    Domain,
};
use core::{
    mem::ManuallyDrop,
    ptr, //
};
use kernel::{
    bindings,
    fmt,
    prelude::*, //
};
use phyr::{
    memory::{
        segments,
        Memory, //
    },
    source::Segments,
    DmaAddr,
    DmaVec, //
    Limits,
    MapError,
    MemoryKind,
};

/// Why memory cannot be mapped in a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is nothing to map.
    Empty,
    /// The length overflows, or the range does.
    Overflow,
    /// A phyr does not begin and end at multiples of the granule.
    Misaligned {
        /// Which phyr.
        phyr: usize,
        /// Where it begins in the memory, in bytes.
        offset: u64,
        /// The granule in bytes.
        granule: u64,
    },
    /// The IOVA is not a multiple of the granule.
    Unaligned {
        /// The IOVA.
        iova: u64,
        /// The granule in bytes.
        granule: u64,
    },
    /// The IOVA is not among those that the domain has.
    OutOfAperture {
        /// The IOVA.
        iova: u64,
        /// The last that the memory would have.
        end: u64,
        /// The first of those that there are.
        first: u64,
        /// The last.
        last: u64,
    },
    /// The platform has reserved the IOVA, such as for interrupts.
    Reserved,
    /// There is a mapping already: the one at this IOVA.
    Overlap(u64),
    /// There is no room for it.
    NoSpace,
    /// No memory, such as for a page table.
    NoMemory,
    /// Something else failed: the source of the phyrs, or the IOMMU.
    Failed(Error),
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Empty => EINVAL,
            Reason::Overflow => EOVERFLOW,
            Reason::Misaligned { .. } => EDOM,
            Reason::Unaligned { .. } => EFAULT,
            Reason::OutOfAperture { .. } => ERANGE,
            Reason::Reserved => EADDRNOTAVAIL,
            Reason::Overlap(_) => EEXIST,
            Reason::NoSpace => ENOSPC,
            Reason::NoMemory => ENOMEM,
            Reason::Failed(e) => e,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("nothing to map"),
            Self::Overflow => f.write_str("the length overflows"),
            Self::Misaligned {
                phyr,
                offset,
                granule,
            } => write!(
                f,
                "phyr {phyr} at byte {offset} is not in whole granules of {granule} bytes"
            ),
            Self::Unaligned { iova, granule } => {
                write!(
                    f,
                    "{iova:#x} is not a multiple of the granule of {granule} bytes"
                )
            }
            Self::OutOfAperture {
                iova,
                end,
                first,
                last,
            } => write!(
                f,
                "{iova:#x} to {end:#x} is not within {first:#x} to {last:#x}, which the domain has"
            ),
            Self::Reserved => f.write_str("the platform has reserved the address"),
            Self::Overlap(iova) => write!(f, "there is a mapping already, at {iova:#x}"),
            Self::NoSpace => f.write_str("no room in the domain"),
            Self::NoMemory => f.write_str("no memory"),
            Self::Failed(e) => write!(f, "{e:?}"),
        }
    }
}

/// Memory that is mapped in a domain.
///
/// If it is leaked, the memory is never freed, and stays mapped for as long as the domain is.
/// Dropping it unmaps the memory, and may sleep.
///
/// # Invariants
///
/// All of `memory`, `len` bytes, is mapped at `iova` in `domain`, where nothing else is.
pub struct Mapping<'bound, M: Memory> {
    domain: Domain<'bound>,
    iova: u64,
    len: usize,
    memory: M,
}

impl<'bound, M: Memory> Mapping<'bound, M> {
    /// Maps `memory` where `take` takes room for it.
    pub(super) fn new(
        domain: &Domain<'bound>,
        memory: M,
        access: Access,
        take: impl FnOnce(u64) -> Result<u64, Reason>,
    ) -> Result<Self, MapError<M, Reason>> {
        match map_all(&domain.0, &memory, access, take) {
            // INVARIANT: just mapped so.
            Ok((iova, len)) => Ok(Self {
                domain: domain.clone(),
                iova,
                len,
                memory,
            }),
            Err(reason) => Err(MapError::new(memory, reason)),
        }
    }

    pub(super) fn domain(&self) -> &Domain<'bound> {
        &self.domain
    }

    /// Where it begins for the device.
    pub fn iova(&self) -> DmaAddr {
        DmaAddr::from_raw(self.iova)
    }

    /// The one range that the device sees.
    pub fn dma_vec(&self) -> DmaVec {
        DmaVec::new(self.iova(), self.len)
    }

    /// The pieces as they are mapped, joined where they adjoin.
    fn pieces(&self) -> Segments<M::Phyrs<'_>> {
        segments(&self.memory, Limits::NONE)
    }

    /// How many pages of each size the IOMMU uses for it.
    pub fn page_sizes(&self) -> PageSizes {
        let mut sizes = PageSizes::default();
        let mut at = self.iova;
        for phyr in self.pieces().flatten() {
            // CAST: a `usize` is at most 64 bits wide.
            let len = phyr.len() as u64;
            sizes.add(self.domain.0.page_bits(), at, phyr.paddr().into_raw(), len);
            at += len;
        }
        sizes
    }

    /// Reads the memory. A device that is not done may write it meanwhile.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the memory ends before.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.memory.read(offset, to)
    }

    /// Writes the memory. A device that is not done may read it meanwhile.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the memory ends before.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.memory.write(offset, from)
    }

    /// Ends the mapping, with a flush of the IOTLB, and gives the memory back. The device must be
    /// done with it.
    ///
    /// Context: process context, may sleep.
    pub fn unmap(self) -> M {
        let (domain, iova, len, memory) = self.into_parts();
        // SAFETY: by the type invariant; that the device is done is the driver's part.
        unsafe { domain.0.end(iova, len) };
        memory
    }

    /// Gives up the mapping without ending it.
    pub(super) fn into_parts(self) -> (Domain<'bound>, u64, usize, M) {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, nor dropped; each field is taken out once.
        let (domain, memory) = unsafe { (ptr::read(&this.domain), ptr::read(&this.memory)) };
        (domain, this.iova, this.len, memory)
    }
}

impl<M: Memory> Drop for Mapping<'_, M> {
    fn drop(&mut self) {
        // SAFETY: by the type invariant; that the device is done is the driver's part.
        unsafe { self.domain.0.end(self.iova, self.len) };
    }
}

impl Inner<'_> {
    /// Unmaps what is at `iova`, and gives the room back.
    ///
    /// # Safety
    ///
    /// `len` bytes are mapped there, in room that was taken, and the device is done with them.
    unsafe fn end(&self, iova: u64, len: usize) {
        self.space.end(iova, || {
            // SAFETY: by the requirements of this function.
            len == 0 || unsafe { self.unmap_range(iova, len) }
        });
    }
}

/// How many pieces are mapped with one flush: for more, the scratch list would be too large.
const MOST: usize = 4096;

/// Checks `memory`, takes room for it and maps it there, all or nothing.
fn map_all<M: Memory>(
    domain: &Inner<'_>,
    memory: &M,
    access: Access,
    take: impl FnOnce(u64) -> Result<u64, Reason>,
) -> Result<(u64, usize), Reason> {
    let granule = domain.granule;
    let (mut len, mut pieces) = (0u64, 0);
    for (nr, phyr) in segments(memory, Limits::NONE).enumerate() {
        let phyr = phyr.map_err(Reason::Failed)?;
        // CAST: a `usize` is at most 64 bits wide.
        let (start, size) = (phyr.paddr().into_raw(), phyr.len() as u64);
        if !granule.aligned(start) || !granule.aligned(size) {
            return Err(Reason::Misaligned {
                phyr: nr,
                offset: len,
                granule: granule.size(),
            });
        }
        len = len.checked_add(size).ok_or(Reason::Overflow)?;
        pieces = nr + 1;
    }
    if len == 0 {
        return Err(Reason::Empty);
    }
    let size = usize::try_from(len).map_err(|_| Reason::Overflow)?;
    let mut list = KVVec::new();
    if pieces > 1 {
        list.extend_with(pieces.min(MOST), Entry::default(), GFP_KERNEL_ACCOUNT)
            .map_err(|_| Reason::NoMemory)?;
    }
    let iova = take(len)?;

    let mut done = Partial {
        domain,
        iova,
        len: 0,
    };
    let pieces = segments(memory, Limits::NONE).map(|phyr| {
        let phyr = phyr?;
        Ok((phyr.paddr().into_raw(), phyr.len()))
    });
    let prot = access.prot(M::KIND == MemoryKind::Mmio);
    let flags = bindings::GFP_KERNEL_ACCOUNT;
    // SAFETY: by the contract of `Memory` it stays where it is, and a device may access all of it;
    // who maps it owns it. The range was taken, and all is aligned.
    // INVARIANT: what is mapped is counted.
    unsafe { domain.map_pieces(iova, pieces, prot, flags, &mut list, &mut done.len) }.map_err(
        |e| match e {
            ENOMEM => Reason::NoMemory,
            e => Reason::Failed(e),
        },
    )?;
    core::mem::forget(done);
    Ok((iova, size))
}

/// The part of a mapping that is made; dropping it unmaps it and gives the room back.
///
/// # Invariants
///
/// `len` bytes are mapped at `iova`, which was taken.
struct Partial<'a, 'd> {
    domain: &'a Inner<'d>,
    iova: u64,
    len: usize,
}

impl Drop for Partial<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: by the type invariant; the device never learned of it.
        unsafe { self.domain.end(self.iova, self.len) };
    }
}
