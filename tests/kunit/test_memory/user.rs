// SPDX-License-Identifier: GPL-2.0

//! Memory of a program, pinned: bytes, rights, limits, and what is left afterwards.
//!
//! The thread of a case is the program: KUnit gives it an address space, which ends with it.

use crate::{
    check::{
        check_bytes,
        Failure,
        Outcome, //
    },
    edu::Engine,
    table,
    test_memory::sources::carry, //
};
use core::ptr;
use kernel::{
    bindings,
    current,
    device::Bound,
    error::to_result,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};
use phyr::{
    memory::{
        segments,
        Memory,
        UserPages, //
    },
    DataDirection,
    Mapper,
    Phyr, //
};

const BOTH: DataDirection = DataDirection::Bidirectional;
const TO_DEVICE: DataDirection = DataDirection::ToDevice;
const FROM_DEVICE: DataDirection = DataDirection::FromDevice;

/// C: `include/uapi/asm-generic/mman-common.h`, of which these are the same on each architecture
/// that has a KUnit device.
const PROT_READ: usize = 1;
const PROT_WRITE: usize = 2;
const MAP_PRIVATE: usize = 2;
const MAP_ANONYMOUS: usize = 0x20;

/// Pins of a page are counted in its references by these.
///
/// C: `GUP_PIN_COUNTING_BIAS`
const PIN: i32 = 1024;

/// Anonymous memory of the running case.
pub(crate) struct Program {
    start: usize,
}

/// The state of a page.
#[derive(Debug, PartialEq)]
pub(crate) struct PageState {
    pub(crate) pins: i32,
    is_dirty: bool,
}

impl Program {
    /// Maps `len` bytes, which the program may write if `writable`.
    fn new(len: usize, writable: bool) -> Result<Self> {
        let prot = if writable {
            PROT_READ | PROT_WRITE
        } else {
            PROT_READ
        };
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        // SAFETY: the field is the task's own, and points to the running case.
        let test = unsafe { (*current!().as_ptr()).kunit_test };
        // SAFETY: `test` is the running case, and anonymous memory has no file.
        let start =
            unsafe { bindings::kunit_vm_mmap(test, ptr::null_mut(), 0, len, prot, flags, 0) };
        // An errno is none.
        if start == 0 || start % PAGE_SIZE != 0 {
            return Err(ENOMEM);
        }
        Ok(Self { start })
    }

    /// Returns memory of as many bytes, each of which is `byte`.
    pub(crate) fn filled(len: usize, byte: u8) -> Result<Self> {
        let this = Self::new(len, true)?;
        let bytes = KVVec::from_elem(byte, len, GFP_KERNEL)?;
        UserSlice::new(this.at(0), len)
            .writer()
            .write_slice(&bytes)?;
        Ok(this)
    }

    pub(crate) fn at(&self, offset: usize) -> UserPtr {
        UserPtr::from_addr(self.start.wrapping_add(offset))
    }

    /// Returns the bytes that the program sees.
    fn bytes(&self, offset: usize, len: usize) -> Result<KVVec<u8>> {
        let mut bytes = KVVec::new();
        UserSlice::new(self.at(offset), len).read_all(&mut bytes, GFP_KERNEL)?;
        Ok(bytes)
    }

    /// Returns the state of the page at `offset`.
    pub(crate) fn page(&self, offset: usize) -> Result<PageState> {
        let mut page = ptr::null_mut();
        // SAFETY: there is room for the one page, and this is process context.
        to_result(unsafe { bindings::pin_user_pages_fast(self.start + offset, 1, 0, &mut page) })?;
        // SAFETY: the page is pinned. Both fields may change meanwhile, but nobody changes them.
        let (flags, refs) = unsafe {
            (
                ptr::read_volatile(&raw const (*page).flags.f),
                ptr::read_volatile(&raw const (*page)._refcount.counter),
            )
        };
        // SAFETY: it was pinned above.
        unsafe { bindings::unpin_user_page(page) };
        Ok(PageState {
            // The one above is no other's.
            pins: refs / PIN - 1,
            is_dirty: flags & 1 << bindings::pageflags_PG_dirty != 0,
        })
    }

    /// Unmaps the first `len` bytes.
    fn unmap(&self, len: usize) -> Result {
        // SAFETY: nobody has a reference to the program's memory.
        to_result(unsafe { bindings::vm_munmap(self.start, len) })
    }
}

/// Returns the pages that the user of the running case is charged for.
#[cfg(any(
    CONFIG_NET,
    CONFIG_IO_URING,
    CONFIG_VFIO_PCI_ZDEV_KVM,
    CONFIG_IOMMUFD,
    CONFIG_SECRETMEM
))]
fn charged() -> i64 {
    // SAFETY: only the task changes its credentials, which have a user; the counter is only read.
    unsafe {
        let user = (*(*current!().as_ptr()).cred).user;
        ptr::read_volatile(&raw const (*user).locked_vm.counter)
    }
}

/// Returns the pages that are pinned of the running case: the kernel counts none of its user.
#[cfg(not(any(
    CONFIG_NET,
    CONFIG_IO_URING,
    CONFIG_VFIO_PCI_ZDEV_KVM,
    CONFIG_IOMMUFD,
    CONFIG_SECRETMEM
)))]
fn charged() -> i64 {
    // SAFETY: a case has an address space; the counter is only read.
    unsafe {
        let mm = (*current!().as_ptr()).mm;
        ptr::read_volatile(&raw const (*mm).__bindgen_anon_1.pinned_vm.counter)
    }
}

/// Has the running case be one that may lock `pages` pages of memory more.
fn limit(pages: usize) -> Result {
    // SAFETY: the task is not ending.
    let new = unsafe { bindings::prepare_creds() };
    if new.is_null() {
        return Err(ENOMEM);
    }
    let limit = usize::try_from(charged())? + pages;
    // SAFETY: the credentials are this function's until they are committed. The limits are those of
    // the case's thread alone, which ends with it.
    unsafe {
        (*new).cap_effective.val &= !(1 << bindings::CAP_IPC_LOCK);
        to_result(bindings::commit_creds(new))?;
        let signal = (*current!().as_ptr()).signal;
        // CAST: a small number.
        (*signal).rlim[bindings::RLIMIT_MEMLOCK as usize].rlim_cur = limit * PAGE_SIZE;
    }
    Ok(())
}

fn phyrs(memory: &impl Memory, mapper: &Mapper<'_>) -> Result<KVVec<Phyr>> {
    let mut phyrs = KVVec::new();
    for phyr in segments(memory, *mapper.limits()) {
        phyrs.push(phyr?, GFP_KERNEL)?;
    }
    Ok(phyrs)
}

/// Bytes at any place, which both the device and the program have moved; also when the program has
/// unmapped them.
pub(crate) fn carried(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    const ALL: usize = 5 * PAGE_SIZE;
    for (offset, len) in [
        (0, ALL),
        (100, 3 * PAGE_SIZE + 77),
        (PAGE_SIZE - 1, 2),
        (3, 5),
    ] {
        let program = Program::new(ALL, true)?;
        let pages = carry(pdev, mapper, UserPages::pin(program.at(offset), len, BOTH)?)?;
        let mut seen = KVVec::from_elem(0u8, len, GFP_KERNEL)?;
        pages.read(0, &mut seen)?;
        check_bytes(&program.bytes(offset, len)?, &seen)?;
        // Nothing beside them.
        check!(program.bytes(0, offset)?.iter().all(|&byte| byte == 0));
        let after = program.bytes(offset + len, ALL - offset - len)?;
        check!(after.iter().all(|&byte| byte == 0));
    }
    let program = Program::new(ALL, true)?;
    let pages = UserPages::pin(program.at(0), ALL, BOTH)?;
    program.unmap(ALL)?;
    carry(pdev, mapper, pages)?;
    Ok(())
}

/// A device has the rights that were asked for, which the program must have itself.
pub(crate) fn rights(mapper: &Mapper<'_>) -> Outcome {
    let read_only = Program::new(PAGE_SIZE, false)?;
    for dir in [FROM_DEVICE, BOTH] {
        check_err!(UserPages::pin(read_only.at(0), PAGE_SIZE, dir), EFAULT);
    }
    let program = Program::filled(PAGE_SIZE, 7)?;
    for program in [read_only, program] {
        let mut pages = UserPages::pin(program.at(0), PAGE_SIZE, TO_DEVICE)?;
        check_err!(pages.write(0, &[1]), EACCES);
        for dir in [FROM_DEVICE, BOTH] {
            pages = check_err!(mapper.map(pages, dir, GFP_KERNEL), EACCES).value;
        }
        drop(mapper.map(pages, TO_DEVICE, GFP_KERNEL)?);
        for dir in [FROM_DEVICE, BOTH] {
            let Ok(pages) = UserPages::pin(program.at(0), PAGE_SIZE, dir) else {
                continue;
            };
            // Who may write may read.
            drop(mapper.map(pages, BOTH, GFP_KERNEL)?);
        }
    }
    Ok(())
}

/// A device writes to memory that was pinned for it to read: it faults, and nothing has changed.
pub(crate) fn faults(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let zeros = Program::new(PAGE_SIZE, true)?;
    let zeros = UserPages::pin(zeros.at(0), PAGE_SIZE, TO_DEVICE)?;
    let zeros = mapper.map(zeros, TO_DEVICE, GFP_KERNEL)?;
    let program = Program::filled(PAGE_SIZE, 7)?;
    let pages = UserPages::pin(program.at(0), PAGE_SIZE, TO_DEVICE)?;
    let table = mapper.map(pages, TO_DEVICE, GFP_KERNEL)?;
    let engine = Engine::new(pdev)?;
    engine.read(check_some!(zeros.dma_vecs().next()), 0, 64)?;
    engine.write(check_some!(table.dma_vecs().next()), 1024, 64)?;
    drop(table);
    check!(program.bytes(0, PAGE_SIZE)?.iter().all(|&byte| byte == 7));
    Ok(())
}

/// Pages that a device could write are dirty in the end, and the others are not.
pub(crate) fn dirtied(mapper: &Mapper<'_>) -> Outcome {
    for (dir, is_dirty) in [(TO_DEVICE, false), (FROM_DEVICE, true), (BOTH, true)] {
        let program = Program::filled(2 * PAGE_SIZE, 7)?;
        let pages = UserPages::pin(program.at(1), 2 * PAGE_SIZE - 1, dir)?;
        for at in [0, PAGE_SIZE] {
            let state = PageState {
                pins: 1,
                is_dirty: false,
            };
            check_eq!(program.page(at)?, state, "pinned {dir:?}");
        }
        drop(mapper.map(pages, dir, GFP_KERNEL)?);
        for at in [0, PAGE_SIZE] {
            let state = PageState { pins: 0, is_dirty };
            check_eq!(program.page(at)?, state, "unpinned {dir:?}");
        }
    }
    Ok(())
}

/// The same memory in three pins, in two mappings: each keeps it.
pub(crate) fn twice(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    const LEN: usize = 2 * PAGE_SIZE;
    let program = Program::filled(LEN, 7)?;
    let pin = || UserPages::pin(program.at(0), LEN, BOTH);
    let mut list = KVVec::new();
    for _ in 0..2 {
        list.push(pin()?, GFP_KERNEL)?;
    }
    let expected = phyrs(&list, mapper)?;
    let one = mapper.map(pin()?, BOTH, GFP_KERNEL)?;
    let many = mapper.map(list, BOTH, GFP_KERNEL)?;
    check_eq!(program.page(0)?.pins, 3);
    drop(one);
    check_eq!(program.page(0)?.pins, 2);
    table::check(mapper, many.dma_vecs(), expected.iter().copied())?;

    // The device copies the first bytes to the last ones.
    UserSlice::new(program.at(0), 1).writer().write(&9u8)?;
    let mut many = many;
    drop(many.cpu());
    let (first, last) = (many.dma_vecs().next(), many.dma_vecs().last());
    let (first, last) = (check_some!(first), check_some!(last));
    let engine = Engine::new(pdev)?;
    engine
        .read(first, 0, 8)
        .and_then(|()| engine.write(last, last.len() - 8, 8))?;
    drop(many);
    check_eq!(program.page(0)?.pins, 0);
    Ok(())
}

/// Memory that cannot be pinned is refused, and nothing of it stays pinned or charged.
pub(crate) fn refused() -> Outcome {
    let program = Program::filled(4 * PAGE_SIZE, 7)?;
    let hole = Program {
        start: program.start + 3 * PAGE_SIZE,
    };
    hole.unmap(PAGE_SIZE)?;
    let start = program.start;
    limit(16)?;
    let before = charged();
    for (at, len, error) in [
        (start, 0, EINVAL),
        (start, 1 << 63, ENOMEM),
        (start, usize::MAX - start, EFAULT),
        (start, usize::MAX - start + 1, EFAULT),
        (start, usize::MAX, EFAULT),
        (0, PAGE_SIZE, EFAULT),
        (1 << 63, PAGE_SIZE, EFAULT),
        (PAGE_SIZE.wrapping_neg(), PAGE_SIZE - 1, EFAULT),
        (PAGE_SIZE.wrapping_neg(), PAGE_SIZE, EFAULT),
        (PAGE_SIZE.wrapping_neg(), PAGE_SIZE + 1, EFAULT),
        (start, 3 * PAGE_SIZE + 1, EFAULT),
        (hole.start, 1, EFAULT),
    ] {
        let pinned = UserPages::pin(UserPtr::from_addr(at), len, TO_DEVICE).map(drop);
        check_eq!(pinned, Err(error), "{len:#x} bytes at {at:#x}");
    }
    let none = DataDirection::None;
    check_err!(UserPages::pin(program.at(0), PAGE_SIZE, none), EINVAL);
    for at in [0, PAGE_SIZE, 2 * PAGE_SIZE] {
        check_eq!(program.page(at)?.pins, 0, "page at {at:#x}");
    }
    check_eq!(charged(), before);
    Ok(())
}

/// Pinned pages are charged to the user, who has a limit; the same page as often as it is pinned.
pub(crate) fn charged_to_the_user() -> Outcome {
    let program = Program::filled(9 * PAGE_SIZE, 7)?;
    let pin = |offset, len| UserPages::pin(program.at(offset), len, TO_DEVICE);
    let free = charged();
    drop(pin(0, 9 * PAGE_SIZE)?);
    limit(8)?;
    check_eq!(charged(), free);

    check_err!(pin(0, 8 * PAGE_SIZE + 1), EDQUOT);
    let first = pin(0, 4 * PAGE_SIZE)?;
    check_eq!(charged(), free + 4);
    // Five pages, of which the first and the last are not whole.
    check_err!(pin(100, 4 * PAGE_SIZE), EDQUOT);
    let second = pin(0, 4 * PAGE_SIZE)?;
    check_eq!(charged(), free + 8);
    check_err!(pin(0, 1), EDQUOT);
    drop(first);
    let third = pin(PAGE_SIZE - 1, 2)?;
    check_eq!(charged(), free + 6);
    drop((second, third));
    check_eq!(charged(), free);
    Ok(())
}

/// A signal ends it.
pub(crate) fn interrupted() -> Outcome {
    /// Handler of a signal that a thread of the kernel receives.
    ///
    /// C: `SIG_KTHREAD`
    const SIG_KTHREAD: usize = 2;

    let program = Program::filled(PAGE_SIZE, 7)?;
    let task = current!().as_ptr();
    // CAST: the number of a signal.
    let signal = bindings::SIGUSR1 as c_int;
    // SAFETY: C takes this number for what it says, and does not call it.
    let handler = unsafe { core::mem::transmute::<usize, bindings::__sighandler_t>(SIG_KTHREAD) };
    // SAFETY: the task is the running one, which takes the signal from now on, and ends soon.
    let sent = unsafe {
        bindings::kernel_sigaction(signal, handler);
        bindings::send_sig(signal, task, 0)
    };
    to_result(sent)?;
    let pinned = UserPages::pin(program.at(0), PAGE_SIZE, TO_DEVICE).map(drop);
    // SAFETY: the task is the running one.
    unsafe { bindings::flush_signals(task) };
    if pinned != Err(EINTR) {
        return Err(Failure::new(fmt!("pinned despite a signal: {pinned:?}")));
    }
    check_eq!(program.page(0)?.pins, 0);
    drop(UserPages::pin(program.at(0), PAGE_SIZE, TO_DEVICE)?);
    Ok(())
}
