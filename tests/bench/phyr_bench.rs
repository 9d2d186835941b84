// SPDX-License-Identifier: GPL-2.0

//! What each way to map costs, as counted: phyr's, and C's beside it.
//!
//! Maps the same memory for QEMU's `edu` device on each road and writes a line for each to the
//! kernel log:
//!
//! ```text
//!   phyr_bench: ROAD PHYRS GAPS MAP UNMAP RANGES
//! ```
//!
//! MAP and UNMAP are differences of the time stamp counter, the least of some rounds. They are
//! instructions if the guest runs with QEMU's `-icount shift=0`, and mean nothing otherwise. With
//! `road=` and `phyrs=` it maps just that, once, for those who count events meanwhile.

use core::iter;
use kernel::{
    device::{
        Bound,
        Core, //
    },
    dma::{
        Device,
        DmaMask, //
    },
    page::PAGE_SIZE,
    pci,
    prelude::*,
    ptr::Alignment, //
};
use phyr::{
    iommu::{
        Access,
        Domain, //
    },
    memory::{
        Chunks,
        Kind,
        Memory, //
    },
    raw,
    DataDirection,
    Limits,
    Mapper,
    Phyr,
    Slot, //
};

/// How many phyrs are mapped at once.
const SIZES: [usize; 8] = [1, 2, 4, 8, 32, 128, 256, 4096];
/// Enough for the caches of the allocators to fill, and for one round without a timer's interrupt.
const ROUNDS: usize = 8;
const DIR: DataDirection = DataDirection::Bidirectional;
/// Room for the longest mapping.
const ROOM: usize = 64 << 20;

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Cost {
    map: u64,
    unmap: u64,
    ranges: u64,
}

extern "C" {
    fn phyr_bench_now() -> u64;
    fn phyr_bench_sgtable(
        dev: *mut c_void,
        phyrs: *const Phyr,
        nr: usize,
        cost: &mut Cost,
    ) -> c_int;
    fn phyr_bench_two_step(
        dev: *mut c_void,
        phyrs: *const Phyr,
        nr: usize,
        cost: &mut Cost,
    ) -> c_int;
}

fn now() -> u64 {
    // SAFETY: always allowed.
    unsafe { phyr_bench_now() }
}

/// What is mapped: the memory, and the phyrs of it that are.
struct Input {
    memory: Chunks,
    phyrs: KVVec<Phyr>,
}

impl Input {
    /// `nr` pages that are not in the order in which they are in memory. In front of each of `gaps`
    /// of them the page before ends early.
    fn new(nr: usize, gaps: usize) -> Result<Self> {
        let mut memory = Chunks::zeroed(nr * PAGE_SIZE, 0, GFP_KERNEL)?;
        for at in 0..nr / 2 {
            memory.swap(at, nr - 1 - at);
        }
        let mut phyrs = KVVec::with_capacity(nr, GFP_KERNEL)?;
        for (at, phyr) in memory.phyrs().enumerate() {
            let phyr = phyr?;
            let short = at + 1 < nr && at < gaps;
            let len = phyr.len() - if short { 512 } else { 0 };
            phyrs.push(Phyr::new(phyr.paddr(), len)?, GFP_KERNEL)?;
        }
        Ok(Self { memory, phyrs })
    }
}

/// One way to map.
struct Road {
    name: &'static str,
    /// Whether it takes memory with gaps.
    gaps: bool,
    /// Whether it is in a domain of the driver's own.
    own: bool,
    run: fn(&Host<'_>, &mut Input, &mut [Slot]) -> Result<Cost>,
}

/// The device, as the roads want it.
struct Host<'a> {
    mapper: Mapper<'a>,
}

const ROADS: [Road; 6] = [
    Road {
        name: "sgtable",
        gaps: true,
        own: false,
        run: |device, input, _| c(phyr_bench_sgtable, device, input),
    },
    Road {
        name: "two-step",
        gaps: false,
        own: false,
        run: |device, input, _| c(phyr_bench_two_step, device, input),
    },
    Road {
        name: "scatter",
        gaps: true,
        own: false,
        run: scatter,
    },
    Road {
        name: "linear",
        gaps: false,
        own: false,
        run: linear,
    },
    Road {
        name: "domain",
        gaps: false,
        own: true,
        run: domain,
    },
    Road {
        name: "scatter-in-domain",
        gaps: true,
        own: true,
        run: scatter,
    },
];

type InC = unsafe extern "C" fn(*mut c_void, *const Phyr, usize, &mut Cost) -> c_int;

fn c(f: InC, device: &Host<'_>, input: &mut Input) -> Result<Cost> {
    let mut cost = Cost::default();
    let dev = raw::device(device.mapper.device()).cast();
    // SAFETY: the device is bound, and the phyrs are of memory that stays where it is.
    let result = unsafe { f(dev, input.phyrs.as_ptr(), input.phyrs.len(), &mut cost) };
    kernel::error::to_result(result)?;
    Ok(cost)
}

fn scatter(device: &Host<'_>, input: &mut Input, slots: &mut [Slot]) -> Result<Cost> {
    let mapper = &device.mapper;
    let source = input.phyrs.iter().copied().map(Ok);
    let then = now();
    // SAFETY: the memory is there until it is unmapped below; nobody else writes the slots.
    let state = unsafe { mapper.map_into(source, DIR, slots) }?;
    let map = now() - then;
    // CAST: a few.
    let ranges = state.dma_vecs(slots).len() as u64;
    let then = now();
    // SAFETY: just mapped so; the device never learned of it.
    unsafe { mapper.unmap_from(state, slots) };
    Ok(Cost {
        map,
        unmap: now() - then,
        ranges,
    })
}

fn linear(device: &Host<'_>, input: &mut Input, _: &mut [Slot]) -> Result<Cost> {
    let mapper = &device.mapper;
    let source = || input.phyrs.iter().copied().map(Ok);
    let then = now();
    // SAFETY: the memory is there until it is unmapped below, and the phyrs stay the same.
    let mapped = unsafe { mapper.linear_into(source, Kind::System, DIR, Alignment::new::<1>()) }?;
    let map = now() - then;
    let then = now();
    // SAFETY: just mapped so; the device never learned of it.
    unsafe { mapper.unmap_linear(mapped) };
    Ok(Cost {
        map,
        unmap: now() - then,
        ranges: 1,
    })
}

fn domain(device: &Host<'_>, input: &mut Input, _: &mut [Slot]) -> Result<Cost> {
    let domain = device.mapper.domain().ok_or(ENODEV)?;
    // A page in its place; the road takes no gaps, and so no phyrs that differ from the memory.
    let memory = core::mem::replace(&mut input.memory, Chunks::zeroed(PAGE_SIZE, 0, GFP_KERNEL)?);
    let then = now();
    let mapping = domain.map(memory, Access::READ_WRITE)?;
    let map = now() - then;
    let then = now();
    let memory = mapping.unmap();
    let unmap = now() - then;
    input.memory = memory;
    Ok(Cost {
        map,
        unmap,
        ranges: 1,
    })
}

/// One line: the least of what some rounds cost.
fn report(
    road: &Road,
    device: &Host<'_>,
    nr: usize,
    gaps: usize,
    rounds: usize,
    slots: &mut [Slot],
) -> Result {
    let mut input = Input::new(nr, gaps)?;
    let mut least = Cost {
        map: u64::MAX,
        unmap: u64::MAX,
        ranges: 0,
    };
    for _ in 0..rounds {
        let cost = match (road.run)(device, &mut input, slots) {
            // Such as one range for what is scattered, where nothing translates.
            Err(e) if e == EOPNOTSUPP => return Ok(()),
            cost => cost?,
        };
        least.map = least.map.min(cost.map);
        least.unmap = least.unmap.min(cost.unmap);
        least.ranges = cost.ranges;
    }
    pr_info!(
        "{} {} {} {} {} {}\n",
        road.name,
        nr,
        gaps,
        least.map,
        least.unmap,
        least.ranges
    );
    Ok(())
}

fn run(dev: &kernel::device::Device<Bound>) -> Result {
    let mut slots = KVVec::new();
    slots.extend_with(4096, Slot::EMPTY, GFP_KERNEL)?;
    let only = (
        usize::from(module_parameters::road.value()),
        usize::from(module_parameters::phyrs.value()),
    );
    for own in [false, true] {
        let mapper = if own {
            match Domain::attach(dev, None) {
                Ok(domain) => Mapper::in_domain(&domain, Limits::NONE, ROOM)?,
                Err(why) => {
                    pr_info!("no domain: {}\n", why);
                    continue;
                }
            }
        } else {
            Mapper::new(dev, Limits::NONE)?
        };
        let device = Host { mapper };
        let roads = ROADS.iter().zip(1..).filter(|(road, _)| road.own == own);
        for (road, number) in roads {
            if only.0 != 0 {
                if only.0 == number {
                    report(road, &device, only.1, 0, 1, &mut slots)?;
                }
                continue;
            }
            for nr in SIZES {
                let most = if road.gaps { nr / 2 } else { 0 };
                let one = (most > 1).then_some(1);
                let several = (most > 0).then_some(most);
                for gaps in
                    Iterator::chain(iter::once(0), Iterator::chain(one.into_iter(), several))
                {
                    report(road, &device, nr, gaps, ROUNDS, &mut slots)?;
                }
            }
        }
    }
    Ok(())
}

struct Bench;

/// As `tests/kunit/edu.rs` has it.
const CLASS: u32 = 0x00_ff00;
const CLASS_MASK: u32 = 0xff_ff00;
const DEVICE: u16 = 0x11e8;

kernel::pci_device_table!(
    PCI_TABLE,
    <Bench as pci::Driver>::IdInfo,
    [(pci::DeviceId::from_class(CLASS, CLASS_MASK), ())]
);

impl pci::Driver for Bench {
    type IdInfo = ();
    type Data<'bound> = Self;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self, Error> + 'bound {
        if pdev.device_id() != DEVICE {
            return Err(ENODEV);
        }
        // SAFETY: nothing is mapped for the device yet.
        unsafe { pdev.dma_set_mask_and_coherent(DmaMask::new::<64>())? };
        run(pdev.as_ref())?;
        Ok(Self)
    }
}

kernel::module_pci_driver! {
    type: Bench,
    name: "phyr_bench",
    authors: ["phyr developers"],
    description: "What each way to map costs",
    license: "GPL",
    params: {
        road: u8 {
            default: 0,
            description: "Only this one, once, counted from 1 (0: all)",
        },
        phyrs: u16 {
            default: 1,
            description: "With road: so many phyrs (1)",
        },
    },
}
