// SPDX-License-Identifier: GPL-2.0

//! What of a domain's addresses is taken: an ordered set of ranges.

use super::Reason;
use crate::{
    bindings as helpers,
    raw,
    types::{
        DmaAddr,
        Granule, //
    }, //
};
use core::ptr::NonNull;
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

/// A range that is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// By a mapping.
    Mapped {
        /// In granules.
        first: usize,
        len: usize,
    },
    /// By the platform: no memory can be mapped there.
    Reserved,
}

/// The addresses of a domain, in granules.
#[pin_data]
pub(super) struct Space {
    #[pin]
    tree: MapleTreeAlloc<KBox<Taken>>,
    /// Taken by who changes the tree in more than one step.
    #[pin]
    lock: Mutex<()>,
    granule: Granule,
    /// The first and the last granule.
    first: usize,
    last: usize,
}

impl Space {
    /// The addresses of `domain` that `dev` can tell, less those that are reserved.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    /// - `EINVAL`: the domain has no room at all.
    pub(super) fn new(
        dev: &Device<Bound>,
        domain: NonNull<bindings::iommu_domain>,
        granule: Granule,
    ) -> Result<Pin<KBox<Self>>> {
        // SAFETY: the caller's domain is valid, and the device bound.
        let (geometry, mask) = unsafe {
            (
                (*domain.as_ptr()).geometry,
                helpers::phyr_helper_dma_get_mask(raw::device(dev)),
            )
        };
        let start = granule.align_up(geometry.aperture_start).ok_or(EINVAL)?;
        let end = geometry.aperture_end.min(mask);
        let (first, last) = (index(granule, start), index(granule, end));
        // The last granule must be there as a whole; address zero is never given out by itself,
        // as drivers take it for none.
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
        reserved(dev, |start, end| this.reserve(start, end))?;
        Ok(this)
    }

    /// Marks the addresses from `start` to `end` as reserved, granule by granule where some of them
    /// are so already.
    fn reserve(&self, start: u64, end: u64) -> Result {
        let (mut at, last) = (index(self.granule, start), index(self.granule, end));
        let all = self.tree.insert_range(
            at..=last,
            KBox::new(Taken::Reserved, GFP_KERNEL)?,
            GFP_KERNEL,
        );
        match all.map_err(|e| e.cause) {
            Ok(()) => return Ok(()),
            Err(InsertErrorKind::Occupied) => {}
            Err(e) => return Err(e.into()),
        }
        // Regions overlap: rare, and short.
        while at <= last {
            let taken = KBox::new(Taken::Reserved, GFP_KERNEL)?;
            match self.tree.insert(at, taken, GFP_KERNEL).map_err(|e| e.cause) {
                Ok(()) | Err(InsertErrorKind::Occupied) => at += 1,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Takes `len` bytes at a multiple of `align`, and tells where.
    pub(super) fn take(&self, len: u64, align: u64) -> Result<u64, Reason> {
        let size = index(self.granule, len);
        // A power of two, less one.
        let mask = index(self.granule, align).max(1) - 1;
        // Room for any alignment; of that the aligned part is kept.
        let room = size.checked_add(mask).ok_or(Reason::NoSpace)?;
        // Granule zero is for who asks for it.
        let range = self.first.max(1)..=self.last;

        let _lock = self.lock.lock();
        let mark = KBox::new(Taken::Reserved, GFP_KERNEL).map_err(|_| Reason::NoMemory)?;
        let found = self
            .tree
            .alloc_range(room, mark, range, GFP_KERNEL)
            .map_err(|e| match e.cause {
                AllocErrorKind::Busy | AllocErrorKind::InvalidRequest => Reason::NoSpace,
                AllocErrorKind::AllocError(_) => Reason::NoMemory,
            })?;
        drop(self.tree.erase(found));
        // No overflow: it is within the room.
        let first = (found + mask) & !mask;
        self.insert(first, size)?;
        Ok(self.address(first))
    }

    /// Takes `len` bytes at `iova`.
    pub(super) fn take_at(&self, iova: u64, len: u64) -> Result<u64, Reason> {
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
                first: self.address(self.first),
                last: self.address(self.last) + (granule.size() - 1),
            });
        }
        let _lock = self.lock.lock();
        self.insert(first, size)?;
        Ok(iova)
    }

    fn insert(&self, first: usize, len: usize) -> Result<(), Reason> {
        let taken = KBox::new(Taken::Mapped { first, len }, GFP_KERNEL);
        let taken = taken.map_err(|_| Reason::NoMemory)?;
        self.tree
            .insert_range(first..=first + (len - 1), taken, GFP_KERNEL)
            .map_err(|e| match e.cause {
                InsertErrorKind::Occupied => self.who(first, len),
                InsertErrorKind::AllocError(_) => Reason::NoMemory,
                InsertErrorKind::InvalidRequest => Reason::Overflow,
            })
    }

    /// What is in the way of a range.
    fn who(&self, first: usize, len: usize) -> Reason {
        let mut guard = self.tree.lock();
        let end = first + (len - 1);
        let mut state = guard.ma_state(first, end);
        match state.find(end).map(|taken| *taken) {
            Some(Taken::Reserved) => Reason::Reserved,
            Some(Taken::Mapped { first, .. }) => Reason::Overlap(self.address(first)),
            None => Reason::NoSpace,
        }
    }

    /// Gives back what was taken at `iova`.
    pub(super) fn give_back(&self, iova: u64) {
        let _lock = self.lock.lock();
        drop(self.tree.erase(index(self.granule, iova)));
    }

    /// Calls `f` with each range that is mapped.
    pub(super) fn for_each(&self, mut f: impl FnMut(DmaAddr, u64)) {
        let mut guard = self.tree.lock();
        let mut state = guard.ma_state(0, usize::MAX);
        while let Some(taken) = state.find(usize::MAX) {
            if let Taken::Mapped { first, len } = *taken {
                // CAST: a `usize` is at most 64 bits wide.
                f(
                    DmaAddr::from_raw(self.address(first)),
                    len as u64 * self.granule.size(),
                );
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
/// `dev`.
fn reserved(dev: &Device<Bound>, mut f: impl FnMut(u64, u64) -> Result) -> Result {
    let mut list = bindings::list_head::default();
    let head: *mut bindings::list_head = &mut list;
    list.next = head;
    list.prev = head;
    // SAFETY: the device is bound, and the list an empty one that does not move.
    unsafe { bindings::iommu_get_resv_regions(raw::device(dev), head) };

    let mut result = Ok(());
    let mut at = list.next;
    while at != head && result.is_ok() {
        // SAFETY: what is on the list are regions, and the list is their first field.
        let (region, next) = unsafe { (&*at.cast::<bindings::iommu_resv_region>(), (*at).next) };
        // CAST: a `usize` is at most 64 bits wide.
        if let Some(len) = (region.length as u64).checked_sub(1) {
            let start = region.start;
            result = f(start, start.saturating_add(len));
        }
        at = next;
    }
    // SAFETY: the list is that of the call above.
    unsafe { bindings::iommu_put_resv_regions(raw::device(dev), head) };
    result
}
