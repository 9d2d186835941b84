// SPDX-License-Identifier: GPL-2.0

//! Linear mappings on a device: one range or the right reason, and the bytes behind it.

use crate::{
    edu::{
        Engine,
        BUFFER, //
    },
    fixture::{
        self,
        buffer,
        bytes,
        mapper_like,
        no_memory,
        piece,
        with_device, //
        with_dma_api,
    },
    table,
    test_linear_large::Again, //
};
use core::{
    iter,
    mem::ManuallyDrop, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    ptr::Alignment, //
};
use phyr::{
    linear::{
        Edge,
        Limit,
        Linear,
        NotLinear, //
    },
    memory::{
        Chunks,
        Memory,
        PageMemory,
        Pages, //
    },
    DataDirection,
    Granule,
    Limits,
    Mapper,
    NotMapped, //
};

const DIR: DataDirection = DataDirection::Bidirectional;

// CAST: a page.
const PAGE: u64 = PAGE_SIZE as u64;

/// Whether memory is copied for the device whatever it is, as under `swiotlb=force`: who runs the
/// tests says so.
fn bounces() -> bool {
    crate::is_bounced()
}

/// A physically contiguous buffer of `1 << order` pages.
pub(crate) fn contiguous(order: u32) -> Result<Chunks> {
    Chunks::zeroed(PAGE_SIZE << order, order, GFP_KERNEL)
}

fn reason<M: Memory>(result: Result<Linear<'_, M>, NotMapped<M, NotLinear>>) -> Option<NotLinear> {
    result.err().map(|refused| refused.reason)
}

/// Checks that mapping `memory` fails for just this reason.
fn refused<M: Memory>(mapper: &Mapper<'_>, memory: M, why: NotLinear) -> Result<(), &'static str> {
    match mapper.linear(memory, DIR) {
        Ok(_) => Err("mapped"),
        Err(refused) if refused.reason == why => Ok(()),
        Err(refused) => {
            pr_err!("{}\n", refused.reason);
            Err("another reason")
        }
    }
}

/// What scattered memory must do on this device: where it is linear, checks all of its page table.
fn scattered(mapper: &Mapper<'_>, nr: usize) -> Result<(), &'static str> {
    let memory = buffer(nr).map_err(no_memory)?;
    if mapper.granule().is_none() {
        let why = NotLinear::NotTranslated {
            phyr: 1,
            offset: PAGE,
        };
        return refused(mapper, memory, why);
    }
    let mut phyrs = KVVec::new();
    for phyr in memory.phyrs().flatten() {
        phyrs.push(phyr, GFP_KERNEL).map_err(no_memory)?;
    }
    let linear = mapper.linear(memory, DIR).map_err(|_| "not mapped")?;
    let vec = linear.dma_vec();
    if vec.len() != nr * PAGE_SIZE {
        return Err("not all of it");
    }
    table::check(mapper, iter::once(vec), phyrs.iter().copied())?;
    drop(linear.unmap());
    table::check_gone(mapper, iter::once(vec))
}

/// Memory with `list` of a page each: where in it, and how much.
fn pieces(list: &[(usize, usize)]) -> Result<KVVec<Pages>, &'static str> {
    let mut all = KVVec::new();
    for &(offset, len) in list {
        let piece = piece(offset, len).map_err(no_memory)?;
        all.push(piece, GFP_KERNEL).map_err(no_memory)?;
    }
    Ok(all)
}

/// The device carries bytes between two mappings, by the address of a byte alone: across the pages,
/// as it cannot know where those are. The CPU has its turns by `vmap()` and by copy.
fn carry<M: PageMemory>(
    engine: &Engine<'_>,
    mapper: &Mapper<'_>,
    memory: impl Fn() -> Result<M>,
    at: usize,
) -> Result<(), &'static str> {
    let all = bytes(BUFFER, at)?;
    let linear = || -> Result<Linear<'_, M>, &'static str> {
        let memory = memory().map_err(no_memory)?;
        mapper.linear(memory, DIR).map_err(|_| "not mapped")
    };
    let (mut from, mut to) = (linear()?, linear()?);

    let mut access = from.cpu().map_err(|_| "no turn of the CPU")?;
    let mut vmap = access.vmap().map_err(|_| "no vmap")?;
    vmap.write(at, &all).map_err(|_| "not written")?;
    if vmap.write(8 * PAGE_SIZE - BUFFER + 1, &all).is_ok() {
        return Err("written behind the end");
    }
    drop(vmap);
    drop(access);
    engine
        .read(from.dma_vec(), at, BUFFER)
        .and_then(|()| engine.write(to.dma_vec(), at, BUFFER))
        .map_err(|_| "no transfer")?;
    let mut seen = bytes(BUFFER, at + 1)?;
    to.cpu()
        .and_then(|access| access.read(at, &mut seen))
        .map_err(|_| "not read")?;
    if seen[..] != all[..] {
        return Err("other bytes");
    }
    // Beside them nothing was written.
    let mut beside = [1, 1];
    let memory = to.unmap();
    memory
        .read(at - 1, &mut beside[..1])
        .and_then(|()| memory.read(at + BUFFER, &mut beside[1..]))
        .map_err(|_| "not read")?;
    if beside != [0, 0] {
        return Err("bytes beside");
    }
    Ok(())
}

/// Eight pages, each somewhere else.
fn eight() -> Result<Chunks> {
    let mut memory = Chunks::zeroed(8 * PAGE_SIZE, 0, GFP_KERNEL)?;
    for at in 0..4 {
        memory.swap(at, 7 - at);
    }
    Ok(memory)
}

/// As the CPU's own memory, through a copy.
fn copied(engine: &Engine<'_>, mapper: &Mapper<'_>) -> Result<(), &'static str> {
    let at = PAGE_SIZE - 100;
    let all = bytes(BUFFER, 3)?;
    let copy = |dir| {
        let memory = buffer(8).map_err(no_memory)?;
        mapper.linear_copy(memory, dir).map_err(|_| "no copy")
    };
    let mut from = copy(DataDirection::ToDevice)?;
    let mut to = copy(DataDirection::FromDevice)?;

    from.write(at, &all).map_err(|_| "not written")?;
    to.write(0, &[0x55]).map_err(|_| "not written")?;
    let turn = from.hand_over().map_err(|_| "not handed over")?;
    if turn.dma_vec().len() != 8 * PAGE_SIZE {
        return Err("not all of it");
    }
    let read = engine.read(turn.dma_vec(), at, BUFFER);
    read.and_then(|()| turn.hand_back())
        .map_err(|_| "no turn")?;
    let turn = to.hand_over().map_err(|_| "not handed over")?;
    let written = engine.write(turn.dma_vec(), at, BUFFER);
    written
        .and_then(|()| turn.hand_back())
        .map_err(|_| "no turn")?;

    let (mut seen, mut beside) = (bytes(BUFFER, 4)?, [0]);
    to.read(at, &mut seen)
        .and_then(|()| to.read(0, &mut beside))
        .map_err(|_| "not read")?;
    if seen[..] != all[..] {
        return Err("other bytes");
    }
    if beside != [0x55] {
        return Err("what the device left out is lost");
    }
    if to.into_memory().len() != 8 * PAGE_SIZE {
        return Err("other memory");
    }
    Ok(())
}

/// Where a mapping of `memory` that is aligned to `align` is, or why it cannot be.
fn aligned<M: Memory>(
    mapper: &Mapper<'_>,
    memory: M,
    align: usize,
) -> Result<u64, Result<NotLinear, &'static str>> {
    let align = Alignment::new_checked(align).ok_or(Err("no alignment"))?;
    match mapper.linear_aligned(memory, DIR, align) {
        Ok(linear) => Ok(linear.dma_vec().addr().into_raw()),
        Err(refused) => Err(Ok(refused.reason)),
    }
}

/// After the end of a mapping the device gets nowhere through its address.
fn faults(engine: &Engine<'_>, mapper: &Mapper<'_>) -> Result<(), &'static str> {
    let all = bytes(BUFFER, 11)?;
    let mut memory = buffer(4).map_err(no_memory)?;
    memory.write(0, &all).map_err(|_| "not written")?;
    let linear = mapper.linear(memory, DIR).map_err(|_| "not mapped")?;
    let vec = linear.dma_vec();

    // What the device has in its buffer would change the memory.
    engine.read(vec, PAGE_SIZE, BUFFER).map_err(|_| "no read")?;
    let memory = linear.unmap();
    engine.write(vec, 0, BUFFER).map_err(|_| "no write")?;
    let mut seen = bytes(BUFFER, 12)?;
    memory.read(0, &mut seen).map_err(|_| "not read")?;
    if seen[..] != all[..] {
        return Err("the device still wrote");
    }
    pr_info!("phyr_test: a write behind the end of a mapping changed nothing\n");
    Ok(())
}

#[kunit_tests(phyr_device_linear)]
mod tests {
    use super::*;

    #[test]
    fn scattered_pages_are_one_range_or_not_translated() {
        let result = with_device(|_, mapper| {
            for nr in [2, 3, 64, 512, 700] {
                scattered(mapper, nr)?;
            }
            // For a device that is not trusted: whole granules, as anything else is copied.
            let unpacked = mapper_unpacked(mapper)?;
            scattered(&unpacked, 64)?;
            if mapper.granule().is_some() {
                let part = piece(100, 200).map_err(no_memory)?;
                refused(&unpacked, part, NotLinear::Bounced)?;
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }

    fn mapper_unpacked<'a>(mapper: &Mapper<'a>) -> Result<Mapper<'a>, &'static str> {
        let mapper = mapper_like(mapper, Limits::NONE);
        mapper.map(Mapper::unpacked).map_err(|_| "no mapper")
    }

    #[test]
    fn contiguous_memory_is_linear_on_every_device_that_gets_no_copy() {
        let result = with_device(|_, mapper| {
            let memory = contiguous(4).map_err(no_memory)?;
            if bounces() {
                return refused(mapper, memory, NotLinear::Bounced);
            }
            let linear = mapper.linear(memory, DIR).map_err(|_| "not mapped")?;
            if linear.dma_vec().len() != PAGE_SIZE << 4 {
                return Err("not all of it");
            }
            // A part of a page.
            let memory = piece(100, 200).map_err(no_memory)?;
            let linear = mapper.linear(memory, DIR).map_err(|_| "not mapped")?;
            let vec = linear.dma_vec();
            let granule = mapper.granule().map_or(PAGE, Granule::size);
            if (vec.addr().into_raw() & (granule - 1), vec.len()) != (100, 200) {
                return Err("not that part");
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn what_does_not_join_is_named() {
        let result = with_device(|_, mapper| {
            let Some(granule) = mapper.granule().map(Granule::size) else {
                return Ok(());
            };
            let misaligned = |phyr, edge, offset| NotLinear::Misaligned {
                phyr,
                edge,
                offset,
                granule,
            };
            // CAST: a page at most.
            let (whole, half) = ((0, PAGE_SIZE), granule as usize / 2);
            let memory = pieces(&[whole, (half, half), whole])?;
            refused(mapper, memory, misaligned(1, Edge::Start, PAGE))?;
            let memory = pieces(&[whole, whole, (0, 1), whole])?;
            refused(mapper, memory, misaligned(2, Edge::End, 2 * PAGE + 1))?;
            let memory = pieces(&[whole, (0, 8), (16, 8)])?;
            let gap = NotLinear::Gap {
                phyr: 2,
                offset: PAGE + 8,
            };
            refused(mapper, memory, gap)?;
            // At both ends it may be a part.
            let memory = pieces(&[(half, half), whole, (0, 5)])?;
            let len = Memory::len(&memory);
            let linear = mapper.linear(memory, DIR).map_err(|_| "not mapped")?;
            if linear.dma_vec().len() != len {
                return Err("not all of it");
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn limits_of_the_device_are_kept() {
        let result = with_device(|_, mapper| {
            if bounces() {
                return Ok(());
            }
            let with = |limits: Option<Limits>| {
                mapper_like(mapper, limits.ok_or("no limits")?).map_err(|_| "no mapper")
            };
            let over = |limit, asked, max| NotLinear::Limit { limit, asked, max };
            let mapper = with(Limits::NONE.with_max_segment(4 * PAGE))?;
            let memory = |order| contiguous(order).map_err(no_memory);
            mapper.linear(memory(2)?, DIR).map_err(|_| "not mapped")?;
            refused(
                &mapper,
                memory(3)?,
                over(Limit::Segment, 8 * PAGE, 4 * PAGE),
            )?;

            let mapper = with(Limits::NONE.with_boundary_mask(4 * PAGE - 1))?;
            let mut all = KVVec::new();
            for nr in 0..64 {
                // Of lengths that are no power of two where that can be.
                let linear = if mapper.granule().is_some() && nr % 2 == 0 {
                    let memory = Chunks::zeroed(3 * PAGE_SIZE, 0, GFP_KERNEL);
                    mapper.linear(memory.map_err(no_memory)?, DIR)
                } else {
                    mapper.linear(memory(2)?, DIR)
                };
                let linear = linear.map_err(|_| "not mapped")?;
                let (addr, len) = (linear.dma_vec().addr(), linear.dma_vec().len());
                // CAST: a `usize` is at most 64 bits wide.
                if addr.into_raw() % (4 * PAGE) + len as u64 > 4 * PAGE {
                    return Err("across a boundary");
                }
                all.push(linear, GFP_KERNEL).map_err(no_memory)?;
            }
            drop(all);
            refused(
                &mapper,
                memory(3)?,
                over(Limit::Boundary, 8 * PAGE, 4 * PAGE),
            )
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn masks_are_kept() {
        let result = with_dma_api(|pdev, mapper| {
            if mapper.granule().is_none() {
                return Ok(());
            }
            fixture::with_mask::<24>(pdev, || {
                let memory = Again::new(9).map_err(no_memory)?;
                let mask = (1 << 24) - 1;
                let why = NotLinear::Limit {
                    limit: Limit::Mask,
                    asked: (50 << 20) - 1,
                    max: mask,
                };
                refused(mapper, memory, why)?;
                // Half of it, and no room for the other.
                let half = || buffer((8 << 20) / PAGE_SIZE).map_err(no_memory);
                let first = mapper.linear(half()?, DIR).map_err(|_| "not mapped")?;
                refused(mapper, half()?, NotLinear::NoSpace)?;
                drop(first);
                mapper.linear(half()?, DIR).map_err(|_| "not again")?;
                Ok(())
            })
        });
        assert_eq!(result, Ok(()));
    }

    /// Without an IOMMU the address is the memory's.
    #[test]
    fn where_memory_is_decides_on_the_direct_map() {
        let result = with_device(|pdev, mapper| {
            if mapper.granule().is_some() || bounces() {
                return Ok(());
            }
            let memory = || contiguous(4).map_err(no_memory);
            let align = |align| aligned(mapper, memory().map_err(Err)?, align);
            if !matches!(align(PAGE_SIZE << 4), Ok(addr) if addr % (PAGE << 4) == 0) {
                return Err("not aligned as it is");
            }
            if !matches!(align(1 << 40), Err(Ok(NotLinear::Alignment { .. }))) {
                return Err("aligned as it is not");
            }
            // This machine has no memory below 1 GiB, and the kernel takes no mask without some.
            if cfg!(CONFIG_ARM64) {
                return Ok(());
            }
            fixture::with_mask::<24>(pdev, || {
                let memory = memory()?;
                let start = memory.phyrs().flatten().next().map(|phyr| phyr.paddr());
                if start.is_none_or(|start| start.into_raw() < 1 << 24) {
                    return Err("memory that the mask reaches");
                }
                match reason(mapper.linear(memory, DIR)) {
                    Some(NotLinear::Limit {
                        limit: Limit::Mask,
                        max,
                        ..
                    }) if max == (1 << 24) - 1 => Ok(()),
                    _ => Err("out of reach: mapped, or another reason"),
                }
            })
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn alignment_is_honoured_or_refused() {
        let result = with_device(|_, mapper| {
            if mapper.granule().is_none() {
                return Ok(());
            }
            for shift in 12..22 {
                let align = 1 << shift;
                let memory = buffer(3).map_err(no_memory)?;
                // CAST: a `usize` is at most 64 bits wide.
                match aligned(mapper, memory, align) {
                    Ok(addr) if addr % align as u64 == 0 => {}
                    _ => return Err("not aligned"),
                }
            }
            let memory = piece(512, 512).map_err(no_memory)?;
            if !matches!(aligned(mapper, memory, 512), Ok(addr) if addr % 512 == 0) {
                return Err("not aligned to a part of a page");
            }
            let memory = piece(512, 512).map_err(no_memory)?;
            let why = NotLinear::Alignment {
                align: 1024,
                excess: 512,
            };
            if aligned(mapper, memory, 1024) != Err(Ok(why)) {
                return Err("not refused");
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn the_device_carries_bytes_across_pages() {
        let result = with_device(|pdev, mapper| {
            if bounces() {
                return Ok(());
            }
            let engine = Engine::new(pdev).map_err(|_| "no engine")?;
            for at in [1, PAGE_SIZE, 3 * PAGE_SIZE - 5] {
                if mapper.granule().is_some() {
                    carry(&engine, mapper, eight, at)?;
                }
                carry(&engine, mapper, || contiguous(3), at)?;
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn a_copy_is_linear_everywhere() {
        let result = with_dma_api(|pdev, mapper| {
            copied(&Engine::new(pdev).map_err(|_| "no engine")?, mapper)?;

            let limits = Limits::NONE.with_max_segment(4 * PAGE).ok_or("no limits")?;
            let mapper = mapper_like(mapper, limits).map_err(|_| "no mapper")?;
            let why = |memory, dir| mapper.linear_copy(memory, dir).err().map(|e| e.reason);
            let long = NotLinear::Limit {
                limit: Limit::Segment,
                asked: 5 * PAGE,
                max: 4 * PAGE,
            };
            if why(buffer(5).map_err(no_memory)?, DIR) != Some(long) {
                return Err("too long: another reason");
            }
            let none = why(buffer(1).map_err(no_memory)?, DataDirection::None);
            if none != Some(NotLinear::Failed(EINVAL)) {
                return Err("no direction: another reason");
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn nothing_and_no_direction_are_refused() {
        let result = with_device(|_, mapper| {
            refused(mapper, KVVec::<Pages>::new(), NotLinear::Empty)?;
            let memory = buffer(1).map_err(no_memory)?;
            let none = reason(mapper.linear(memory, DataDirection::None));
            if none != Some(NotLinear::Failed(EINVAL)) {
                return Err("no direction: another reason");
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }

    /// The CPU's turn by one range of the kernel's addresses.
    /// A leaked mapping keeps its pages, and the device still reaches them.
    #[test]
    fn a_leaked_mapping_keeps_its_memory() {
        let result = with_device(|_, mapper| {
            if mapper.granule().is_none() {
                return Ok(());
            }
            let memory = buffer(4).map_err(no_memory)?;
            let phyr = memory.phyrs().nth(2).and_then(Result::ok);
            let linear = mapper.linear(memory, DIR).map_err(|_| "not mapped")?;
            let addr = linear.dma_vec().addr().into_raw() + 2 * PAGE;
            // As good as forgotten, but that the memory checker is not to find it at the end.
            let mut leaked = ManuallyDrop::new(linear);
            // Were the page free, one of these would be it.
            for _ in 0..64 {
                let other = piece(0, PAGE_SIZE).map_err(no_memory)?;
                if other.phyrs().next().and_then(Result::ok) == phyr {
                    return Err("the page was given out again");
                }
            }
            let there = table::lookup(mapper.device(), addr);
            if there.is_none() || there != phyr.map(|phyr| phyr.paddr().into_raw()) {
                return Err("the mapping ended");
            }
            // SAFETY: it is dropped once, here.
            unsafe { ManuallyDrop::drop(&mut leaked) };
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }

    /// Only where it is asked for (`faults=1`): the kernel logs a fault, which every other test
    /// takes for a failure.
    #[test]
    fn behind_the_end_the_device_faults() {
        let result = with_device(|pdev, mapper| {
            if mapper.granule().is_none() || !crate::wants_faults() {
                return Ok(());
            }
            faults(&Engine::new(pdev).map_err(|_| "no engine")?, mapper)
        });
        assert_eq!(result, Ok(()));
    }
}
