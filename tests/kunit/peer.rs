// SPDX-License-Identifier: GPL-2.0

//! A device with memory: QEMU's `ivshmem-plain`, whose BAR 2 is memory.
//!
//! QEMU: docs/system/devices/ivshmem.rst.

use crate::check::Outcome;
use core::{
    ptr,
    sync::atomic::{
        AtomicPtr,
        Ordering, //
    }, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Core, //
    },
    io::Io,
    page::PAGE_SIZE,
    pci,
    prelude::*, //
};
use phyr::raw;
use phyr_dma_buf::PeerToPeer;

pub(crate) const VENDOR: pci::Vendor = pci::Vendor::REDHAT_QUMRANET;
pub(crate) const DEVICE: u32 = 0x1110;

/// The BAR with the memory.
pub(crate) const BAR: u32 = 2;

/// The part of it that tests use, in bytes.
pub(crate) const LEN: usize = 16 * PAGE_SIZE;

/// The device that is bound, and its peer-to-peer provider.
pub(crate) struct Memory {
    pub(crate) pdev: &'static pci::Device<Bound>,
    pub(crate) peer: PeerToPeer<'static>,
}

/// The device that is bound, or null.
static MEMORY: AtomicPtr<Memory> = AtomicPtr::new(ptr::null_mut());

pub(crate) fn publish(pdev: &pci::Device<Core<'_>>) -> Result {
    pdev.enable_device_mem()?;
    // SAFETY: the device is withdrawn before it is unbound, and the tests look at it in between
    // only.
    let pdev: &'static pci::Device<Core<'static>> = unsafe { &*ptr::from_ref(pdev).cast() };
    let memory = KBox::new(
        Memory {
            pdev,
            peer: PeerToPeer::new(pdev)?,
        },
        GFP_KERNEL,
    )?;
    MEMORY.store(KBox::into_raw(memory), Ordering::Release);
    Ok(())
}

pub(crate) fn withdraw() {
    let memory = MEMORY.swap(ptr::null_mut(), Ordering::AcqRel);
    if !memory.is_null() {
        // SAFETY: `publish` gave it away, and it is taken back once.
        drop(unsafe { KBox::from_raw(memory) });
    }
}

/// Returns the device, if there is one.
pub(crate) fn memory() -> Option<&'static Memory> {
    // SAFETY: the device stays bound while the suites run; the one test that unbinds it does not
    // look at it afterwards.
    unsafe { MEMORY.load(Ordering::Acquire).as_ref() }
}

impl Memory {
    /// Maps the BAR for the CPU.
    pub(crate) fn bar(&self) -> Result<pci::Bar<'_, LEN>> {
        self.pdev.iomap_region_sized::<LEN>(BAR, c"phyr_test")
    }
}

/// Checks that each of the `len` bytes at `at` is what `expected` says.
#[track_caller]
pub(crate) fn holds(
    bar: &pci::Bar<'_, LEN>,
    at: usize,
    len: usize,
    expected: impl Fn(usize) -> u8,
) -> Outcome {
    for n in 0..len {
        check_eq!(bar.try_read8(at + n)?, expected(n), "at {}", at + n);
    }
    Ok(())
}

/// Writes a byte to each of `len` places at `at`.
pub(crate) fn fill(
    bar: &pci::Bar<'_, LEN>,
    at: usize,
    len: usize,
    byte: impl Fn(usize) -> u8,
) -> Result {
    for n in 0..len {
        bar.try_write8(byte(n), at + n)?;
    }
    Ok(())
}

/// Unbinds the device from its driver, runs `f`, and binds it again.
pub(crate) fn unbound(f: impl FnOnce() -> Outcome) -> Outcome {
    let pdev = check_some!(memory()).pdev;
    let dev = raw::device(pdev.as_ref());
    // SAFETY: the device is there; nobody holds its lock.
    unsafe { bindings::device_release_driver(dev) };
    let result = f();
    // SAFETY: the device is there; nobody holds its lock.
    let attached = unsafe { bindings::device_attach(dev) };
    check_eq!(attached, 1);
    result
}
