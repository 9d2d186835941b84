// SPDX-License-Identifier: GPL-2.0

//! The examples of Documentation/memory.rst.

use crate::test_memory::{
    sources::CTable,
    user::Program, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::Coherent,
    page::Page,
    prelude::*,
    scatterlist::SGTable,
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
    source::{
        bvec::{
            BioVec,
            BioVecs, //
        },
        Segments,
        SgPages, //
    },
    DataDirection::{
        Bidirectional,
        FromDevice, //
    },
    DmaTable,
    DmaVec,
    DmaVecs,
    Limits,
    Mapper,
    MemoryKind,
    Phyr,
    Pinned,
    ToDevice, //
};
use phyr_blk::{
    Operations,
    RequestQueue,
    Status,
    UserMemory, //
};
use phyr_driver::{
    registered::RegisteredMemory,
    users::Users, //
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

fn registered(
    dev: &Device<Bound>,
    device: &impl Start,
    users: Arc<Users>,
    addr: UserPtr,
    len: usize,
) -> Result<RegisteredMemory> {
    let pages = UserPages::pin(addr, len, Bidirectional)?;
    let stop = move || users.drain(); // each command is one of the users
    let see = |dma_vecs: DmaVecs<'_>| {
        dma_vecs.for_each(|vec| device.start(vec));
        Ok(())
    };
    let flags = GFP_KERNEL_ACCOUNT;
    let (registered, ()) =
        RegisteredMemory::new(dev, Limits::NONE, pages, Bidirectional, flags, stop, see)?;
    Ok(registered) // for the open file, which may outlive the binding
}

/// Only compiled: it takes a disk.
#[expect(dead_code)]
fn for_one_command<T: Operations>(
    queue: &RequestQueue<T>,
    payload: T::Passthrough,
    addr: UserPtr,
    len: u32,
) -> Result<Status> {
    let request = queue.alloc(FromDevice, true)?;
    let memory = UserMemory::Range(addr, len);
    // `queue_rq()` maps it by `Request::map`, as any other.
    let (_payload, status) = request.execute_and_wait(Some(memory), payload)?;
    Ok(status)
}

fn from_c(mapper: &Mapper<'_>, device: &impl Start, table: &SGTable) -> Result {
    let pages = Segments::new(SgPages::new(table), *mapper.limits());
    // SAFETY: the table's pages are there until this function returns, and this driver's alone.
    let pages = unsafe { Pinned::new(pages, FromDevice, MemoryKind::System) }?;
    let mapping = mapper.map_pinned(&pages, GFP_KERNEL)?;
    mapping.dma_vecs().for_each(|vec| device.start(vec));
    // ... wait for the device ...
    Ok(())
}

fn bio_vecs(mapper: &Mapper<'_>, device: &impl Start, first: &Page, second: &Page) -> Result {
    let vecs = [
        BioVec::new(first, 512, 1024)?,
        BioVec::new(second, 0, 4096)?,
    ];
    let pieces = Segments::new(BioVecs::new(&vecs), *mapper.limits());
    // SAFETY: both pages are borrowed until this function returns, and this driver's alone.
    let pieces = unsafe { Pinned::new(pieces, FromDevice, MemoryKind::System) }?;
    let mapping = mapper.map_pinned(&pieces, GFP_KERNEL)?;
    mapping.dma_vecs().for_each(|vec| device.start(vec));
    // ... wait for the device ...
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
    // It is mapped as long as the device is bound, by the DMA API.
    if !domain && !crate::is_bounced() {
        let users = Arc::pin_init(Users::new(), GFP_KERNEL)?;
        let addr = Program::filled(len, 7)?.at(0);
        drop(registered(mapper.device(), device, users, addr, len)?);
    }
    from_c(mapper, device, CTable::new(&chunk, 100, 3000)?.table())?;
    let (one, two) = (Page::alloc_page(GFP_KERNEL)?, Page::alloc_page(GFP_KERNEL)?);
    bio_vecs(mapper, device, &one, &two)?;
    for_c(mapper, |table| {
        table
            .iter()
            .for_each(|entry| pr_debug!("{:#x}\n", entry.dma_address()))
    })
}
