// SPDX-License-Identifier: GPL-2.0

//! The examples of Documentation/memory.rst.

use crate::test_memory::user::Program;
use kernel::{
    dma::Coherent,
    prelude::*,
    sync::Arc,
    uaccess::UserPtr, //
};
use phyr::{
    linear::LinearError,
    memory::{
        Bytes,
        Chunks,
        Memory,
        Pages,
        UserPages, //
    },
    DataDirection::{
        Bidirectional,
        FromDevice, //
    },
    DmaTable,
    DmaVec,
    Mapper,
    MemoryKind,
    Phyr,
    Pinned,
    ToDevice, //
};

/// A device that is told of ranges.
pub(crate) trait Start {
    fn start(&self, vec: DmaVec);
}

fn pages(mapper: &Mapper<'_>, device: &impl Start) -> Result {
    let pages = Pages::zeroed(100_000, GFP_KERNEL)?;
    let mut mapping = mapper.map(pages, FromDevice, GFP_KERNEL)?;
    mapping.dma_vecs().for_each(|vec| device.start(vec));
    // ... wait for the device ...
    let mut header = [0; 16];
    mapping.cpu().read(0, &mut header)?;
    Ok(())
}

fn chunks(mapper: &Mapper<'_>, device: &impl Start) -> Result {
    let order = 4; // 16 pages each
    let folios = Chunks::zeroed(1 << 20, order, GFP_KERNEL)?;
    let mut mapping = mapper.map(folios, Bidirectional, GFP_KERNEL)?;
    mapping.dma_vecs().for_each(|vec| device.start(vec));
    // ... wait for the device ...
    let mut cpu = mapping.cpu();
    let range = cpu.vmap()?; // all of it at one address of the kernel's
    range.read(0, &mut [0; 16])
}

fn vector(mapper: &Mapper<'_>, device: &impl Start) -> Result<VVec<u64>> {
    let counters = VVec::from_elem(0u64, 2000, GFP_KERNEL)?;
    let mapping = mapper.map(Bytes::new(counters)?, FromDevice, GFP_KERNEL)?;
    mapping.dma_vecs().for_each(|vec| device.start(vec));
    // ... wait for the device ...
    Ok(mapping.unmap().into_inner())
}

fn small(mapper: &Mapper<'_>, device: &impl Start) -> Result<KBox<[u32; 256]>> {
    let answer = match Bytes::new(KBox::new([0u32; 256], GFP_KERNEL)?) {
        Ok(bytes) => bytes,
        Err(refused) => {
            dev_err!(mapper.device(), "no answer: {}\n", refused.error);
            return Err(refused.into());
        }
    };
    let mapping = mapper.map(answer, FromDevice, GFP_KERNEL)?;
    mapping.dma_vecs().for_each(|vec| device.start(vec));
    // ... wait for the device ...
    Ok(mapping.unmap().into_inner())
}

fn table(mapper: &Mapper<'_>, device: &impl Start) -> Result<u32> {
    let codes = VVec::from_elem(7u32, 1000, GFP_KERNEL)?;
    let codes = Arc::new(Bytes::read_only(codes)?, GFP_KERNEL)?;
    let mapping = mapper.map(codes.clone(), ToDevice, GFP_KERNEL)?;
    mapping.dma_vecs().for_each(|vec| device.start(vec));
    // While the device reads, so does the driver.
    codes.iter().copied().max().ok_or(EINVAL)
}

fn ring(mapper: &Mapper<'_>, device: &impl Start) -> Result<Coherent<[u64]>> {
    let ring = Coherent::<u64>::zeroed_slice(mapper.device(), 64, GFP_KERNEL)?;
    let addr = phyr::DmaAddr::from_raw(ring.dma_address());
    device.start(DmaVec::new(addr, ring.size()));
    Ok(ring)
}

fn frame(mapper: &Mapper<'_>, device: &impl Start) -> Result {
    match mapper.linear(Pages::zeroed(1 << 16, GFP_KERNEL)?, FromDevice) {
        Ok(frame) => device.start(frame.dma_vec()),
        Err(refused) => match refused.error {
            LinearError::NotTranslated { .. } => {
                let mut copy = mapper.linear_copy(refused.value, FromDevice)?;
                let turn = copy.hand_over()?;
                device.start(turn.dma_vec());
                // ... wait for the device ...
                turn.hand_back()?;
            }
            error => return Err(error.into()),
        },
    }
    Ok(())
}

fn for_c(mapper: &Mapper<'_>, c: impl FnOnce(&DmaTable)) -> Result {
    let pages = Pages::zeroed(1 << 16, GFP_KERNEL)?;
    let mapping = mapper.map(pages, ToDevice.into(), GFP_KERNEL)?;
    let table = DmaTable::new(mapping.dma_vecs())?;
    c(&table); // by `table.as_raw()`
    Ok(())
}

fn range(mapper: &Mapper<'_>, device: &impl Start, range: Phyr, kind: MemoryKind) -> Result {
    let range = core::iter::once(Ok(range));
    // SAFETY: the range is of that kind, this driver's alone, and mapped in this function only.
    let range = unsafe { Pinned::new(range, FromDevice, kind) }?;
    let mapping = mapper.map_pinned(&range, GFP_KERNEL)?;
    mapping.dma_vecs().for_each(|vec| device.start(vec));
    // ... wait for the device ...
    Ok(())
}

fn program(mapper: &Mapper<'_>, device: &impl Start, addr: UserPtr, len: usize) -> Result {
    let pages = UserPages::pin(addr, len, FromDevice)?;
    let mapping = mapper.map(pages, FromDevice, GFP_KERNEL)?;
    mapping.dma_vecs().for_each(|vec| device.start(vec));
    // ... wait for the device ...
    drop(mapping); // and unpins the pages, which are dirty then
    Ok(())
}

/// Runs all of them; `domain` if the mapper is one in a domain, where there is no coherent memory.
pub(crate) fn run(mapper: &Mapper<'_>, device: &impl Start, domain: bool) -> Result {
    pages(mapper, device)?;
    chunks(mapper, device)?;
    drop(vector(mapper, device)?);
    drop(small(mapper, device)?);
    table(mapper, device)?;
    if !domain {
        drop(ring(mapper, device)?);
    }
    if !crate::is_bounced() {
        frame(mapper, device)?;
    }
    let chunk = Chunks::zeroed(1 << 14, 2, GFP_KERNEL)?;
    let first = chunk.phyrs().next().ok_or(EINVAL)??;
    range(mapper, device, first, MemoryKind::System)?;
    let len = 3000;
    program(mapper, device, Program::filled(len, 7)?.at(0), len)?;
    for_c(mapper, |table| {
        table
            .iter()
            .for_each(|entry| pr_debug!("{:#x}\n", entry.dma_address()))
    })
}
