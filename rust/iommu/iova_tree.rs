// SPDX-License-Identifier: GPL-2.0

//! Allocated IOVAs of a domain: ranges of granules in a maple tree.

use super::{
    error::DomainError,
    paging::PagingDomain,
    reserved, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    maple_tree::{
        AllocErrorKind,
        InsertErrorKind,
        MapleTreeAlloc, //
    },
    new_mutex,
    prelude::*,
    sync::Mutex, //
};
use phyr::{
    device::dma_mask,
    Granule, //
};

/// Owner of an allocated range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A [`Mapping`](super::Mapping).
    Mapping,
    /// A [`Mapper`](phyr::Mapper), which maps and unmaps in it by itself.
    Mapper,
    /// The platform: the range is reserved.
    Platform,
}

/// An allocated range, in granules.
#[derive(Clone, Copy)]
struct AllocatedRange {
    owner: Owner,
    first: usize,
    len: usize,
}

/// Allocator of the IOVAs of a domain.
#[pin_data]
pub(super) struct IovaTree {
    #[pin]
    tree: MapleTreeAlloc<KBox<AllocatedRange>>,
    /// Held while the tree changes, which an allocation does several times.
    #[pin]
    lock: Mutex<()>,
    granule: Granule,
    /// First granule.
    first: usize,
    /// Last granule.
    last: usize,
}

// SAFETY: a maple tree belongs to no thread.
unsafe impl Send for IovaTree {}

// SAFETY: a maple tree has a lock of its own.
unsafe impl Sync for IovaTree {}

impl IovaTree {
    /// Makes a tree of the IOVAs that `paging` translates and `dev` can address. Those in `taken`,
    /// first and last addresses, are reserved, and those that the platform has reserved.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    /// - `EINVAL`: the domain has no IOVAs.
    pub(super) fn new(
        dev: &Device<Bound>,
        paging: &PagingDomain,
        granule: Granule,
        taken: &[(u64, u64)],
    ) -> Result<Pin<KBox<Self>>> {
        let (start, end) = paging.aperture();
        let (start, end) = (
            granule.align_up(start).ok_or(EINVAL)?,
            end.min(dma_mask(dev)),
        );
        let (first, last) = (index(granule, start), index(granule, end));
        // The last granule must be there as a whole.
        let last = if granule.offset(end) == granule.size() - 1 {
            last
        } else {
            last.checked_sub(1).ok_or(EINVAL)?
        };
        if first > last {
            return Err(EINVAL);
        }
        let this = KBox::pin_init(
            pin_init!(Self {
                tree <- MapleTreeAlloc::new(),
                lock <- new_mutex!(()),
                granule,
                first,
                last,
            }),
            GFP_KERNEL,
        )?;
        for &(start, end) in taken {
            this.reserve(start, end)?;
        }
        reserved::ranges(dev, |start, end| this.reserve(start, end))?;
        Ok(this)
    }

    /// Reserves the addresses from `start` to `end` that are not reserved yet.
    fn reserve(&self, start: u64, end: u64) -> Result {
        let (mut at, last) = (index(self.granule, start), index(self.granule, end));
        while at <= last {
            let end = match self.find(at, last) {
                Some(there) if there.first <= at => {
                    at = there.first + there.len;
                    continue;
                }
                Some(there) => there.first - 1,
                None => last,
            };
            self.insert(at, end - at + 1, Owner::Platform)?;
            at = end + 1;
        }
        Ok(())
    }

    /// Allocates `len` bytes at a multiple of `align`, a power of two. Returns the IOVA.
    ///
    /// # Errors
    ///
    /// - [`DomainError::NoSpace`]: no such range is free.
    /// - [`DomainError::NoMemory`]: no memory.
    pub(super) fn alloc(&self, len: u64, align: u64, owner: Owner) -> Result<u64, DomainError> {
        let size = index(self.granule, len);
        let mask = index(self.granule, align).max(1) - 1;
        // Address zero is for those who ask for it: drivers take it for none.
        let mut from = self.first.max(1);

        let _lock = self.lock.lock();
        loop {
            let first = self.free_from(from, size)?;
            let first = first.checked_add(mask).ok_or(DomainError::NoSpace)? & !mask;
            let last = first.checked_add(size - 1).ok_or(DomainError::NoSpace)?;
            if last > self.last {
                return Err(DomainError::NoSpace);
            }
            match self.insert(first, size, owner) {
                Ok(()) => return Ok(self.address(first)),
                // The gap ends before; the next one that is long enough is after `first`.
                Err(DomainError::Reserved | DomainError::Overlap(_)) => from = first,
                Err(e) => return Err(e),
            }
        }
    }

    /// Returns the lowest granule from `from` on at which `size` granules are free.
    fn free_from(&self, from: usize, size: usize) -> Result<usize, DomainError> {
        let mark = AllocatedRange {
            owner: Owner::Platform,
            first: from,
            len: size,
        };
        let mark = KBox::new(mark, GFP_KERNEL).map_err(|_| DomainError::NoMemory)?;
        let found = self
            .tree
            .alloc_range(size, mark, from..=self.last, GFP_KERNEL)
            .map_err(|e| match e.cause {
                AllocErrorKind::Busy | AllocErrorKind::InvalidRequest => DomainError::NoSpace,
                AllocErrorKind::AllocError(_) => DomainError::NoMemory,
            })?;
        drop(self.tree.erase(found));
        Ok(found)
    }

    /// Allocates `len` bytes at `iova`.
    ///
    /// # Errors
    ///
    /// - [`DomainError::Unaligned`], [`DomainError::OutOfAperture`], [`DomainError::Overflow`]: the
    ///   domain has no such range.
    /// - [`DomainError::Reserved`], [`DomainError::Overlap`]: it is not free.
    /// - [`DomainError::NoMemory`]: no memory.
    pub(super) fn alloc_at(&self, iova: u64, len: u64, owner: Owner) -> Result<(), DomainError> {
        let granule = self.granule;
        if !granule.aligned(iova) {
            return Err(DomainError::Unaligned {
                iova,
                granule: granule.size(),
            });
        }
        let (first, size) = (index(granule, iova), index(granule, len));
        let end = first.checked_add(size - 1).ok_or(DomainError::Overflow)?;
        if first < self.first || end > self.last {
            return Err(DomainError::OutOfAperture {
                iova,
                end: iova.saturating_add(len - 1),
                first: self.address(self.first),
                last: self.address(self.last) + (granule.size() - 1),
            });
        }
        let _lock = self.lock.lock();
        self.insert(first, size, owner)
    }

    /// Frees the range that was allocated at `iova`.
    ///
    /// Context: process context, may sleep.
    pub(super) fn free(&self, iova: u64) {
        let _lock = self.lock.lock();
        drop(self.tree.erase(index(self.granule, iova)));
    }

    /// Inserts the range of `len` granules at `first`; the lock is held.
    fn insert(&self, first: usize, len: usize, owner: Owner) -> Result<(), DomainError> {
        let range = KBox::new(AllocatedRange { owner, first, len }, GFP_KERNEL);
        let range = range.map_err(|_| DomainError::NoMemory)?;
        let last = first + (len - 1);
        self.tree
            .insert_range(first..=last, range, GFP_KERNEL)
            .map_err(|e| match e.cause {
                InsertErrorKind::Occupied => match self.find(first, last) {
                    Some(there) if there.owner == Owner::Platform => DomainError::Reserved,
                    Some(there) => DomainError::Overlap(self.address(there.first)),
                    None => DomainError::NoSpace,
                },
                InsertErrorKind::AllocError(_) => DomainError::NoMemory,
                InsertErrorKind::InvalidRequest => DomainError::Overflow,
            })
    }

    /// Returns the lowest allocated range between two granules, both included.
    fn find(&self, first: usize, last: usize) -> Option<AllocatedRange> {
        let mut guard = self.tree.lock();
        guard.ma_state(first, last).find(last).map(|range| *range)
    }

    /// Calls `f` with the IOVA and the length of each range of a mapping, in ascending order.
    ///
    /// Ranges that come and go meanwhile may be among them or not. No lock is held for `f`.
    pub(super) fn for_each_mapping(&self, mut f: impl FnMut(u64, u64)) {
        let mut first = 0;
        while let Some(range) = self.find(first, usize::MAX) {
            if range.owner == Owner::Mapping {
                // CAST: a `usize` is at most 64 bits wide.
                let len = range.len as u64 * self.granule.size();
                f(self.address(range.first), len);
            }
            match range.first.checked_add(range.len) {
                Some(after) => first = after,
                None => break,
            }
        }
    }

    fn address(&self, index: usize) -> u64 {
        // CAST: a `usize` is at most 64 bits wide.
        index as u64 * self.granule.size()
    }
}

/// Returns the number of the granule of `addr`.
fn index(granule: Granule, addr: u64) -> usize {
    // CAST: an address fits in a `usize` where that has 64 bits, which `phyr` asks for.
    granule.number(addr) as usize
}
