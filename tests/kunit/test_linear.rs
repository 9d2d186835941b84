// SPDX-License-Identifier: GPL-2.0

//! Linear mappings on a device: one range or the right reason, and the bytes that it leads to.

use crate::{
    check::{
        check_bytes,
        Failure,
        Outcome, //
    },
    edu::{
        Engine,
        BUFFER, //
    },
    fixture::{
        self,
        buffer,
        bytes,
        contiguous,
        mapper_like,
        piece,
        with_device,
        with_dma_api, //
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
        LinearError, //
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
    MapError, //
    Mapper,
};

const DIR: DataDirection = DataDirection::Bidirectional;

// CAST: a page.
const PAGE: u64 = PAGE_SIZE as u64;

fn reason<M: Memory>(
    result: Result<Linear<'_, M>, MapError<M, LinearError>>,
) -> Option<LinearError> {
    result.err().map(|refused| refused.error)
}

/// Checks that mapping `memory` fails for this reason.
#[track_caller]
fn refused<M: Memory<Direction = DataDirection>>(
    mapper: &Mapper<'_>,
    memory: M,
    why: LinearError,
) -> Outcome {
    check_eq!(reason(mapper.linear(memory, DIR)), Some(why));
    Ok(())
}

/// Checks that scattered memory is one range behind an IOMMU, and refused without one.
fn scattered(mapper: &Mapper<'_>, nr: usize) -> Outcome {
    let memory = buffer(nr)?;
    if mapper.granule().is_none() {
        let why = LinearError::NotTranslated {
            phyr: 1,
            offset: PAGE,
        };
        return refused(mapper, memory, why);
    }
    let mut phyrs = KVVec::new();
    for phyr in memory.phyrs().flatten() {
        phyrs.push(phyr, GFP_KERNEL)?;
    }
    let linear = mapper.linear(memory, DIR)?;
    let vec = linear.dma_vec();
    check_eq!(vec.len(), nr * PAGE_SIZE);
    table::check(mapper, iter::once(vec), phyrs.iter().copied())?;
    drop(linear.unmap());
    table::check_gone(mapper, iter::once(vec))
}

/// Allocates pieces, each `(offset, length)` of a page of its own.
fn pieces(list: &[(usize, usize)]) -> Result<KVVec<Pages>> {
    let mut all = KVVec::new();
    for &(offset, len) in list {
        all.push(piece(offset, len)?, GFP_KERNEL)?;
    }
    Ok(all)
}

/// Checks bytes that the device moves between two mappings, across pages. The CPU accesses them by
/// `vmap()` and by copy.
fn carry<M: PageMemory<Direction = DataDirection>>(
    engine: &Engine<'_>,
    mapper: &Mapper<'_>,
    memory: impl Fn() -> Result<M>,
    at: usize,
) -> Outcome {
    let all = bytes(BUFFER, at)?;
    let linear = || -> Result<Linear<'_, M>> { Ok(mapper.linear(memory()?, DIR)?) };
    let (mut from, mut to) = (linear()?, linear()?);

    let mut access = from.cpu()?;
    let mut vmap = access.vmap()?;
    vmap.write(at, &all)?;
    check!(vmap.write(8 * PAGE_SIZE - BUFFER + 1, &all).is_err());
    drop(vmap);
    drop(access);
    engine
        .read(from.dma_vec(), at, BUFFER)
        .and_then(|()| engine.write(to.dma_vec(), at, BUFFER))?;
    let mut seen = bytes(BUFFER, at + 1)?;
    to.cpu().and_then(|access| access.read(at, &mut seen))?;
    check_bytes(&seen, &all)?;
    // Beside them nothing was written.
    let mut beside = [1, 1];
    let memory = to.unmap();
    memory
        .read(at - 1, &mut beside[..1])
        .and_then(|()| memory.read(at + BUFFER, &mut beside[1..]))?;
    check_eq!(beside, [0, 0]);
    Ok(())
}

/// Allocates eight pages that are not in the order of their addresses.
fn eight() -> Result<Chunks> {
    let mut memory = Chunks::zeroed(8 * PAGE_SIZE, 0, GFP_KERNEL)?;
    for at in 0..4 {
        memory.swap(at, 7 - at);
    }
    Ok(memory)
}

/// Checks bytes that the device moves between two copies.
fn copied(engine: &Engine<'_>, mapper: &Mapper<'_>) -> Outcome {
    let at = PAGE_SIZE - 100;
    let all = bytes(BUFFER, 3)?;
    let copy = |dir| -> Result<_> { Ok(mapper.linear_copy(buffer(8)?, dir)?) };
    let mut from = copy(DataDirection::ToDevice)?;
    let mut to = copy(DataDirection::FromDevice)?;

    from.write(at, &all)?;
    to.write(0, &[0x55])?;
    let turn = from.hand_over()?;
    check_eq!(turn.dma_vec().len(), 8 * PAGE_SIZE);
    let read = engine.read(turn.dma_vec(), at, BUFFER);
    read.and_then(|()| turn.hand_back())?;
    let turn = to.hand_over()?;
    let written = engine.write(turn.dma_vec(), at, BUFFER);
    written.and_then(|()| turn.hand_back())?;

    let (mut seen, mut beside) = (bytes(BUFFER, 4)?, [0]);
    to.read(at, &mut seen)
        .and_then(|()| to.read(0, &mut beside))?;
    check_bytes(&seen, &all)?;
    check_eq!(beside, [0x55]);
    check_eq!(to.into_memory().len(), 8 * PAGE_SIZE);
    Ok(())
}

/// Maps `memory` aligned to `align`. Returns the address, or the reason for none.
fn aligned<M: Memory<Direction = DataDirection>>(
    mapper: &Mapper<'_>,
    memory: M,
    align: usize,
) -> Result<Result<u64, LinearError>, Failure> {
    let align = check_some!(Alignment::new_checked(align));
    Ok(match mapper.linear_aligned(memory, DIR, align) {
        Ok(linear) => Ok(linear.dma_vec().addr().into_raw()),
        Err(refused) => Err(refused.error),
    })
}

/// Checks that after the end of a mapping the device faults at its address.
fn faults(engine: &Engine<'_>, mapper: &Mapper<'_>) -> Outcome {
    let all = bytes(BUFFER, 11)?;
    let mut memory = buffer(4)?;
    memory.write(0, &all)?;
    let linear = mapper.linear(memory, DIR)?;
    let vec = linear.dma_vec();

    // The device's buffer now differs from the memory.
    engine.read(vec, PAGE_SIZE, BUFFER)?;
    let memory = linear.unmap();
    engine.write(vec, 0, BUFFER)?;
    let mut seen = bytes(BUFFER, 12)?;
    memory.read(0, &mut seen)?;
    check_bytes(&seen, &all)?;
    pr_info!("phyr_test: a write past the end of a mapping changed nothing\n");
    Ok(())
}

#[kunit_tests(phyr_device_linear)]
mod tests {
    use super::*;

    #[test]
    fn scattered_pages_are_one_range_or_not_translated() -> Outcome {
        if crate::keeps_tables() {
            return Ok(());
        }
        with_device(|_, mapper| {
            for nr in [2, 3, 64, 512, 700] {
                scattered(mapper, nr)?;
            }
            // For a device that is not trusted: whole granules, as anything else is copied.
            let unpacked = mapper_like(mapper, Limits::NONE)?.unpacked();
            scattered(&unpacked, 64)?;
            if mapper.granule().is_some() {
                let part = piece(100, 200)?;
                refused(&unpacked, part, LinearError::Bounced)?;
            }
            Ok(())
        })
    }

    #[test]
    fn contiguous_memory_is_linear_on_every_device_that_gets_no_copy() -> Outcome {
        with_device(|_, mapper| {
            let memory = contiguous(4)?;
            if crate::is_bounced() {
                return refused(mapper, memory, LinearError::Bounced);
            }
            let linear = mapper.linear(memory, DIR)?;
            check_eq!(linear.dma_vec().len(), PAGE_SIZE << 4);
            // A part of a page.
            let memory = piece(100, 200)?;
            let linear = mapper.linear(memory, DIR)?;
            let vec = linear.dma_vec();
            let granule = mapper.granule().map_or(PAGE, Granule::size);
            check_eq!(
                (vec.addr().into_raw() & (granule - 1), vec.len()),
                (100, 200)
            );
            Ok(())
        })
    }

    #[test]
    fn what_does_not_join_is_named() -> Outcome {
        with_device(|_, mapper| {
            let Some(granule) = mapper.granule().map(Granule::size) else {
                return Ok(());
            };
            let misaligned = |phyr, edge, offset| LinearError::Misaligned {
                phyr,
                edge,
                offset,
                granule,
            };
            // CAST: a page at most.
            let (whole, half) = ((0, PAGE_SIZE), granule as usize / 2);
            let gap = LinearError::Gap {
                phyr: 2,
                offset: PAGE + 8,
            };
            let lists: [(&[(usize, usize)], LinearError); 3] = [
                (
                    &[whole, (half, half), whole],
                    misaligned(1, Edge::Start, PAGE),
                ),
                (
                    &[whole, whole, (0, 1), whole],
                    misaligned(2, Edge::End, 2 * PAGE + 1),
                ),
                (&[whole, (0, 8), (16, 8)], gap),
            ];
            for (list, why) in lists {
                refused(mapper, pieces(list)?, why)?;
            }
            // At both ends it may be a part.
            let memory = pieces(&[(half, half), whole, (0, 5)])?;
            let len = Memory::len(&memory);
            let linear = mapper.linear(memory, DIR)?;
            check_eq!(linear.dma_vec().len(), len);
            Ok(())
        })
    }

    #[test]
    fn limits_of_the_device_are_kept() -> Outcome {
        with_device(|_, mapper| {
            if crate::is_bounced() {
                return Ok(());
            }
            let with = |limits: Option<Limits>| mapper_like(mapper, limits.ok_or(EINVAL)?);
            let over = |limit, asked, max| LinearError::Limit { limit, asked, max };
            let mapper = with(Limits::NONE.with_max_segment(4 * PAGE))?;
            mapper.linear(contiguous(2)?, DIR)?;
            refused(
                &mapper,
                contiguous(3)?,
                over(Limit::Segment, 8 * PAGE, 4 * PAGE),
            )?;

            let mapper = with(Limits::NONE.with_boundary_mask(4 * PAGE - 1))?;
            let mut all = KVVec::new();
            for nr in 0..64 {
                // Of lengths that are no power of two where that can be.
                let linear = if mapper.granule().is_some() && nr % 2 == 0 {
                    mapper.linear(Chunks::zeroed(3 * PAGE_SIZE, 0, GFP_KERNEL)?, DIR)
                } else {
                    mapper.linear(contiguous(2)?, DIR)
                };
                let linear = linear?;
                let (addr, len) = (linear.dma_vec().addr(), linear.dma_vec().len());
                // CAST: a `usize` is at most 64 bits wide.
                check_cmp!(addr.into_raw() % (4 * PAGE) + len as u64, <=, 4 * PAGE);
                all.push(linear, GFP_KERNEL)?;
            }
            drop(all);
            refused(
                &mapper,
                contiguous(3)?,
                over(Limit::Boundary, 8 * PAGE, 4 * PAGE),
            )
        })
    }

    #[test]
    fn masks_are_kept() -> Outcome {
        with_dma_api(|pdev, mapper| {
            if mapper.granule().is_none() || crate::keeps_tables() {
                return Ok(());
            }
            fixture::with_mask::<24>(pdev, || {
                let memory = Again::new(9)?;
                let mask = (1 << 24) - 1;
                let why = LinearError::Limit {
                    limit: Limit::Mask,
                    asked: (50 << 20) - 1,
                    max: mask,
                };
                refused(mapper, memory, why)?;
                // Half of it, and no room for the other.
                let half = || buffer((8 << 20) / PAGE_SIZE);
                let first = mapper.linear(half()?, DIR)?;
                refused(mapper, half()?, LinearError::NoSpace)?;
                drop(first);
                mapper.linear(half()?, DIR)?;
                Ok(())
            })
        })
    }

    /// Without an IOMMU the DMA address is the physical one.
    #[test]
    fn where_memory_is_decides_on_the_direct_map() -> Outcome {
        with_device(|pdev, mapper| {
            if mapper.granule().is_some() || crate::is_bounced() {
                return Ok(());
            }
            let memory = || contiguous(4);
            let align = |align| aligned(mapper, memory()?, align);
            check_matches!(align(PAGE_SIZE << 4)?, Ok(addr) if addr % (PAGE << 4) == 0);
            check_matches!(align(1 << 40)?, Err(LinearError::Alignment { .. }));
            // This machine has no memory below 1 GiB, and the kernel takes no mask without some.
            if cfg!(CONFIG_ARM64) {
                return Ok(());
            }
            fixture::with_mask::<24>(pdev, || {
                let memory = memory()?;
                let start = memory.phyrs().flatten().next().map(|phyr| phyr.paddr());
                let start = check_some!(start).into_raw();
                check_cmp!(start, >=, 1 << 24, "memory that the mask reaches");
                check_matches!(
                    reason(mapper.linear(memory, DIR)),
                    Some(LinearError::Limit { limit: Limit::Mask, max, .. }) if max == (1 << 24) - 1
                );
                Ok(())
            })
        })
    }

    #[test]
    fn alignment_is_honoured_or_refused() -> Outcome {
        with_device(|_, mapper| {
            if mapper.granule().is_none() {
                return Ok(());
            }
            for shift in 12..22 {
                let align = 1 << shift;
                let memory = buffer(3)?;
                // CAST: a `usize` is at most 64 bits wide.
                check_matches!(
                    aligned(mapper, memory, align)?,
                    Ok(addr) if addr % align as u64 == 0
                );
            }
            let memory = piece(512, 512)?;
            check_matches!(aligned(mapper, memory, 512)?, Ok(addr) if addr % 512 == 0);
            let memory = piece(512, 512)?;
            let why = LinearError::Alignment {
                align: 1024,
                excess: 512,
            };
            check_eq!(aligned(mapper, memory, 1024)?, Err(why));
            Ok(())
        })
    }

    #[test]
    fn the_device_carries_bytes_across_pages() -> Outcome {
        with_device(|pdev, mapper| {
            if crate::is_bounced() {
                return Ok(());
            }
            let engine = Engine::new(pdev)?;
            for at in [1, PAGE_SIZE, 3 * PAGE_SIZE - 5] {
                if mapper.granule().is_some() {
                    carry(&engine, mapper, eight, at)?;
                }
                carry(&engine, mapper, || contiguous(3), at)?;
            }
            Ok(())
        })
    }

    #[test]
    fn a_copy_is_linear_everywhere() -> Outcome {
        with_dma_api(|pdev, mapper| {
            copied(&Engine::new(pdev)?, mapper)?;

            let limits = check_some!(Limits::NONE.with_max_segment(4 * PAGE));
            let mapper = mapper_like(mapper, limits)?;
            let why = |memory, dir| mapper.linear_copy(memory, dir).err().map(|e| e.error);
            let long = LinearError::Limit {
                limit: Limit::Segment,
                asked: 5 * PAGE,
                max: 4 * PAGE,
            };
            check_eq!(why(buffer(5)?, DIR), Some(long));
            let none = why(buffer(1)?, DataDirection::None);
            check_eq!(none, Some(LinearError::Failed(EINVAL)));
            Ok(())
        })
    }

    #[test]
    fn nothing_and_no_direction_are_refused() -> Outcome {
        with_device(|_, mapper| {
            refused(mapper, KVVec::<Pages>::new(), LinearError::Empty)?;
            let memory = buffer(1)?;
            let none = reason(mapper.linear(memory, DataDirection::None));
            check_eq!(none, Some(LinearError::Failed(EINVAL)));
            Ok(())
        })
    }

    /// A leaked mapping keeps its pages, and the device still reaches them.
    #[test]
    fn a_leaked_mapping_keeps_its_memory() -> Outcome {
        with_device(|_, mapper| {
            if mapper.granule().is_none() {
                return Ok(());
            }
            let memory = buffer(4)?;
            let phyr = memory.phyrs().nth(2).and_then(Result::ok);
            let linear = mapper.linear(memory, DIR)?;
            let addr = linear.dma_vec().addr().into_raw() + 2 * PAGE;
            // As good as forgotten, but dropped in the end, for kmemleak.
            let mut leaked = ManuallyDrop::new(linear);
            // Were the page free, one of these would be it.
            for _ in 0..64 {
                let other = piece(0, PAGE_SIZE)?;
                check_cmp!(other.phyrs().next().and_then(Result::ok), !=, phyr);
            }
            let there = table::lookup(mapper.device(), addr);
            check!(there.is_some());
            check_eq!(there, phyr.map(|phyr| phyr.paddr().into_raw()));
            // SAFETY: it is dropped once, here.
            unsafe { ManuallyDrop::drop(&mut leaked) };
            Ok(())
        })
    }

    /// Only where it is asked for (`faults=1`): the kernel logs a fault, which every other test
    /// takes for a failure.
    #[test]
    fn past_the_end_the_device_faults() -> Outcome {
        with_device(|pdev, mapper| {
            if mapper.granule().is_none() || !crate::wants_faults() {
                return Ok(());
            }
            faults(&Engine::new(pdev)?, mapper)
        })
    }
}
