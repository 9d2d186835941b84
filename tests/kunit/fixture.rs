// SPDX-License-Identifier: GPL-2.0

//! Shared by all tests: the device, and memory that is scattered on purpose.

use crate::check::{
    Failure,
    Outcome, //
};
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
        Core,
        Device, //
    },
    dma::DmaMask,
    error::to_result,
    faux,
    ffi::c_char,
    page::{
        Page,
        PAGE_SIZE, //
    },
    pci,
    prelude::*, //
};
use phyr::{
    memory::{
        Chunks,
        Pages, //
    },
    raw,
    Limits,
    Mapper, //
};
use phyr_driver::scope::{
    scope,
    Scope, //
};
use phyr_iommu::Domain;

/// The device that is bound, and the scope of its binding.
#[derive(Clone, Copy)]
pub(crate) struct Binding {
    pub(crate) scope: Scope<'static>,
    /// `Core`, as in probe: nobody but the suites uses the device.
    pub(crate) pdev: &'static pci::Device<Core<'static>>,
}

/// The device that is bound, or null.
static BINDING: AtomicPtr<Binding> = AtomicPtr::new(ptr::null_mut());

pub(crate) fn publish(scope: Scope<'_>, pdev: &pci::Device<Core<'_>>) -> Result {
    let binding = Binding {
        // SAFETY: only the lifetime changes. The device is withdrawn before it is unbound, and the
        // tests look at it in between only.
        scope: unsafe { core::mem::transmute::<Scope<'_>, Scope<'static>>(scope) },
        // SAFETY: only lifetimes change. The device is withdrawn before it is unbound, and the
        // tests look at it in between only.
        pdev: unsafe { &*ptr::from_ref(pdev).cast() },
    };
    let binding = KBox::new(binding, GFP_KERNEL)?;
    BINDING.store(KBox::into_raw(binding), Ordering::Release);
    Ok(())
}

pub(crate) fn withdraw() {
    let binding = BINDING.swap(ptr::null_mut(), Ordering::AcqRel);
    if !binding.is_null() {
        // SAFETY: `publish` gave it away, and it is taken back once.
        drop(unsafe { KBox::from_raw(binding) });
    }
}

/// Returns the device and the scope of its binding.
///
/// The suites run as the module is loaded, right after the driver was registered, and nobody
/// unbinds a device from it meanwhile.
pub(crate) fn binding() -> Result<Binding, Failure> {
    // SAFETY: the device is bound, and stays so while the suites run, see above.
    let binding = unsafe { BINDING.load(Ordering::Acquire).as_ref() };
    binding
        .copied()
        .ok_or_else(|| Failure::new(fmt!("no edu device is bound to phyr_test")))
}

/// Registers a device without an IOMMU, whose binding a test can end.
pub(crate) fn another_device() -> Result<faux::Registration> {
    let device = faux::Registration::new(c"phyr_test", None)?;
    let dev = raw::device(AsRef::<Device<Bound>>::as_ref(
        AsRef::<faux::Device<Bound>>::as_ref(&device),
    ));
    // SAFETY: the device is the test's own, and maps nothing yet.
    unsafe {
        (*dev).coherent_dma_mask = u64::MAX;
        (*dev).dma_mask = &raw mut (*dev).coherent_dma_mask;
    }
    Ok(device)
}

/// Returns it as the driver's.
pub(crate) fn bound(device: &faux::Registration) -> &Device<Bound> {
    AsRef::<faux::Device<Bound>>::as_ref(device).as_ref()
}

/// Reports the running case as skipped, for `reason`. The case must return then.
pub(crate) fn skip(reason: &CStr) {
    let task = kernel::current!().as_ptr();
    // SAFETY: the field is the task's own, and while a case runs it points to that, which only this
    // thread changes; the comment has room for a reason, which is cut off where that ends.
    unsafe {
        let test = (*task).kunit_test;
        if let Some(test) = test.as_mut() {
            for (to, &from) in test
                .status_comment
                .iter_mut()
                .zip(reason.to_bytes_with_nul())
            {
                // CAST: a `c_char` is a byte.
                *to = from as c_char;
            }
            test.status = bindings::kunit_status_KUNIT_SKIPPED;
        }
    }
}

/// Runs `test` with the device.
pub(crate) fn with_device(
    test: impl FnOnce(&pci::Device<Bound>, &Mapper<'_>) -> Outcome,
) -> Outcome {
    let pdev: &pci::Device<Bound> = binding()?.pdev;
    let domain = if crate::wants_domain() {
        Some(Domain::attach(pdev.as_ref(), None)?)
    } else {
        None
    };
    let mapper = mapper(pdev, domain.as_ref(), Limits::NONE)?;
    test(pdev, &mapper)
}

/// Runs `test` with the device, unless the suites map in a domain of the driver's own: for tests of
/// the DMA API, and for those that attach a domain of their own.
pub(crate) fn with_dma_api(
    test: impl FnOnce(&pci::Device<Bound>, &Mapper<'_>) -> Outcome,
) -> Outcome {
    if crate::wants_domain() {
        return Ok(());
    }
    with_device(test)
}

/// Runs `test` in a scope of its own.
pub(crate) fn in_scope<R>(
    dev: &Device<Bound>,
    test: impl for<'b> FnOnce(Scope<'b>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    scope(dev, |scope| Ok(test(scope)))?
}

/// Length of a mapper's region: the longest mapping of any test, and some more.
const REGION: usize = 16 << 30;

fn mapper<'a>(
    pdev: &'a pci::Device<Bound>,
    domain: Option<&Domain<'a>>,
    limits: Limits,
) -> Result<Mapper<'a>> {
    match domain {
        Some(domain) => domain.mapper(limits, REGION),
        None => Mapper::new(pdev.as_ref(), limits),
    }
}

/// Returns a mapper like `like` with other limits.
pub(crate) fn mapper_like<'a>(like: &Mapper<'a>, limits: Limits) -> Result<Mapper<'a>> {
    like.with_limits(limits)
}

/// Runs `test` with a DMA mask of `BITS` bits.
pub(crate) fn with_mask<const BITS: u32>(
    pdev: &pci::Device<Bound>,
    test: impl FnOnce() -> Outcome,
) -> Outcome {
    let set = |mask: u64| {
        // SAFETY: the device is bound, and nothing is being mapped for it: the suites run one test
        // at a time.
        let ret = unsafe { bindings::dma_set_mask(raw::device(pdev.as_ref()), mask) };
        to_result(ret)
    };
    set(DmaMask::new::<BITS>().value())?;
    let result = test();
    set(crate::dma_mask()?.value())?;
    result
}

/// Allocates `nr` pages, each not followed by its physical neighbour.
fn scattered(nr: usize) -> Result<KVVec<Page>> {
    let mut all = KVVec::with_capacity(2 * nr, GFP_KERNEL)?;
    for _ in 0..2 * nr {
        all.push(Page::alloc_page(GFP_KERNEL)?, GFP_KERNEL)?;
    }
    // The allocator likes to give out neighbours: go by where the pages are, from the highest on,
    // and take every second one.
    let mut pages = KVVec::with_capacity(nr, GFP_KERNEL)?;
    while pages.len() < nr {
        let page = take_highest(&mut all)?;
        drop(take_highest(&mut all)?);
        pages.push(page, GFP_KERNEL)?;
    }
    Ok(pages)
}

/// Takes the page out of `pages` that is highest in physical memory.
fn take_highest(pages: &mut KVVec<Page>) -> Result<Page> {
    let places = pages.iter().map(|page| page.as_ptr().addr());
    let (at, _) = places
        .enumerate()
        .max_by_key(|place| place.1)
        .ok_or(EINVAL)?;
    pages.remove(at).map_err(|_| EINVAL)
}

/// Allocates a buffer of `nr` scattered pages.
pub(crate) fn buffer(nr: usize) -> Result<Pages> {
    Pages::new(scattered(nr)?, 0, nr * PAGE_SIZE)
}

/// Allocates a physically contiguous buffer of `1 << order` pages.
pub(crate) fn contiguous(order: u32) -> Result<Chunks> {
    Chunks::zeroed(PAGE_SIZE << order, order, GFP_KERNEL)
}

/// The order of chunks of 2 MiB, a large page of most IOMMUs.
pub(crate) const ORDER_2M: u32 = (LEN_2M / PAGE_SIZE).ilog2();
pub(crate) const LEN_2M: usize = 2 << 20;

/// Allocates a buffer of `len` bytes at `offset` of a page.
pub(crate) fn piece(offset: usize, len: usize) -> Result<Pages> {
    Pages::new(scattered(1)?, offset, len)
}

/// Returns the byte that tests write at `at`.
pub(crate) fn pattern(at: usize) -> u8 {
    // CAST: the low bits are what is wanted.
    (at as u8).wrapping_mul(31) ^ ((at >> 8) as u8)
}

/// Returns `len` bytes of [`pattern()`], from `seed` on.
pub(crate) fn bytes(len: usize, seed: usize) -> Result<KVVec<u8>> {
    let mut bytes = KVVec::new();
    for n in 0..len {
        let byte = pattern(seed + n);
        bytes.push(byte, GFP_KERNEL)?;
    }
    Ok(bytes)
}

/// Returns a generator of numbers below a limit: the same in every run.
pub(crate) fn random(mut state: u64) -> impl FnMut(usize) -> usize {
    move |limit| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        // CAST: reduced to less than `limit`.
        (state >> 33) as usize % limit
    }
}
