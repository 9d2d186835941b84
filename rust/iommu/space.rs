// SPDX-License-Identifier: GPL-2.0

//! What of a domain's addresses is taken: an ordered set of ranges.

use super::{
    direct,
    life::Raw,
    Reason, //
};
use crate::bindings as helpers;
use kernel::{
    bindings,
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
    raw,
    DmaAddr,
    Granule, //
};

/// What a range is taken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A mapping.
    Mapped,
    /// A mapper, which maps in it by itself.
    Window,
    /// The platform: no memory can be mapped there.
    Reserved,
}

/// A range that is taken, in granules.
#[derive(Clone, Copy)]
struct Taken {
    kind: Kind,
    first: usize,
    len: usize,
}

/// The addresses of a domain, in granules.
#[pin_data]
pub(super) struct Space {
    #[pin]
    tree: MapleTreeAlloc<KBox<Taken>>,
    /// Taken by who changes the tree in more than one step, and by who looks at the page table of
    /// what is mapped or unmaps it.
    #[pin]
    lock: Mutex<()>,
    granule: Granule,
    /// The first and the last granule.
    first: usize,
    last: usize,
}

// SAFETY: a maple tree belongs to no thread.
unsafe impl Send for Space {}

// SAFETY: it has a lock of its own.
unsafe impl Sync for Space {}

impl Space {
    /// The addresses of `domain` that `dev` can tell, less those that are reserved, `fixed` among
    /// them.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    /// - `EINVAL`: the domain has no room at all.
    pub(super) fn new(
        dev: &Device<Bound>,
        domain: &Raw,
        granule: Granule,
        fixed: &[(u64, u64)],
    ) -> Result<Pin<KBox<Self>>> {
        // SAFETY: the caller's domain is valid.
        let geometry = unsafe { (*domain.as_ptr()).geometry };
        let start = granule.align_up(geometry.aperture_start).ok_or(EINVAL)?;
        let end = geometry.aperture_end.min(dma_mask(dev));
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
        for &(start, end) in fixed {
            this.reserve(start, end)?;
        }
        reserved(dev, |start, end| this.reserve(start, end))?;
        Ok(this)
    }

    /// Marks the addresses from `start` to `end` as reserved, as far as they are not so already.
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
            self.insert(at, end - at + 1, Kind::Reserved)?;
            at = end + 1;
        }
        Ok(())
    }

    /// Takes `len` bytes at a multiple of `align`, a power of two, and tells where.
    pub(super) fn take(&self, len: u64, align: u64, kind: Kind) -> Result<u64, Reason> {
        let size = index(self.granule, len);
        let mask = index(self.granule, align).max(1) - 1;
        // Address zero is for who asks for it: drivers take it for none.
        let mut from = self.first.max(1);

        let _lock = self.lock.lock();
        loop {
            let first = self.free_from(from, size)?;
            let first = first.checked_add(mask).ok_or(Reason::NoSpace)? & !mask;
            let last = first.checked_add(size - 1).ok_or(Reason::NoSpace)?;
            if last > self.last {
                return Err(Reason::NoSpace);
            }
            match self.insert(first, size, kind) {
                Ok(()) => return Ok(self.address(first)),
                // The gap ends before; the next one that is long enough is behind `first`.
                Err(Reason::Reserved | Reason::Overlap(_)) => from = first,
                Err(e) => return Err(e),
            }
        }
    }

    /// The lowest granule from `from` on at which `size` of them are free.
    fn free_from(&self, from: usize, size: usize) -> Result<usize, Reason> {
        let mark = Taken {
            kind: Kind::Reserved,
            first: from,
            len: size,
        };
        let mark = KBox::new(mark, GFP_KERNEL).map_err(|_| Reason::NoMemory)?;
        let found = self
            .tree
            .alloc_range(size, mark, from..=self.last, GFP_KERNEL)
            .map_err(|e| match e.cause {
                AllocErrorKind::Busy | AllocErrorKind::InvalidRequest => Reason::NoSpace,
                AllocErrorKind::AllocError(_) => Reason::NoMemory,
            })?;
        drop(self.tree.erase(found));
        Ok(found)
    }

    /// Takes `len` bytes at `iova`.
    pub(super) fn take_at(&self, iova: u64, len: u64, kind: Kind) -> Result<u64, Reason> {
        let granule = self.granule;
        if !granule.aligned(iova) {
            return Err(Reason::Unaligned {
                iova,
                granule: granule.size(),
            });
        }
        let (first, size) = (index(granule, iova), index(granule, len));
        let end = first.checked_add(size - 1).ok_or(Reason::Overflow)?;
        if first < self.first || end > self.last {
            return Err(Reason::OutOfAperture {
                iova,
                end: iova.saturating_add(len - 1),
                first: self.address(self.first),
                last: self.address(self.last) + (granule.size() - 1),
            });
        }
        let _lock = self.lock.lock();
        self.insert(first, size, kind)?;
        Ok(iova)
    }

    fn insert(&self, first: usize, len: usize, kind: Kind) -> Result<(), Reason> {
        let taken = KBox::new(Taken { kind, first, len }, GFP_KERNEL);
        let taken = taken.map_err(|_| Reason::NoMemory)?;
        let last = first + (len - 1);
        self.tree
            .insert_range(first..=last, taken, GFP_KERNEL)
            .map_err(|e| match e.cause {
                InsertErrorKind::Occupied => match self.find(first, last) {
                    Some(there) if there.kind == Kind::Reserved => Reason::Reserved,
                    Some(there) => Reason::Overlap(self.address(there.first)),
                    None => Reason::NoSpace,
                },
                InsertErrorKind::AllocError(_) => Reason::NoMemory,
                InsertErrorKind::InvalidRequest => Reason::Overflow,
            })
    }

    /// The lowest of what is taken between two granules, both included.
    fn find(&self, first: usize, last: usize) -> Option<Taken> {
        let mut guard = self.tree.lock();
        guard.ma_state(first, last).find(last).map(|taken| *taken)
    }

    /// Calls `f` if there is a mapping at `iova`, which does not end meanwhile.
    pub(super) fn while_mapped<R>(&self, iova: u64, f: impl FnOnce() -> R) -> Option<R> {
        let at = index(self.granule, iova);
        let _lock = self.lock.lock();
        let is_mapped = self
            .find(at, at)
            .is_some_and(|taken| taken.kind == Kind::Mapped);
        is_mapped.then(f)
    }

    /// Calls `f`, which unmaps, while nobody looks at the page table.
    pub(super) fn locked<R>(&self, f: impl FnOnce() -> R) -> R {
        let _lock = self.lock.lock();
        f()
    }

    /// Calls `f`, which unmaps what is at `iova`, and gives that back if it did.
    pub(super) fn end(&self, iova: u64, f: impl FnOnce() -> bool) {
        let _lock = self.lock.lock();
        if f() {
            drop(self.tree.erase(index(self.granule, iova)));
        }
    }

    /// Gives back what was taken at `iova`.
    pub(super) fn give_back(&self, iova: u64) {
        self.end(iova, || true);
    }

    /// Calls `f` with each range that is mapped. No lock is held meanwhile.
    pub(super) fn for_each(&self, mut f: impl FnMut(DmaAddr, u64)) {
        let mut first = 0;
        while let Some(taken) = self.find(first, usize::MAX) {
            if taken.kind == Kind::Mapped {
                // CAST: a `usize` is at most 64 bits wide.
                f(
                    DmaAddr::from_raw(self.address(taken.first)),
                    taken.len as u64 * self.granule.size(),
                );
            }
            match taken.first.checked_add(taken.len) {
                Some(behind) => first = behind,
                None => break,
            }
        }
    }

    fn address(&self, index: usize) -> u64 {
        // CAST: a `usize` is at most 64 bits wide.
        index as u64 * self.granule.size()
    }
}

/// The number of the granule in which `addr` is.
fn index(granule: Granule, addr: u64) -> usize {
    // CAST: an address fits in a `usize` where that has 64 bits, which `phyr` asks for.
    granule.number(addr) as usize
}

/// Calls `f` with the first and last address of each region that the platform has reserved for
/// `dev`: those that the DMA API does not give out either.
fn reserved(dev: &Device<Bound>, mut f: impl FnMut(u64, u64) -> Result) -> Result {
    direct::regions(dev, |region| {
        // Where the kernel could map messages, but need not: what it has mapped counts (`msi`).
        if region.kind == bindings::iommu_resv_type_IOMMU_RESV_SW_MSI {
            return Ok(());
        }
        match region.last() {
            Some(last) => f(region.start, last),
            None => Ok(()),
        }
    })?;

    let (mut start, mut end) = (0, 0);
    for nr in 0.. {
        // SAFETY: the device is bound, the numbers may be written.
        if !unsafe {
            helpers::phyr_iommu_helper_pci_window(raw::device(dev), nr, &mut start, &mut end)
        } {
            break;
        }
        f(start, end)?;
    }
    // What lies between the parts of memory that the host bridge lets through.
    let mut from = 0;
    loop {
        // SAFETY: the device is bound, the numbers may be written.
        if !unsafe {
            helpers::phyr_iommu_helper_pci_dma_range(raw::device(dev), from, &mut start, &mut end)
        } {
            break;
        }
        if start > from {
            f(from, start - 1)?;
        }
        match end.checked_add(1) {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
    if from != 0 {
        f(from, u64::MAX)?;
    }
    Ok(())
}
