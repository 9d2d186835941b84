// SPDX-License-Identifier: GPL-2.0

//! Each kind of memory of the kernel's, moved by the device.

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
        bytes,
        ORDER_2M, //
    },
    table, //
};
use core::any::type_name;
use kernel::{
    bindings,
    device::Bound,
    error::to_result,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    scatterlist::SGTable,
    sync::Arc, //
};
use phyr::{
    memory::{
        segments,
        Bytes,
        Chunks,
        Heap,
        Memory,
        PageMemory,
        SharedLine, //
    },
    source::{
        Segments,
        SgPages, //
    },
    DataDirection,
    DmaTable,
    DmaVec,
    Mapper,
    MemoryKind,
    Phyr,
    PhysAddr,
    Pinned,
    ToDevice, //
};

const BOTH: DataDirection = DataDirection::Bidirectional;

/// Has the device copy the beginning of the first and of the last range to the end of the same
/// range, and does so with the `bytes` that they are expected to have.
pub(crate) fn copy_ends(pdev: &pci::Device<Bound>, vecs: &[DmaVec], bytes: &mut [u8]) -> Result {
    let engine = Engine::new(pdev)?;
    let mut start = 0;
    for (nr, &vec) in vecs.iter().enumerate() {
        if nr == 0 || nr == vecs.len() - 1 {
            let len = (vec.len() / 2).min(BUFFER);
            let to = vec.len() - len;
            engine
                .read(vec, 0, len)
                .and_then(|()| engine.write(vec, to, len))?;
            bytes.copy_within(start..start + len, start + to);
        }
        start += vec.len();
    }
    Ok(())
}

/// Has the device [copy the ends](copy_ends) of `memory`; checks the bytes and the page table. What
/// cannot be mapped in one piece is refused, and comes back.
pub(crate) fn carry<M: Memory<Direction = DataDirection>>(
    pdev: &pci::Device<Bound>,
    mapper: &Mapper<'_>,
    mut memory: M,
) -> Result<M, Failure> {
    pr_info!(
        "phyr_test: {} bytes of {}\n",
        memory.len(),
        type_name::<M>()
    );
    let mut expected = bytes(memory.len(), 5)?;
    memory.write(0, &expected)?;
    let mut phyrs = KVVec::<Phyr>::new();
    for phyr in segments(&memory, *mapper.limits()) {
        phyrs.push(phyr?, GFP_KERNEL)?;
    }
    // Longer than a bounce buffer, where all memory is bounced.
    let longest = phyrs.iter().map(|phyr| phyr.len()).max();
    if longest > Some(mapper.max_mapping_size()) {
        return Ok(check_err!(mapper.map(memory, BOTH, GFP_KERNEL), EFBIG).value);
    }
    let mut mapping = mapper.map(memory, BOTH, GFP_KERNEL)?;
    let mut vecs = KVVec::<DmaVec>::new();
    for vec in mapping.dma_vecs() {
        vecs.push(vec, GFP_KERNEL)?;
    }
    table::check(mapper, vecs.iter().copied(), phyrs.iter().copied())?;

    copy_ends(pdev, &vecs, &mut expected)?;
    let mut seen = KVVec::from_elem(0u8, expected.len(), GFP_KERNEL)?;
    mapping.cpu().read(0, &mut seen)?;
    check_bytes(&seen, &expected)?;
    let memory = mapping.unmap();
    table::check_gone(mapper, vecs.iter().copied())?;
    memory.read(0, &mut seen)?;
    check_bytes(&seen, &expected)?;
    Ok(memory)
}

/// The bytes of a vector or a box, which are still there in the end.
fn heap<B: Heap>(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>, mut heap: B) -> Outcome
where
    B::Element: FromBytes + IntoBytes,
{
    let (start, size) = (heap.start(), heap.size());
    let mut heap = carry(pdev, mapper, Bytes::new(heap)?)?.into_inner();
    check_eq!((heap.start(), heap.size()), (start, size));
    Ok(())
}

/// Memory of `vmalloc()`.
pub(crate) fn vmalloc(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    heap(
        pdev,
        mapper,
        VVec::from_elem(0u8, 3 * PAGE_SIZE + 100, GFP_KERNEL)?,
    )?;
    heap(pdev, mapper, VVec::from_elem(0u64, 1000, GFP_KERNEL)?)?;
    heap(pdev, mapper, VBox::new([0u32; 24], GFP_KERNEL)?)?;
    heap(pdev, mapper, KVVec::from_elem(0u8, 1 << 20, GFP_KERNEL)?)
}

/// Memory of `kmalloc()`, in its own pages and in those of others.
pub(crate) fn kmalloc(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    heap(
        pdev,
        mapper,
        KVec::from_elem(0u8, 2 * PAGE_SIZE, GFP_KERNEL)?,
    )?;
    heap(pdev, mapper, KVec::from_elem([0u16; 8], 64, GFP_KERNEL)?)?;
    heap(pdev, mapper, KBox::new([0u8; 512], GFP_KERNEL)?)?;
    let mut part = KVec::with_capacity(256, GFP_KERNEL)?;
    part.resize(200, 0u8, GFP_KERNEL)?;
    heap(pdev, mapper, part)
}

/// Chunks of each order that there is.
pub(crate) fn chunks(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    for order in [0, 1, 5, ORDER_2M] {
        if order == ORDER_2M && crate::keeps_tables() {
            return Ok(());
        }
        let memory = Chunks::zeroed(PAGE_SIZE << order, order, GFP_KERNEL)?;
        carry(pdev, mapper, memory)?;
    }
    // More than 4 MiB is hard to get after a while.
    if PAGE_SIZE << Chunks::MAX_ORDER <= 4 << 20 {
        let order = Chunks::MAX_ORDER;
        carry(
            pdev,
            mapper,
            Chunks::zeroed(PAGE_SIZE << order, order, GFP_KERNEL)?,
        )?;
    }
    check_err!(
        Chunks::zeroed(PAGE_SIZE, Chunks::MAX_ORDER + 1, GFP_KERNEL),
        EINVAL
    );
    Ok(())
}

/// Memory that shares a cache line comes back, with the reason.
pub(crate) fn shared_lines() -> Outcome {
    let part = KVec::from_elem(7u8, 100, GFP_KERNEL)?;
    let refused = check_some!(Bytes::new(part).err());
    let SharedLine { offset, line } = refused.error;
    check!(line.is_power_of_two() && line >= 32, "{line}");
    check_eq!(offset, 100 % line);
    check_eq!(Error::from(refused.error), EDOM);
    check_bytes(&refused.value, &[7; 100])?;
    check!(Bytes::new(KBox::new(1u32, GFP_KERNEL)?).is_err());
    check!(Bytes::read_only(KBox::new(true, GFP_KERNEL)?).is_err());
    // Pages of their own share no line.
    check!(Bytes::new(VBox::new(1u32, GFP_KERNEL)?).is_ok());
    Ok(())
}

/// Memory without a byte is refused, wherever it is.
pub(crate) fn nothing(mapper: &Mapper<'_>) -> Outcome {
    fn refused<B: Heap>(mapper: &Mapper<'_>, heap: B) -> Outcome
    where
        B::Element: FromBytes + IntoBytes,
    {
        check_err!(mapper.map(Bytes::new(heap)?, BOTH, GFP_KERNEL), EINVAL);
        Ok(())
    }
    refused(mapper, VVec::<u8>::new())?;
    refused(mapper, KVec::<u64>::new())?;
    refused(mapper, KVec::<u64>::with_capacity(64, GFP_KERNEL)?)?;
    refused(mapper, KVec::from_elem((), 3, GFP_KERNEL)?)?;
    refused(mapper, VVec::from_elem([0u32; 0], 3, GFP_KERNEL)?)?;
    refused(mapper, KBox::new((), GFP_KERNEL)?)
}

/// Memory that no device may write: any elements without padding, which can be read meanwhile.
pub(crate) fn read_only(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let mut flags = VVec::from_elem(false, PAGE_SIZE + 512, GFP_KERNEL)?;
    flags[PAGE_SIZE] = true;
    let mut memory = Bytes::read_only(flags)?;
    check_err!(memory.write(0, &[2]), EROFS);
    let memory = Arc::new(memory, GFP_KERNEL)?;
    let mapping = mapper.map(memory.clone(), ToDevice, GFP_KERNEL)?;
    check_eq!(mapping.direction(), DataDirection::ToDevice);

    let target = Chunks::zeroed(PAGE_SIZE, 0, GFP_KERNEL)?;
    let target = mapper.map(target, DataDirection::FromDevice, GFP_KERNEL)?;
    let to = check_some!(target.dma_vecs().next());
    let engine = Engine::new(pdev)?;
    for vec in phyr::part(mapping.dma_vecs(), PAGE_SIZE..PAGE_SIZE + 512) {
        engine
            .read(vec, 0, vec.len())
            .and_then(|()| engine.write(to, 0, vec.len()))?;
    }
    let mut seen = [9; 2];
    target.unmap().read(0, &mut seen)?;
    check_eq!(seen, [1, 0]);
    check!(memory[PAGE_SIZE]);
    check_eq!(memory.iter().filter(|&&flag| flag).count(), 1);
    Ok(())
}

/// A device writes where it may only read: it faults, and nothing has changed. The same write to
/// memory that it may write changes it.
pub(crate) fn faults(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    const AT: usize = 1024;
    const LEN: usize = 64;
    let all = bytes(BUFFER, 61)?;
    let vector = || -> Result<VVec<u8>> {
        let mut vec = VVec::with_capacity(BUFFER, GFP_KERNEL)?;
        vec.extend_from_slice(&all, GFP_KERNEL)?;
        Ok(vec)
    };
    let zeros = Chunks::zeroed(PAGE_SIZE, 0, GFP_KERNEL)?;
    let zeros = mapper.map(zeros, BOTH, GFP_KERNEL)?;
    let engine = Engine::new(pdev)?;
    engine.read(check_some!(zeros.dma_vecs().next()), 0, LEN)?;

    // Not read before: QEMU's Intel IOMMU reports no fault for what is in its IOTLB.
    let table = mapper.map(Bytes::read_only(vector()?)?, ToDevice, GFP_KERNEL)?;
    engine.write(check_some!(table.dma_vecs().next()), AT, LEN)?;
    check_bytes(&table.unmap().into_inner(), &all)?;

    let open = mapper.map(Bytes::new(vector()?)?, BOTH, GFP_KERNEL)?;
    engine.write(check_some!(open.dma_vecs().next()), AT, LEN)?;
    let written = open.unmap().into_inner();
    check_bytes(check_some!(written.get(AT..AT + LEN)), &[0; LEN])?;
    pr_info!("phyr_test: a write to memory that is read-only changed nothing\n");
    Ok(())
}

/// The same memory several times in a mapping, and in two mappings.
pub(crate) fn twice(mapper: &Mapper<'_>) -> Outcome {
    let memory = Bytes::new(VVec::from_elem(0u8, 3 * PAGE_SIZE, GFP_KERNEL)?)?;
    let memory = Arc::new(memory, GFP_KERNEL)?;
    let mut list = KVVec::new();
    for _ in 0..3 {
        list.push(memory.clone(), GFP_KERNEL)?;
    }
    let mut phyrs = KVVec::<Phyr>::new();
    for phyr in segments(&list, *mapper.limits()) {
        phyrs.push(phyr?, GFP_KERNEL)?;
    }
    let one = mapper.map(memory, BOTH, GFP_KERNEL)?;
    let many = mapper.map(list, BOTH, GFP_KERNEL)?;
    table::check(mapper, many.dma_vecs(), phyrs.iter().copied())?;
    drop(one);
    table::check(mapper, many.dma_vecs(), phyrs.iter().copied())
}

/// A table as C makes it, of pages of `memory`: chained, if they are many.
pub(crate) struct CTable<'a> {
    sgt: KBox<bindings::sg_table>,
    _memory: &'a Chunks,
}

impl<'a> CTable<'a> {
    pub(crate) fn new(memory: &'a Chunks, offset: u32, len: usize) -> Result<Self> {
        // CAST: less than a page.
        let nr = (offset as usize + len).div_ceil(PAGE_SIZE);
        let mut pages = KVVec::new();
        for index in 0..nr {
            let page = memory.page(index).ok_or(EINVAL)?;
            pages.push(page.as_ptr(), GFP_KERNEL)?;
        }
        let mut sgt = KBox::new(bindings::sg_table::default(), GFP_KERNEL)?;
        // SAFETY: these are as many pages, of which the bytes are a part.
        to_result(unsafe {
            bindings::sg_alloc_table_from_pages_segment(
                &mut *sgt,
                pages.as_mut_ptr(),
                u32::try_from(nr)?,
                offset,
                len,
                u32::MAX & !(PAGE_SIZE as u32 - 1),
                bindings::GFP_KERNEL,
            )
        })?;
        Ok(Self {
            sgt,
            _memory: memory,
        })
    }

    pub(crate) fn table(&self) -> &SGTable {
        let sgt = core::ptr::from_ref(&*self.sgt).cast_mut();
        // SAFETY: the table was made in `new`, and is not modified.
        unsafe { SGTable::from_raw(sgt) }
    }
}

impl Drop for CTable<'_> {
    fn drop(&mut self) {
        // SAFETY: it was allocated in `new`.
        unsafe { bindings::sg_free_table(&mut *self.sgt) };
    }
}

/// Maps the pages of a C table, and describes the mapping by another: the sides do not mix.
pub(crate) fn tables(mapper: &Mapper<'_>) -> Outcome {
    const PAGES: usize = 300;
    let mut memory = Chunks::zeroed(PAGES * PAGE_SIZE, 0, GFP_KERNEL)?;
    for at in 0..PAGES {
        memory.swap(at, (at * 7 + 3) % PAGES);
    }
    for (offset, len) in [
        (0, PAGES * PAGE_SIZE),
        (100, PAGES * PAGE_SIZE - 1100),
        (8, 16),
    ] {
        let table = CTable::new(&memory, offset, len)?;
        let pages = Segments::new(SgPages::new(table.table()), *mapper.limits());
        let mut expected = KVVec::<Phyr>::new();
        let (mut skip, mut left) = (u64::from(offset), len);
        for page in memory.phyrs() {
            // CAST: less than a page.
            let part = left.min(PAGE_SIZE - skip as usize);
            let start = page?.paddr().into_raw() + skip;
            if part != 0 {
                expected.push(Phyr::new(PhysAddr::from_raw(start), part)?, GFP_KERNEL)?;
            }
            (skip, left) = (0, left - part);
        }
        // SAFETY: the memory lives until the end of the function, and the mapping ends before.
        let pinned = unsafe { Pinned::new(pages, BOTH, MemoryKind::System) }?;
        let mapping = mapper.map_pinned(&pinned, GFP_KERNEL)?;
        table::check(mapper, mapping.dma_vecs(), expected.iter().copied())?;

        let out = DmaTable::new(mapping.dma_vecs())?;
        let seen = out
            .iter()
            .map(|entry| (entry.dma_address(), entry.dma_len()));
        // CAST: a `usize` is at most 64 bits wide.
        let given = mapping
            .dma_vecs()
            .map(|vec| (vec.addr().into_raw(), vec.len() as u64));
        check!(seen.eq(given));
        // Nobody gets at the memory by it, nor was anything written to the table that came in.
        check!(SgPages::new(&out).next().is_none());
        check!(table.table().iter().all(|entry| entry.dma_len() == 0));
        refuse_tables(mapping.dma_vecs())?;
    }
    Ok(())
}

/// More entries than there is memory for, which nobody is killed for; and as many as `vecs` only
/// say they are.
fn refuse_tables(vecs: impl Iterator<Item = DmaVec> + Clone) -> Outcome {
    /// 3 GiB of entries: more than a guest has.
    const MANY: usize = 100_000_000;

    let first = vecs.clone().next().ok_or(EIO)?;
    let many = core::iter::repeat_n(first, MANY);
    check_eq!(DmaTable::new(many).map(|_| ()), Err(ENOMEM));

    for (left, in_clone) in [(1, 2), (2, 1)] {
        let changing = Changing {
            vec: first,
            left,
            in_clone,
        };
        check_eq!(DmaTable::new(changing).map(|_| ()), Err(EINVAL));
    }
    Ok(())
}

/// `left` times `vec`, of which a clone has another number.
struct Changing {
    vec: DmaVec,
    left: usize,
    in_clone: usize,
}

impl Clone for Changing {
    fn clone(&self) -> Self {
        Self {
            left: self.in_clone,
            ..*self
        }
    }
}

impl Iterator for Changing {
    type Item = DmaVec;

    fn next(&mut self) -> Option<DmaVec> {
        self.left = self.left.checked_sub(1)?;
        Some(self.vec)
    }
}
