// SPDX-License-Identifier: GPL-2.0

//! Cost of each method to map, phyr's and C's.
//!
//! Maps the same memory for QEMU's `edu` device by each method, for some rounds. The map and the
//! unmap of a round are a window each of the counting plugin (`tests/bench/plugin`). The kernel
//! log has a line for the windows of `ROUNDS` rounds:
//!
//! ```text
//!   phyr_bench: map METHOD PHYRS GAPS RANGES ROUNDS
//! ```
//!
//! An interrupt makes a round more expensive, so the cheapest round counts.

use kernel::{
    device::{
        Bound,
        Core, //
    },
    dma::DmaMask,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    ptr::Alignment, //
};
use phyr::{
    linear::LinearError,
    memory::{
        Chunks,
        Memory, //
    },
    raw,
    DataDirection,
    Limits,
    Mapper,
    MemoryKind,
    Phyr,
    Pinned,
    Slot,
    State, //
};
use phyr_driver::{
    pci::DmaParameters,
    scope::Scope, //
};
use phyr_iommu::{
    Access,
    Domain, //
};

/// Numbers of phyrs that are mapped at once.
const SIZES: [usize; 8] = [1, 2, 4, 8, 32, 128, 256, 4096];
/// Enough for the caches of the allocators to fill, and for one round without a timer's interrupt.
const ROUNDS: usize = 8;
const DIR: DataDirection = DataDirection::Bidirectional;
/// Room for the longest mapping.
const ROOM: usize = 64 << 20;

/// Pages that the longest mappings repeat.
const PAGES: usize = 4096;

/// A mark for the plugin, as in `tests/guest/mark.h`.
macro_rules! mark {
    ($kind:literal) => {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an instruction that does nothing.
        unsafe {
            core::arch::asm!(
                ".byte 0x0f, 0x1f, 0x84, 0x00",
                concat!(".long 0x506879", $kind)
            )
        }
    };
}

/// Room for a range, as in `tests/bench/phyr_bench.h`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Range {
    addr: kernel::dma::DmaAddress,
    len: usize,
}

/// The functions of `tests/bench/phyr_bench.h`. They are called by name, as kCFI would compare a
/// pointer's type with that of C.
enum InC {
    Sgtable,
    Phys,
    TwoStep,
    TwoStepGaps,
}

extern "C" {
    fn phyr_bench_sgtable(_: *mut c_void, _: *const Phyr, _: usize, _: *mut Range) -> isize;
    fn phyr_bench_phys(_: *mut c_void, _: *const Phyr, _: usize, _: *mut Range) -> isize;
    fn phyr_bench_two_step(_: *mut c_void, _: *const Phyr, _: usize, _: *mut Range) -> isize;
    fn phyr_bench_two_step_gaps(_: *mut c_void, _: *const Phyr, _: usize, _: *mut Range) -> isize;
    fn phyr_bench_disk(dev: u32) -> c_int;
}

/// Memory, and the phyrs of it that are mapped.
struct Input {
    memory: Chunks,
    phyrs: KVVec<Phyr>,
    /// Some of the phyrs end early.
    gaps: bool,
    /// Number of times that the memory is in one mapping.
    repeat: usize,
}

impl Input {
    /// Makes `nr` pages, the last in memory first, so that none follows the one before it
    /// wherever the allocator has found them. In front of each of `gaps` of them the page before
    /// ends early.
    fn new(nr: usize, gaps: usize) -> Result<Self> {
        let mut memory = Chunks::zeroed(nr * PAGE_SIZE, 0, GFP_KERNEL)?;
        descend(&mut memory);
        let mut phyrs = KVVec::with_capacity(nr, GFP_KERNEL)?;
        for (at, phyr) in memory.phyrs().enumerate() {
            let phyr = phyr?;
            let short = at + 1 < nr && at < gaps;
            let len = phyr.len() - if short { 512 } else { 0 };
            phyrs.push(Phyr::new(phyr.paddr(), len)?, GFP_KERNEL)?;
        }
        Ok(Self {
            memory,
            phyrs,
            gaps: gaps != 0,
            repeat: 1,
        })
    }
}

/// Sorts the chunks by where they are in memory, from the top down (comb sort).
fn descend(memory: &mut Chunks) {
    let mut step = memory.count();
    let mut moved = true;
    while step > 1 || moved {
        step = (step * 10 / 13).max(1);
        moved = false;
        for at in 0..memory.count() - step {
            if memory.paddr(at) < memory.paddr(at + step) {
                memory.swap(at, at + step);
                moved = true;
            }
        }
    }
}

/// One way to map.
struct Method {
    name: &'static str,
    /// Maps memory with gaps, too.
    gaps: bool,
    /// Maps in a domain of the driver's own.
    own: bool,
    /// Maps and unmaps once; returns the number of ranges.
    run: fn(&mut Host<'_>, &mut Input) -> Result<usize>,
}

/// The device, as the methods need it, and room for the ranges.
struct Host<'a> {
    mapper: Mapper<'a>,
    /// The driver's own domain, for the methods that map in one.
    domain: Option<Domain<'a>>,
    slots: KVVec<Slot>,
    ranges: KVVec<Range>,
}

const METHODS: [Method; 7] = [
    Method {
        name: "sgtable",
        gaps: true,
        own: false,
        run: |host, input| c(InC::Sgtable, host, input),
    },
    Method {
        name: "phys",
        gaps: true,
        own: false,
        run: |host, input| c(InC::Phys, host, input),
    },
    Method {
        name: "two-step",
        gaps: true,
        own: false,
        run: two_step,
    },
    Method {
        name: "scatter",
        gaps: true,
        own: false,
        run: scatter,
    },
    Method {
        name: "linear",
        gaps: false,
        own: false,
        run: linear,
    },
    Method {
        name: "domain",
        gaps: false,
        own: true,
        run: domain,
    },
    Method {
        name: "scatter-in-domain",
        gaps: true,
        own: true,
        run: scatter,
    },
];

fn c(f: InC, host: &mut Host<'_>, input: &Input) -> Result<usize> {
    let (phyrs, nr) = (input.phyrs.as_ptr(), input.phyrs.len());
    let dev = raw::device(host.mapper.device()).cast();
    // SAFETY: the device is bound, the phyrs are of memory that stays where it is, and there is
    // room for a range of each.
    let ranges = unsafe {
        let ranges = host.ranges.as_mut_ptr();
        match f {
            InC::Sgtable => phyr_bench_sgtable(dev, phyrs, nr, ranges),
            InC::Phys => phyr_bench_phys(dev, phyrs, nr, ranges),
            InC::TwoStep => phyr_bench_two_step(dev, phyrs, nr, ranges),
            InC::TwoStepGaps => phyr_bench_two_step_gaps(dev, phyrs, nr, ranges),
        }
    };
    // CAST: an errno, or a few ranges.
    kernel::error::to_result(ranges.min(0) as c_int)?;
    Ok(ranges.unsigned_abs())
}

fn two_step(host: &mut Host<'_>, input: &mut Input) -> Result<usize> {
    let f = if input.gaps {
        InC::TwoStepGaps
    } else {
        InC::TwoStep
    };
    c(f, host, input)
}

/// Does nothing: a window without an unmap.
fn nothing() {
    mark!("01");
    mark!("02");
}

fn scatter(host: &mut Host<'_>, input: &mut Input) -> Result<usize> {
    let (mapper, slots) = (&host.mapper, &mut host.slots);
    mark!("01");
    let source = input.phyrs.iter().copied().map(Ok);
    // SAFETY: the memory is there until it is unmapped below.
    let pinned = unsafe { Pinned::new(source, DIR, MemoryKind::System) };
    let mut state = State::UNMAPPED;
    let result = pinned.and_then(|pinned| mapper.map_into(pinned, || Ok(slots), &mut state));
    mark!("02");
    result.inspect_err(|_| nothing())?;
    let ranges = state.dma_vecs(slots).len();
    mark!("01");
    // SAFETY: just mapped so; the device never learned of it.
    unsafe { mapper.unmap_from(state, slots) };
    mark!("02");
    Ok(ranges)
}

fn linear(host: &mut Host<'_>, input: &mut Input) -> Result<usize> {
    let mapper = &host.mapper;
    let (phyrs, repeat) = (&input.phyrs, input.repeat);
    let source = (0..repeat).flat_map(|_| phyrs.iter().copied().map(Ok));
    let once = phyrs.iter().copied().map(Ok);
    let align = Alignment::new::<1>();
    mark!("01");
    let mapped = if repeat > 1 {
        // SAFETY: the memory is there until it is unmapped below, and the phyrs stay the same.
        let pinned = unsafe { Pinned::new(source, DIR, MemoryKind::System) };
        pinned
            .map_err(LinearError::Failed)
            .and_then(|pinned| mapper.linear_pinned(&pinned, align))
    } else {
        // SAFETY: the memory is there until it is unmapped below, and the phyrs stay the same.
        let pinned = unsafe { Pinned::new(once, DIR, MemoryKind::System) };
        pinned
            .map_err(LinearError::Failed)
            .and_then(|pinned| mapper.linear_pinned(&pinned, align))
    };
    mark!("02");
    let mapped = mapped.inspect_err(|_| nothing())?;
    mark!("01");
    drop(mapped);
    mark!("02");
    Ok(1)
}

fn domain(host: &mut Host<'_>, input: &mut Input) -> Result<usize> {
    let domain = host.domain.as_ref().ok_or(ENODEV)?;
    // A page in its place; the method takes no gaps, and so no phyrs that differ from the memory.
    let memory = core::mem::replace(&mut input.memory, Chunks::zeroed(PAGE_SIZE, 0, GFP_KERNEL)?);
    mark!("01");
    let mapping = domain.map(memory, Access::READ_WRITE);
    mark!("02");
    let mapping = mapping.inspect_err(|_| nothing())?;
    mark!("01");
    let memory = mapping.unmap();
    mark!("02");
    input.memory = memory;
    Ok(1)
}

/// Runs the rounds of a method and prints their line.
fn report(method: &Method, host: &mut Host<'_>, input: &mut Input, gaps: usize) -> Result {
    let mut ranges = 0;
    let nr = input.phyrs.len() * input.repeat;
    for round in 0..ROUNDS {
        ranges = match (method.run)(host, input) {
            Ok(ranges) => ranges,
            // Such as one range for what is scattered, where nothing translates.
            Err(e) if e == EOPNOTSUPP && round == 0 => {
                pr_info!("none {} {} {}\n", method.name, nr, gaps);
                return Ok(());
            }
            Err(e) => return Err(e),
        };
    }
    pr_info!(
        "map {} {} {} {} {}\n",
        method.name,
        nr,
        gaps,
        ranges,
        ROUNDS
    );
    Ok(())
}

/// Runs all methods for all sizes, with and without gaps.
fn all(host: &mut Host<'_>, own: bool) -> Result {
    for method in METHODS.iter().filter(|method| method.own == own) {
        for nr in SIZES {
            let most = if method.gaps { nr / 2 } else { 0 };
            let one = (most > 1).then_some(1);
            let several = (most > 0).then_some(most);
            for gaps in [Some(0), one, several].into_iter().flatten() {
                report(method, host, &mut Input::new(nr, gaps)?, gaps)?;
            }
        }
    }
    Ok(())
}

/// Runs linear mappings from [`PAGES`] pages to `most`.
fn growth(host: &mut Host<'_>, most: usize) -> Result {
    let mut input = Input::new(PAGES, 0)?;
    for method in METHODS.iter().filter(|method| method.name == "linear") {
        while PAGES * input.repeat <= most {
            report(method, host, &mut input, 0)?;
            input.repeat *= 4;
        }
    }
    Ok(())
}

fn run(dev: &kernel::device::Device<Bound>) -> Result {
    let disk = module_parameters::disk.value();
    if disk != 0 {
        // SAFETY: always allowed.
        return kernel::error::to_result(unsafe { phyr_bench_disk(disk) });
    }
    mark!("03");
    let most = module_parameters::growth.value().try_into()?;
    for own in [false, true] {
        let domain = match own.then(|| Domain::attach(dev, None)).transpose() {
            Ok(domain) => domain,
            Err(why) => {
                pr_info!("no domain: {}\n", why);
                continue;
            }
        };
        let mapper = match &domain {
            Some(domain) => domain.mapper(Limits::NONE, ROOM)?,
            None => Mapper::new(dev, Limits::NONE)?,
        };
        let mut slots = KVVec::new();
        slots.extend_with(PAGES, Slot::EMPTY, GFP_KERNEL)?;
        let mut ranges = KVVec::new();
        ranges.extend_with(PAGES, Range { addr: 0, len: 0 }, GFP_KERNEL)?;
        let mut host = Host {
            mapper,
            domain,
            slots,
            ranges,
        };
        if most == 0 {
            all(&mut host, own)?;
        } else if !own {
            growth(&mut host, most)?;
        }
    }
    Ok(())
}

struct Bench;

/// The device, as in `tests/kunit/edu.rs`.
const CLASS: u32 = 0x00_ff00;
const CLASS_MASK: u32 = 0xff_ff00;
const DEVICE: u16 = 0x11e8;

kernel::pci_device_table!(
    PCI_TABLE,
    <Bench as phyr_driver::pci::Driver>::IdInfo,
    [(pci::DeviceId::from_class(CLASS, CLASS_MASK), ())]
);

#[vtable]
impl phyr_driver::pci::Driver for Bench {
    type IdInfo = ();
    type Data<'bound> = Self;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn dma(pdev: &pci::Device, _info: Option<&Self::IdInfo>) -> Result<DmaParameters> {
        if pdev.device_id() != DEVICE {
            return Err(ENODEV);
        }
        Ok(DmaParameters::new(DmaMask::new::<64>()))
    }

    fn probe<'bound>(
        _scope: Scope<'bound>,
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self, Error> + 'bound {
        run(pdev.as_ref())?;
        Ok(Self)
    }
}

phyr_driver::module_pci_driver! {
    type: Bench,
    name: "phyr_bench",
    authors: ["phyr developers"],
    description: "What each way to map costs",
    license: "GPL",
    params: {
        growth: u32 {
            default: 0,
            description: "Only linear, from 4096 pages up to so many (0: all methods)",
        },
        disk: u32 {
            default: 0,
            description: "Only what blk-mq holds for a request of this disk, a dev_t (0: map)",
        },
    },
}
