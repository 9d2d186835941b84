// SPDX-License-Identifier: GPL-2.0

//! Scatter mappings on a device: shapes, bytes, errors.

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
        mapper_like,
        pattern,
        piece,
        random,
        with_device, //
        with_dma_api,
    },
    table, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};
use phyr::{
    memory::{
        segments,
        Bytes,
        Memory,
        Pages, //
    },
    DataDirection,
    DmaVec,
    Limits,
    Mapper,
    MemoryKind,
    Phyr,
    PhysAddr,
    Pinned,
    Planner,
    Slot,
    State, //
};

/// Maximum number of pieces of a shape.
const SHAPE: usize = 12;

/// Returns how many ranges a mapping of `memory` must have.
pub(crate) fn expected<M: Memory>(mapper: &Mapper<'_>, memory: &M) -> Result<usize> {
    let phyrs = segments(memory, *mapper.limits()).flatten();
    let Some(granule) = mapper.granule() else {
        return Ok(phyrs.count());
    };
    let mut planner = Planner::new(granule, *mapper.limits());
    for phyr in phyrs {
        planner.push(phyr)?;
    }
    Ok(planner.plan()?.runs)
}

/// Maps `memory`, checks ranges and page table, and that nothing is left afterwards.
fn round<M: Memory<Direction = DataDirection>>(
    mapper: &Mapper<'_>,
    memory: M,
) -> Result<M, Failure> {
    let nr = expected(mapper, &memory)?;
    let mut phyrs = KVVec::new();
    for phyr in segments(&memory, *mapper.limits()).flatten() {
        phyrs.push(phyr, GFP_KERNEL)?;
    }
    let mapping = mapper.map(memory, DataDirection::Bidirectional, GFP_KERNEL)?;

    let mut vecs = KVVec::<DmaVec>::new();
    for vec in mapping.dma_vecs() {
        vecs.push(vec, GFP_KERNEL)?;
    }
    check_eq!(vecs.len(), nr);
    table::check(mapper, vecs.iter().copied(), phyrs.iter().copied())?;
    let memory = mapping.unmap();
    table::check_gone(mapper, vecs.iter().copied())?;
    Ok(memory)
}

/// Allocates pieces, each `(offset, length)` of a page of its own.
fn pieces(shape: &[(usize, usize)]) -> Result<KVVec<Pages>> {
    let mut all = KVVec::with_capacity(shape.len(), GFP_KERNEL)?;
    for &(offset, len) in shape {
        all.push(piece(offset, len)?, GFP_KERNEL)?;
    }
    Ok(all)
}

/// Does the same as [`round()`] by [`Mapper::map_into`], as for requests of the block layer:
/// without access by the CPU in between.
fn round_into<M: Memory<Direction = DataDirection>>(
    mapper: &Mapper<'_>,
    memory: M,
) -> Result<M, Failure> {
    let nr = expected(mapper, &memory)?;
    let mut slots = [Slot::EMPTY; SHAPE];
    let source = segments(&memory, *mapper.limits());
    // SAFETY: the memory stays where it is until it is unmapped below.
    let pinned = unsafe { Pinned::new(source, DataDirection::Bidirectional, M::KIND) };
    let mut state = State::UNMAPPED;
    mapper.map_into(pinned?, || Ok(&mut slots), &mut state)?;

    let mut vecs = [None; SHAPE];
    for (to, vec) in vecs.iter_mut().zip(state.dma_vecs(&slots)) {
        *to = Some(vec);
    }
    let phyrs = segments(&memory, *mapper.limits()).flatten();
    let result = table::check(mapper, state.dma_vecs(&slots), phyrs);
    let seen = state.dma_vecs(&slots).len();
    // SAFETY: the state and the slots are those of the mapping; no device was told of it.
    unsafe { mapper.unmap_from(state, &slots) };
    result?;
    check_eq!(seen, nr);
    table::check_gone(mapper, vecs.into_iter().flatten())?;
    Ok(memory)
}

fn round_pieces(mapper: &Mapper<'_>, shape: &[(usize, usize)]) -> Outcome {
    let memory = pieces(shape)?;
    let memory = round_into(mapper, memory)?;
    if mapper.granule().is_some() && !mapper.packs() {
        // With access by the CPU every phyr is then mapped by itself.
        return Ok(());
    }
    round(mapper, memory).map(drop)
}

/// Maps and checks `nr` random shapes.
fn shapes(mapper: &Mapper<'_>, nr: usize) -> Outcome {
    let mut below = random(0x6564_7521);
    for _ in 0..nr {
        let mut shape = [(0, PAGE_SIZE); SHAPE];
        let pieces = 1 + below(shape.len());
        for place in &mut shape {
            if below(3) == 0 {
                let offset = below(PAGE_SIZE);
                *place = (offset, 1 + below(PAGE_SIZE - offset));
            }
        }
        round_pieces(mapper, shape.get(..pieces).unwrap_or(&shape))?;
    }
    Ok(())
}

/// Maps until 24 bits of IOVA are used up.
///
/// They are 16 MiB less the first page, which is never allocated. Ranges are aligned to their size,
/// so the second 8 MiB fit neither as a range nor page by page.
fn full(mapper: &Mapper<'_>) -> Outcome {
    const HALF: usize = 8 << 20;
    let dir = DataDirection::ToDevice;
    let pages = |len| buffer(len / PAGE_SIZE);
    let count = |mapping: &phyr::mapping::Mapping<'_, Pages>| mapping.dma_vecs().len();

    let half = mapper.map(pages(HALF)?, dir, GFP_KERNEL)?;
    check_eq!(count(&half), 1);
    let memory = pages(HALF)?;
    check_err!(mapper.map(memory, dir, GFP_KERNEL), ENOSPC);
    // A MiB less fits page by page, which needs all pages of the failure to be back. The first MiB
    // is not counted on: the host bridge's windows in it are reserved.
    let nr = (HALF - (1 << 20)) / PAGE_SIZE;
    let memory = pages(nr * PAGE_SIZE)?;
    let rest = mapper.map(memory, dir, GFP_KERNEL)?;
    check_eq!(count(&rest), nr);
    drop(half);
    drop(rest);
    // All is back: the same once more.
    let half = mapper.map(pages(HALF)?, dir, GFP_KERNEL)?;
    check_eq!(count(&half), 1);
    Ok(())
}

/// Checks `BUFFER` bytes at `at` that the device moves from one mapping to another.
///
/// `at` must be in the first range.
fn carry(engine: &Engine<'_>, mapper: &Mapper<'_>, at: usize) -> Outcome {
    let len = BUFFER;
    let mut bytes = KVVec::new();
    for n in 0..len {
        bytes.push(pattern(at + n), GFP_KERNEL)?;
    }

    let mut source = buffer(8)?;
    source.write(at, &bytes)?;
    let source = mapper.map(source, DataDirection::ToDevice, GFP_KERNEL)?;
    let mut target = mapper.map(buffer(8)?, DataDirection::FromDevice, GFP_KERNEL)?;

    // A transfer for each range, as a driver does.
    transfer(source.dma_vecs(), target.dma_vecs(), at, len, engine)?;

    let mut seen = KVVec::new();
    seen.extend_with(len, 0u8, GFP_KERNEL)?;
    target.cpu().read(at, &mut seen)?;
    check_bytes(&seen, &bytes)
}

/// Makes the device copy `len` bytes at `at` of one mapping to the same offset of another.
fn transfer(
    from: impl Iterator<Item = DmaVec> + Clone,
    to: impl Iterator<Item = DmaVec> + Clone,
    mut at: usize,
    mut len: usize,
    engine: &Engine<'_>,
) -> Outcome {
    let find = |mut vecs: &mut dyn Iterator<Item = DmaVec>, mut at: usize| {
        for vec in &mut vecs {
            if at < vec.len() {
                return Some((vec, at));
            }
            at -= vec.len();
        }
        None
    };
    while len != 0 {
        let (source, start) = check_some!(find(&mut from.clone(), at));
        let (target, to) = check_some!(find(&mut to.clone(), at));
        let step = len.min(source.len() - start).min(target.len() - to);
        engine.read(source, start, step)?;
        engine.write(target, to, step)?;
        at += step;
        len -= step;
    }
    Ok(())
}

/// Returns a vector of `len` bytes of [`pattern()`] that has the memory `capacity`, in which there
/// was something else.
fn used_vector(len: usize, capacity: usize) -> Result<VVec<u8>> {
    let mut bytes = VVec::from_elem(0xa5, capacity, GFP_KERNEL)?;
    for (at, byte) in bytes.iter_mut().take(len).enumerate() {
        *byte = pattern(at);
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Checks that `memory` holds the bytes of [`used_vector()`], and zeros in the rest of its page.
fn check_vector(memory: Bytes<VVec<u8>>, len: usize) -> Outcome {
    let mut seen = KVVec::from_elem(0u8, len, GFP_KERNEL)?;
    memory.read(0, &mut seen)?;
    let mut vec = memory.into_inner();
    check_bytes(&vec, &seen)?;
    check_eq!(vec.len(), len);
    for (at, &byte) in seen.iter().enumerate() {
        check_eq!(byte, pattern(at), "at {at}");
    }
    let rest = len.next_multiple_of(PAGE_SIZE) - len;
    for (at, byte) in vec.spare_capacity_mut().iter().take(rest).enumerate() {
        // SAFETY: the whole capacity was written once.
        check_eq!(unsafe { byte.assume_init() }, 0, "{at} past the end");
    }
    Ok(())
}

#[kunit_tests(phyr_device_scatter)]
mod tests {
    use super::*;

    #[test]
    fn one_page_is_one_range() -> Outcome {
        with_device(|_, mapper| {
            for piece in [(0, 4096), (100, 1)] {
                round_pieces(mapper, &[piece])?;
            }
            Ok(())
        })
    }

    #[test]
    fn scattered_pages_are_one_range_behind_an_iommu() -> Outcome {
        with_device(|_, mapper| {
            let memory = buffer(32)?;
            let nr = expected(mapper, &memory)?;
            check_eq!(nr, mapper.granule().map_or(32, |_| 1));
            round(mapper, memory).map(drop)
        })
    }

    #[test]
    fn a_gap_costs_one_range_more() -> Outcome {
        let page = (0, PAGE_SIZE);
        let shape = [page, page, (0, 512), page, page];
        with_device(|_, mapper| round_pieces(mapper, &shape))
    }

    #[test]
    fn pieces_within_pages() -> Outcome {
        let shape = [(512, 1024), (0, 4096), (1, 1), (4095, 1), (8, 4088)];
        with_device(|_, mapper| round_pieces(mapper, &shape))
    }

    #[test]
    fn random_shapes_match_the_page_table() -> Outcome {
        with_device(|_, mapper| shapes(mapper, 200))
    }

    #[test]
    fn the_device_reads_and_writes_across_phyrs() -> Outcome {
        with_device(|pdev, mapper| {
            let engine = Engine::new(pdev)?;
            // Within a page, across two, and from the last bytes of one.
            carry(&engine, mapper, 0)?;
            carry(&engine, mapper, PAGE_SIZE / 2)?;
            carry(&engine, mapper, 3 * PAGE_SIZE - 8)
        })
    }

    /// Vectors whose ends are in a page, at its end, and in the first; with room after and
    /// without.
    #[test]
    fn bytes_of_a_vector() -> Outcome {
        with_device(|_, mapper| {
            for (len, capacity) in [
                (5 * PAGE_SIZE - 1357, 7 * PAGE_SIZE),
                (3 * PAGE_SIZE + 1, 3 * PAGE_SIZE + 1),
                (2 * PAGE_SIZE, 3 * PAGE_SIZE),
                (13, 100),
            ] {
                let memory = Bytes::new(used_vector(len, capacity)?)?;
                check_eq!(memory.len(), len);
                let mut memory = round_into(mapper, memory)?;
                if mapper.granule().is_none() || mapper.packs() {
                    // Otherwise every phyr is mapped by itself, if the CPU has access.
                    memory = round(mapper, memory)?;
                }
                check_vector(memory, len)?;
            }
            let empty = Bytes::new(VVec::<u8>::new())?;
            check_err!(
                mapper.map(empty, DataDirection::ToDevice, GFP_KERNEL),
                EINVAL
            );
            Ok(())
        })
    }

    #[test]
    fn the_device_reads_and_writes_a_vector() -> Outcome {
        const LEN: usize = PAGE_SIZE + 123;
        const AT: usize = PAGE_SIZE - 77;
        with_device(|pdev, mapper| {
            let engine = Engine::new(pdev)?;
            let source = Bytes::new(used_vector(LEN, LEN)?)?;
            let source = mapper.map(source, DataDirection::ToDevice, GFP_KERNEL)?;
            let target = Bytes::new(VVec::from_elem(0, LEN, GFP_KERNEL)?)?;
            let mut target = mapper.map(target, DataDirection::FromDevice, GFP_KERNEL)?;
            let len = LEN - AT;
            transfer(source.dma_vecs(), target.dma_vecs(), AT, len, &engine)?;

            let mut seen = KVVec::from_elem(0u8, len, GFP_KERNEL)?;
            target.cpu().read(AT, &mut seen)?;
            let source = source.unmap().into_inner();
            check_bytes(&seen, check_some!(source.get(AT..)))?;
            // At the vector's own addresses, too.
            let target = target.unmap().into_inner();
            check_bytes(check_some!(target.get(AT..)), &seen)?;
            check!(target.iter().take(AT).all(|&byte| byte == 0));
            Ok(())
        })
    }

    /// One range per run, as for an untrusted device.
    #[test]
    fn runs_with_a_range_each() -> Outcome {
        with_device(|_, mapper| {
            let mapper = mapper_like(mapper, Limits::NONE)?;
            shapes(&mapper.unpacked(), 60)
        })
    }

    #[test]
    fn runs_of_a_limited_length() -> Outcome {
        with_device(|_, mapper| {
            // CAST: a page.
            let limits = Limits::NONE.with_max_segment(2 * PAGE_SIZE as u64);
            let mapper = mapper_like(mapper, check_some!(limits))?;
            shapes(&mapper, 60)
        })
    }

    /// Runs that would cross a boundary in one IOVA range get ranges of their own.
    #[test]
    fn runs_between_boundaries() -> Outcome {
        with_device(|_, mapper| {
            let limits = Limits::NONE.with_boundary_mask(2 * PAGE_SIZE as u64 - 1);
            let mapper = mapper_like(mapper, check_some!(limits))?;
            shapes(&mapper, 60)?;

            // The CPU's turn with ranges of both kinds: the debugging of the DMA API must not mind.
            let shape = [
                (0, PAGE_SIZE),
                (0, PAGE_SIZE),
                (512, 100),
                (0, PAGE_SIZE),
                (0, PAGE_SIZE),
            ];
            let memory = pieces(&shape)?;
            let mut mapping = mapper.map(memory, DataDirection::Bidirectional, GFP_KERNEL)?;
            let mut byte = [0];
            mapping.cpu().read(2 * PAGE_SIZE, &mut byte)?;
            Ok(())
        })
    }

    /// Without an IOVA range left each phyr is mapped by itself; without IOVA space for that
    /// either, what was mapped until then is unmapped again.
    #[test]
    fn no_space_for_a_range() -> Outcome {
        with_dma_api(|pdev, mapper| {
            if mapper.granule().is_none() || crate::keeps_tables() {
                return Ok(());
            }
            fixture::with_mask::<24>(pdev, || full(mapper))
        })
    }

    #[test]
    fn bad_input_has_an_error_of_its_own() -> Outcome {
        with_device(|_, mapper| {
            let none = mapper.map(buffer(2)?, DataDirection::None, GFP_KERNEL);
            check_err!(none, EINVAL);
            let empty = mapper.map(KVVec::<Pages>::new(), DataDirection::ToDevice, GFP_KERNEL);
            check_err!(empty, EINVAL);
            let mut memory = KVVec::new();
            for _ in 0..3 {
                memory.push(piece(0, 512)?, GFP_KERNEL)?;
            }
            let mut slots = [Slot::EMPTY; 2];
            let (source, kind) = (segments(&memory, Limits::NONE), MemoryKind::System);
            // SAFETY: it is not mapped, which is what is tested; were it to be, the memory is only
            // freed at the end of the module's test and the device told of nothing.
            let pinned = unsafe { Pinned::new(source, DataDirection::ToDevice, kind) };
            let state = &mut { State::UNMAPPED };
            check_err!(mapper.map_into(pinned?, || Ok(&mut slots), state), E2BIG);
            Ok(())
        })
    }

    #[test]
    fn a_segment_over_the_limit_is_refused() -> Outcome {
        with_device(|_, mapper| {
            // CAST: a page.
            let limits = check_some!(Limits::NONE.with_max_segment(PAGE_SIZE as u64));
            let mapper = mapper_like(mapper, limits)?;
            let phyr = Phyr::new(PhysAddr::from_raw(0x10_0000), PAGE_SIZE + 1);
            let source = core::iter::once(phyr.map_err(|_| EINVAL));
            let (dir, kind) = (DataDirection::ToDevice, MemoryKind::System);
            // SAFETY: it is refused before anything is mapped.
            let long = unsafe { Pinned::new(source, dir, kind) };
            let state = &mut { State::UNMAPPED };
            check_err!(mapper.map_into(long?, || Ok(&mut []), state), EMSGSIZE);
            let small = check_some!(Limits::NONE.with_max_segment(512));
            check_err!(mapper_like(&mapper, small), EINVAL);
            Ok(())
        })
    }
}
