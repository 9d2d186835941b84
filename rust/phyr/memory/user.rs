// SPDX-License-Identifier: GPL-2.0

//! Memory: pages of a program, pinned.
//!
//! The pages stay where they are, and the program's, until the value is dropped: also if the
//! program unmaps them, forks or ends, or if their file is truncated. Only its own view can change
//! then: what it maps at the same address later is other memory.
//!
//! Pins that last are charged to the user who asks for them, as io_uring and iommufd do it
//! (`locked_vm` of the user, and not of the process: a program can hand the file that holds the
//! pins to another one, and end). A kernel that has neither these nor a network does not count it:
//! there the limit is that of `pinned_vm` of the process. Whoever has `CAP_IPC_LOCK` has no limit.
//!
//! C: `pin_user_pages_fast()` with `FOLL_LONGTERM`,
//! [`Documentation/core-api/pin_user_pages.rst`](srctree/Documentation/core-api/pin_user_pages.rst)

use super::{
    alloc::{
        check_pages,
        list_flags, //
    },
    traits::{
        Memory,
        Paged,
        PagedBytes, //
    }, //
};
use crate::{
    access::Access,
    bindings as own,
    fail::{
        self,
        Point, //
    },
    source::page::page_piece,
    types::Phyr, //
};
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    current,
    dma::DataDirection,
    error::to_result,
    page::{
        BorrowedPage,
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    uaccess::UserPtr, //
};

/// Pages that are pinned at once, between two looks for a signal: 4 MiB.
const AT_ONCE: usize = 1024;

/// The user who is charged for pinned pages.
///
/// # Invariants
///
/// It is as `phyr_helper_charge_pinned()` has left it, which succeeded.
struct Charge(own::phyr_charge);

impl Charge {
    /// Charges the user of the calling task for `pages`.
    ///
    /// # Errors
    ///
    /// - `EFAULT`: the calling task has no memory of a program.
    /// - `EDQUOT`: more than `RLIMIT_MEMLOCK` allows.
    fn new(pages: usize) -> Result<Self> {
        if current!().mm().is_none() {
            return Err(EFAULT);
        }
        let mut charge = own::phyr_charge::default();
        // SAFETY: `charge` may be written, and this is process context of a task with an `mm`.
        let charged = unsafe { own::phyr_helper_charge_pinned(&mut charge, pages) };
        to_result(charged).map_err(|_| EDQUOT)?;
        // INVARIANT: it has just succeeded.
        Ok(Self(charge))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // SAFETY: by the type invariants this undoes the charge, once.
        unsafe { own::phyr_helper_uncharge_pinned(&mut self.0) };
    }
}

/// Pages of a program, wherever in physical memory they are, and the part of them that is used.
///
/// Dropping it may sleep: pages that a device may have written are marked as dirty.
///
/// # Examples
///
/// ```
/// use kernel::{prelude::*, uaccess::UserPtr};
/// use phyr::{memory::UserPages, DataDirection, Mapper};
///
/// /// Of an ioctl: the device writes to the program's buffer.
/// fn receive(mapper: &Mapper<'_>, addr: UserPtr, len: usize) -> Result {
///     let dir = DataDirection::FromDevice;
///     let pages = UserPages::pin(addr, len, dir)?;
///     let mapping = mapper.map(pages, dir, GFP_KERNEL)?;
///     // ... start the device with `mapping.dma_vecs()`, and wait for it ...
///     drop(mapping);
///     Ok(())
/// }
/// ```
///
/// # Invariants
///
/// - `pages` are pinned, for writing if `writable`, and this owns the pins.
/// - `offset` is within the first page, and the last of the `len` bytes after it is in the last,
///   once all are pinned.
pub struct UserPages {
    pages: KVVec<NonNull<bindings::page>>,
    offset: usize,
    len: usize,
    writable: bool,
    /// Dropped when the pages are unpinned.
    _charge: Charge,
}

// SAFETY: pinned pages belong to no thread, and neither does the charge.
unsafe impl Send for UserPages {}

impl UserPages {
    /// Pins the `len` bytes of the calling task from `addr` on, for a device that accesses them in
    /// the direction `dir`. If the device may write them the program must be able to, too.
    ///
    /// Context: process context of the program, sleeps until a signal comes.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `len` is zero, or `dir` is [`DataDirection::None`].
    /// - `EFAULT`: the memory is not mapped, or not for this; it wraps around the address space; it
    ///   is a device's registers; or a device that writes was to change a file on a disk behind the
    ///   back of its file system.
    /// - `EREMOTEIO`, `EOPNOTSUPP`: it is memory of a device, or of a file system on such (DAX).
    /// - `EDQUOT`: the user has more memory pinned than `RLIMIT_MEMLOCK` allows.
    /// - `EINTR`: a signal came.
    /// - `ENOMEM`: no memory; or more than the machine has.
    pub fn pin(addr: UserPtr, len: usize, dir: DataDirection) -> Result<Self> {
        let writable = match dir {
            DataDirection::None => return Err(EINVAL),
            DataDirection::ToDevice => false,
            DataDirection::FromDevice | DataDirection::Bidirectional => true,
        };
        let start = addr.as_const_ptr().addr();
        let offset = start % PAGE_SIZE;
        if len == 0 {
            return Err(EINVAL);
        }
        // The end of the last page, which C computes, too.
        let end = start.checked_add(len).ok_or(EFAULT)?;
        end.checked_next_multiple_of(PAGE_SIZE).ok_or(EFAULT)?;
        // It cannot overflow either: the first page begins `offset` bytes before `start`.
        let nr = (offset + len).div_ceil(PAGE_SIZE);
        check_pages(nr)?;
        // INVARIANT: no page is pinned yet.
        let mut this = Self {
            pages: KVVec::new(),
            offset,
            len,
            writable,
            _charge: Charge::new(nr)?,
        };
        while this.pages.len() < nr {
            if current!().signal_pending() {
                return Err(EINTR);
            }
            let done = this.pages.len();
            this.pin_some(start - offset + done * PAGE_SIZE, (nr - done).min(AT_ONCE))?;
        }
        Ok(this)
    }

    /// Pins up to `nr` pages more, from the address `start` on; at least one.
    fn pin_some(&mut self, start: usize, nr: usize) -> Result {
        let flags = if self.writable {
            bindings::FOLL_LONGTERM | bindings::FOLL_WRITE
        } else {
            bindings::FOLL_LONGTERM
        };
        self.pages.reserve(nr, list_flags(GFP_KERNEL_ACCOUNT))?;
        let room = self.pages.spare_capacity_mut().as_mut_ptr();
        fail::at(Point::pin_user_pages_fast)?;
        // SAFETY: there is room for `nr` pointers, which are not null, and this is process context.
        // CAST: `AT_ONCE` at most; a `usize` is C's `unsigned long`.
        let pinned =
            unsafe { bindings::pin_user_pages_fast(start, nr as c_int, flags, room.cast()) };
        to_result(pinned)?;
        // CAST: not negative, as was just checked.
        let pinned = pinned as usize;
        // INVARIANT: these were pinned just now.
        //
        // SAFETY: C has written so many, at most `nr`, for which there is room.
        unsafe { self.pages.inc_len(pinned) };
        if pinned == 0 {
            return Err(EFAULT);
        }
        Ok(())
    }
}

impl Drop for UserPages {
    fn drop(&mut self) {
        let (pages, nr) = (self.pages.as_mut_ptr(), self.pages.len());
        // SAFETY: by the type invariants these pages are pinned, and this owns the pins. A device
        // may have written those that were pinned for that.
        // CAST: a `usize` is C's `unsigned long`.
        unsafe { bindings::unpin_user_pages_dirty_lock(pages.cast(), nr, self.writable) };
    }
}

// SAFETY: the pages are pinned, and so stay in place until the value is dropped, which owns the
// pins. They are whole pages of the program's, which can read them anyway, and write them if a
// device can; no safe code of the kernel accesses them but by copies of raw pointers.
unsafe impl Memory for UserPages {
    type Direction = DataDirection;

    type Phyrs<'a> = UserPieces<'a>;

    fn phyrs(&self) -> UserPieces<'_> {
        UserPieces {
            pages: self.pages.iter(),
            rest: PagedBytes::new(self.offset, self.len),
        }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn access(&self) -> Access {
        if self.writable {
            Access::READ_WRITE
        } else {
            Access::READ
        }
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.read_pages(offset, to)
    }

    fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.write_pages(offset, from)
    }
}

// SAFETY: the memory begins `offset` bytes into its first page; the pages are pinned, for writing
// if `access` says so.
unsafe impl Paged for UserPages {
    fn start(&self) -> usize {
        self.offset
    }

    fn nth_page(&self, index: usize) -> Option<impl Deref<Target = Page> + '_> {
        let page = *self.pages.get(index)?;
        // SAFETY: by the type invariants the page is pinned for as long as `self` is borrowed.
        Some(unsafe { BorrowedPage::from_raw(page) })
    }
}

/// The pieces of [`UserPages`], a page each at the most.
#[derive(Clone)]
pub struct UserPieces<'a> {
    pages: core::slice::Iter<'a, NonNull<bindings::page>>,
    rest: PagedBytes,
}

impl Iterator for UserPieces<'_> {
    type Item = Result<Phyr>;

    #[inline]
    fn next(&mut self) -> Option<Result<Phyr>> {
        let (offset, len) = self.rest.next_piece()?;
        let page = self.pages.next()?;
        // SAFETY: the page is pinned, as its `UserPages` is borrowed, and the piece is within it.
        // CAST: less than a page.
        Some(unsafe { page_piece(page.as_ptr(), offset as u64, len) })
    }
}
