// SPDX-License-Identifier: GPL-2.0

//! Mappings that end with one flush: what the page table has before and after it, and which
//! addresses are given out.

use crate::{
    buffers::BOTH,
    check::{
        check_bytes,
        Failure,
        Outcome, //
    },
    edu::Engine,
    fixture::{
        buffer,
        bytes,
        mapper_like,
        piece,
        with_device, //
    },
    table, //
};
use core::{
    ops::RangeInclusive,
    pin::pin, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};
use phyr::{
    mapping::Mapping,
    memory::{
        segments,
        Memory,
        Pages, //
    },
    unmap_all,
    DmaVec,
    Flushed,
    IotlbGather,
    Limits,
    Mapper,
    Pinned,
    Slot,
    State,
    Unmapping, //
};

/// Maximum number of pieces of a mapping.
const PIECES: usize = 4;

/// Number of mappings that end together.
const MANY: usize = 24;

/// Memory that is mapped as a request is. If it is dropped while it is mapped, it is never freed.
pub(crate) struct Mapped {
    memory: KVVec<Pages>,
    state: State,
    slots: [Slot; PIECES],
}

impl Mapped {
    pub(crate) fn new(mapper: &Mapper<'_>, memory: KVVec<Pages>) -> Result<Self> {
        let mut mapped = Self {
            memory,
            state: State::UNMAPPED,
            slots: [Slot::EMPTY; PIECES],
        };
        let source = segments(&mapped.memory, *mapper.limits());
        // SAFETY: the memory stays where it is until it is unmapped: `drop` sees to it.
        let pinned = unsafe { Pinned::new(source, BOTH, Pages::KIND) };
        mapper.map_into(pinned?, || Ok(&mut mapped.slots), &mut mapped.state)?;
        Ok(mapped)
    }

    fn vecs(&self) -> impl Iterator<Item = DmaVec> + '_ {
        self.state.dma_vecs(&self.slots)
    }

    fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        // CAST: a few pages.
        self.vecs()
            .map(|vec| (vec.addr().into_raw(), vec.len() as u64))
            .map(|(start, len)| start..=start + (len - 1))
    }

    /// Unlinks it, or ends it alone. It is of `mapper`, which `unmapping` is of.
    pub(crate) fn unlink(
        &mut self,
        mapper: &Mapper<'_>,
        unmapping: &mut Option<Unmapping<'_, '_>>,
    ) {
        let (state, slots) = (&mut self.state, || &self.slots[..]);
        let _ = match unmapping {
            // SAFETY: the state and the slots are those of a mapping by this mapper, and stay as
            // they are. No device was told of it.
            Some(unmapping) => unsafe { unmapping.unmap(state, slots) },
            // SAFETY: the state and the slots are those of a mapping by this mapper. No device was
            // told of it.
            None => unsafe { mapper.unmap_in_place(state, slots) },
        };
    }

    /// Frees its addresses. It was unlinked by the `Unmapping` that `flushed` is of, if there was
    /// one.
    fn free(&mut self, flushed: &Option<Flushed<'_>>) {
        if let Some(flushed) = flushed {
            // SAFETY: the callers have just done so.
            unsafe { flushed.free(&mut self.state, || &self.slots) };
        }
    }

    /// Ends it, alone.
    pub(crate) fn end(mut self, mapper: &Mapper<'_>) {
        self.unlink(mapper, &mut None);
    }

    pub(crate) fn is_unlinked(&self) -> bool {
        self.state.is_unlinked()
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let meets = |a: &RangeInclusive<u64>, b: &RangeInclusive<u64>| {
            a.start() <= b.end() && b.start() <= a.end()
        };
        self.ranges().any(|a| other.ranges().any(|b| meets(&a, &b)))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.state.is_mapped() {
            core::mem::forget(core::mem::take(&mut self.memory));
        }
    }
}

/// Allocates memory of one of four shapes: a page, a part of one, pages that join, and pieces with
/// gaps.
pub(crate) fn shaped(nr: usize) -> Result<KVVec<Pages>> {
    let mut memory = KVVec::new();
    let mut add = |piece| memory.push(piece, GFP_KERNEL);
    match nr % 4 {
        0 => add(piece(0, PAGE_SIZE)?)?,
        1 => add(piece(512, 1000)?)?,
        2 => add(buffer(PIECES)?)?,
        _ => {
            for offset in [0, 512, 1024] {
                add(piece(offset, 512)?)?;
            }
        }
    }
    Ok(memory)
}

fn many(mapper: &Mapper<'_>) -> Result<KVVec<Mapped>> {
    let mut all = KVVec::new();
    for nr in 0..MANY {
        all.push(Mapped::new(mapper, shaped(nr)?)?, GFP_KERNEL)?;
    }
    Ok(all)
}

/// Unlinks many mappings, in disorder. What is unlinked is gone from the page table at once, what
/// is not is still there; no address is given out again before the flush, and none is in reach of
/// a device after it.
fn one_by_one(mapper: &Mapper<'_>) -> Outcome {
    let mut all = many(mapper)?;
    let gather = pin!(IotlbGather::new());
    let mut unmapping = Unmapping::new(mapper, gather);
    check_eq!(
        unmapping.is_some(),
        mapper.granule().is_some() && mapper.packs()
    );
    // The even ones first.
    for nr in (0..MANY).map(|nr| (2 * nr) % MANY + 2 * nr / MANY) {
        let mapped = check_some!(all.get_mut(nr));
        let phyrs = segments(&mapped.memory, *mapper.limits()).flatten();
        table::check(mapper, mapped.state.dma_vecs(&mapped.slots), phyrs)?;
        mapped.unlink(mapper, &mut unmapping);
        if mapped.is_unlinked() {
            mapped
                .vecs()
                .try_for_each(|vec| table::check_unlinked(mapper, vec))?;
        } else {
            table::check_gone(mapper, mapped.vecs())?;
        }
    }
    let kept = all.iter().filter(|mapped| mapped.is_unlinked()).count();
    if unmapping.is_none() {
        check_eq!(kept, 0);
    } else if table::domain_type(mapper.device()) != Some(LAZY) {
        check_eq!(kept, MANY);
    }
    let others = many(mapper)?;
    for mapped in all.iter().filter(|mapped| mapped.is_unlinked()) {
        check!(!others.iter().any(|other| other.overlaps(mapped)));
    }
    let flushed = unmapping.map(Unmapping::flush);
    check_eq!(flushed.as_ref().is_none_or(Flushed::is_empty), kept == 0);
    for mapped in all.iter().filter(|mapped| mapped.is_unlinked()) {
        table::check_gone(mapper, mapped.vecs())?;
    }
    all.iter_mut().for_each(|mapped| mapped.free(&flushed));
    check!(!all.iter().any(|mapped| mapped.state.is_mapped()));
    end(mapper, others)
}

/// The type of a domain in lazy mode.
const LAZY: u32 = kernel::bindings::IOMMU_DOMAIN_DMA_FQ;

/// Ends mappings together.
fn end(mapper: &Mapper<'_>, mut all: KVVec<Mapped>) -> Outcome {
    let gather = pin!(IotlbGather::new());
    let mut unmapping = Unmapping::new(mapper, gather);
    all.iter_mut()
        .for_each(|mapped| mapped.unlink(mapper, &mut unmapping));
    let flushed = unmapping.map(Unmapping::flush);
    all.iter_mut().for_each(|mapped| mapped.free(&flushed));
    Ok(())
}

/// Returns the lowest address of some mappings.
fn lowest(all: &[Mapped]) -> Option<u64> {
    all.iter()
        .flat_map(Mapped::ranges)
        .map(|range| *range.start())
        .min()
}

/// Addresses are given out again: IOVAs come from the highest on, and those of many rounds would be
/// much lower.
fn again_and_again(mapper: &Mapper<'_>) -> Outcome {
    if mapper.granule().is_none() {
        return Ok(());
    }
    let all = many(mapper)?;
    let first = check_some!(lowest(&all));
    end(mapper, all)?;
    let mut least = first;
    for _ in 0..200 {
        let all = many(mapper)?;
        least = least.min(check_some!(lowest(&all)));
        end(mapper, all)?;
    }
    check_cmp!(first - least, <, 16 << 20);
    Ok(())
}

/// Writes a byte of its own to each of many mappings, by the device, and ends them all.
fn owned(engine: &Engine<'_>, mapper: &Mapper<'_>) -> Result<KVVec<DmaVec>, Failure> {
    let other = mapper_like(mapper, Limits::NONE)?;
    let (mut mappings, mut vecs) = (KVVec::new(), KVVec::new());
    let source = mapper.map(piece(0, PAGE_SIZE)?, BOTH, GFP_KERNEL)?;
    let mut source = source;
    source.cpu().write(0, &bytes(PAGE_SIZE, 7)?)?;
    let from = check_some!(source.dma_vecs().next());
    for nr in 0..5 {
        // Two mappers that end mappings alike.
        let mapper = if nr % 2 == 0 { mapper } else { &other };
        let mapping = mapper.map(buffer(1 + nr % 3)?, BOTH, GFP_KERNEL)?;
        let to = check_some!(mapping.dma_vecs().next());
        engine.read(from, 16 * nr, 16)?;
        engine.write(to, 0, 16)?;
        for vec in mapping.dma_vecs() {
            vecs.push(vec, GFP_KERNEL)?;
        }
        mappings.push(mapping, GFP_KERNEL)?;
    }
    for (nr, memory) in unmap_all(mappings).enumerate() {
        let mut seen = bytes(16, 0)?;
        memory.read(0, &mut seen)?;
        check_bytes(&seen, &bytes(16, 7 + 16 * nr)?)?;
        check_eq!(memory.len(), (1 + nr % 3) * PAGE_SIZE);
    }
    Ok(vecs)
}

/// The bytes that the device moves.
const LEN: usize = 64;

/// A device, and memory from which it takes what it writes: mapped all the time, so that no address
/// that it tries is that of this one.
struct Writer<'e, 'm> {
    engine: &'e Engine<'e>,
    from: Mapping<'m, Pages>,
}

impl Writer<'_, '_> {
    /// Has the device write `LEN` bytes of a pattern to `to`. Returns whether they came to be in
    /// `memory`.
    fn comes(
        &mut self,
        to: DmaVec,
        memory: &mut KVVec<Pages>,
        seed: usize,
    ) -> Result<bool, Failure> {
        let wanted = bytes(LEN, seed)?;
        self.from.cpu().write(0, &wanted)?;
        let from = check_some!(self.from.dma_vecs().next());
        self.engine.read(from, 0, LEN)?;
        self.engine.write(to, 0, LEN)?;
        let mut seen = bytes(LEN, 0)?;
        memory.read(0, &mut seen)?;
        Ok(*seen == *wanted)
    }
}

/// A device that has used an address goes on using it until the flush, and faults after it: that of
/// mappings that end together, and that of one that ends by itself.
///
/// The first shows that the second would notice a flush that is missing: QEMU's Intel IOMMU keeps
/// what it has looked up until it is told to forget it. Others may be told, or look again, earlier.
fn until_the_flush(engine: &Engine<'_>, mapper: &Mapper<'_>) -> Outcome {
    let from = mapper.map(piece(0, PAGE_SIZE)?, BOTH, GFP_KERNEL)?;
    let mut writer = Writer { engine, from };

    let mut mapped = Mapped::new(mapper, shaped(0)?)?;
    let vec = check_some!(mapped.vecs().next());
    check!(writer.comes(vec, &mut mapped.memory, 1)?);
    let gather = pin!(IotlbGather::new());
    let mut unmapping = Unmapping::new(mapper, gather);
    mapped.unlink(mapper, &mut unmapping);
    check!(mapped.is_unlinked());
    if writer.comes(vec, &mut mapped.memory, 2)? {
        pr_info!("a write before the flush has come\n");
    }
    let flushed = unmapping.map(Unmapping::flush);
    check!(!writer.comes(vec, &mut mapped.memory, 3)?);
    mapped.free(&flushed);

    for nr in 0..2 {
        // One that was mapped by itself, and a range of several pages.
        let mut alone = Mapped::new(mapper, shaped(2 * nr)?)?;
        let vec = check_some!(alone.vecs().next());
        check!(writer.comes(vec, &mut alone.memory, 4)?);
        alone.unlink(mapper, &mut None);
        check!(!writer.comes(vec, &mut alone.memory, 5)?);
    }
    pr_info!("a write after the flush changed nothing\n");
    Ok(())
}

#[kunit_tests(phyr_device_unmap)]
mod tests {
    use super::*;

    /// Only where it is asked for (`faults=1`), as the kernel logs the fault.
    #[test]
    fn after_the_flush_the_device_faults() -> Outcome {
        with_device(|pdev, mapper| {
            if mapper.granule().is_none() || !crate::wants_faults() {
                return Ok(());
            }
            until_the_flush(&Engine::new(pdev)?, mapper)
        })
    }

    #[test]
    fn nothing_is_given_out_before_the_flush() -> Outcome {
        with_device(|_, mapper| one_by_one(mapper))
    }

    #[test]
    fn addresses_are_free_after_it() -> Outcome {
        with_device(|_, mapper| again_and_again(mapper))
    }

    #[test]
    fn memory_comes_back_in_order() -> Outcome {
        with_device(|pdev, mapper| {
            let vecs = owned(&Engine::new(pdev)?, mapper)?;
            table::check_gone(mapper, vecs.into_iter())
        })
    }

    #[test]
    fn nothing_to_end_is_no_flush() -> Outcome {
        with_device(|_, mapper| {
            let gather = pin!(IotlbGather::new());
            if let Some(mut unmapping) = Unmapping::new(mapper, gather) {
                let mut state = State::UNMAPPED;
                // SAFETY: nothing is mapped in it.
                unsafe { unmapping.unmap(&mut state, || &[]) };
                check!(unmapping.flush().is_empty());
            }
            check_eq!(unmap_all(KVVec::<Mapping<'_, Pages>>::new()).count(), 0);
            Ok(())
        })
    }

    /// One that nobody flushed frees no address, whatever is flushed after it.
    #[test]
    fn dropped_before_the_flush() -> Outcome {
        with_device(|_, mapper| {
            let mut all = many(mapper)?;
            let gather = pin!(IotlbGather::new());
            let mut unmapping = Unmapping::new(mapper, gather);
            all.iter_mut()
                .for_each(|mapped| mapped.unlink(mapper, &mut unmapping));
            drop(unmapping);
            let others = many(mapper)?;
            for mapped in all.iter().filter(|mapped| mapped.is_unlinked()) {
                check!(!others.iter().any(|other| other.overlaps(mapped)));
            }
            end(mapper, others)?;
            // It was flushed after all: a state that was unlinked is freed by any flush later.
            let gather = pin!(IotlbGather::new());
            let flushed = Unmapping::new(mapper, gather).map(Unmapping::flush);
            all.iter_mut().for_each(|mapped| mapped.free(&flushed));
            Ok(())
        })
    }
}
