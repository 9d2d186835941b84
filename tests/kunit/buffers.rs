// SPDX-License-Identifier: GPL-2.0

//! Shared by the tests of dma-bufs: buffers that count their callbacks, and access to them.

use crate::{
    check::{
        Failure,
        Outcome, //
    },
    fixture::pattern, //
};
use core::sync::atomic::{
    AtomicI32,
    Ordering::Relaxed, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use phyr::{
    memory::{
        Chunks,
        Memory, //
    },
    DataDirection,
    DmaVec,
    Phyr, //
};
use phyr_dma_buf::{
    AccessMode,
    Attachment,
    AttachmentRef,
    DmaBuf,
    Exported,
    Exporter,
    Invalidate,
    MmapVmap, //
};

pub(crate) const BOTH: DataDirection = DataDirection::Bidirectional;

/// Counts of an exporter's callbacks.
#[derive(Default)]
pub(crate) struct Calls {
    attached: AtomicI32,
    pinned: AtomicI32,
    pub(crate) cpu: AtomicI32,
    pub(crate) released: AtomicI32,
}

impl Calls {
    /// Returns how many attachments, pins and CPU accesses there are.
    pub(crate) fn open(&self) -> [i32; 3] {
        [&self.attached, &self.pinned, &self.cpu].map(|calls| calls.load(Relaxed))
    }
}

/// An exporter that counts its callbacks, and may refuse to attach.
pub(crate) struct Counting {
    calls: Arc<Calls>,
    refuse: Option<Error>,
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.calls.released.fetch_add(1, Relaxed);
    }
}

impl Exporter for Counting {
    type Module = crate::LocalModule;
    type Memory = Chunks;
    type CpuMapping = MmapVmap;

    fn attach(&self, _importer: &AttachmentRef<'_>) -> Result {
        if let Some(e) = self.refuse {
            return Err(e);
        }
        self.calls.attached.fetch_add(1, Relaxed);
        Ok(())
    }

    fn detach(&self, _importer: &AttachmentRef<'_>) {
        self.calls.attached.fetch_add(-1, Relaxed);
    }

    fn pin(&self, _importer: &AttachmentRef<'_>) -> Result {
        self.calls.pinned.fetch_add(1, Relaxed);
        Ok(())
    }

    fn unpin(&self, _importer: &AttachmentRef<'_>) {
        self.calls.pinned.fetch_add(-1, Relaxed);
    }

    fn begin_cpu_access(&self, _dir: DataDirection) -> Result {
        self.calls.cpu.fetch_add(1, Relaxed);
        Ok(())
    }

    fn end_cpu_access(&self, _dir: DataDirection) {
        self.calls.cpu.fetch_add(-1, Relaxed);
    }
}

/// An importer that counts how often its mapping was invalidated.
#[derive(Default)]
pub(crate) struct Told(pub(crate) AtomicI32);

impl Invalidate for Told {
    fn invalidate(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Allocates `nr` pages that are not in the order of their addresses.
pub(crate) fn pages(nr: usize) -> Result<Chunks> {
    let mut chunks = Chunks::zeroed(nr * PAGE_SIZE, 0, GFP_KERNEL)?;
    for at in 0..nr {
        chunks.swap(at, (at * 7 + 3) % nr);
    }
    Ok(chunks)
}

/// An exported buffer of such pages, with its counts.
pub(crate) struct Fixture {
    pub(crate) buf: Exported<Counting>,
    pub(crate) calls: Arc<Calls>,
    pub(crate) phyrs: KVVec<Phyr>,
}

impl Fixture {
    pub(crate) fn with(nr: usize, access: AccessMode, refuse: Option<Error>) -> Result<Self> {
        let memory = pages(nr)?;
        let mut phyrs = KVVec::new();
        for phyr in memory.phyrs() {
            phyrs.push(phyr?, GFP_KERNEL)?;
        }
        let calls = Arc::new(Calls::default(), GFP_KERNEL)?;
        let exporter = Counting {
            calls: calls.clone(),
            refuse,
        };
        Ok(Self {
            buf: phyr_dma_buf::export(memory, exporter, access)?,
            calls,
            phyrs,
        })
    }

    pub(crate) fn new(nr: usize) -> Result<Self> {
        Self::with(nr, AccessMode::ReadWrite, None)
    }

    pub(crate) fn dma_buf(&self) -> ARef<DmaBuf> {
        self.buf.dma_buf().into()
    }

    /// Drops the buffer; checks that it was released, and that all callbacks balance.
    #[track_caller]
    pub(crate) fn end(self) -> Outcome {
        check_eq!(self.buf.counts(), (0, 0));
        let calls = self.calls.clone();
        drop(self);
        // The work that closes files may have taken this one just now.
        for _ in 0..3000 {
            settle();
            if calls.released.load(Relaxed) != 0 {
                break;
            }
            sleep();
        }
        check_eq!(calls.released.load(Relaxed), 1);
        check_eq!(calls.open(), [0; 3]);
        Ok(())
    }
}

/// Waits until files are closed that the test, a kernel thread, has put.
pub(crate) fn settle() {
    // SAFETY: may be called from any thread that may sleep.
    unsafe { bindings::flush_delayed_fput() };
}

/// Sleeps for long enough for another thread to go wrong.
pub(crate) fn sleep() {
    fsleep(Delta::from_millis(20));
}

pub(crate) fn ranges<I>(attachment: &Attachment<I>) -> Result<KVVec<DmaVec>> {
    let mut vecs = KVVec::new();
    let mut pushed = Ok(());
    attachment.dma_vecs(|vec| pushed = pushed.and(vecs.push(vec, GFP_KERNEL)))?;
    pushed?;
    Ok(vecs)
}

/// Returns the range of the device that has byte `at` of the buffer, and the offset in it.
#[track_caller]
pub(crate) fn find(vecs: &[DmaVec], mut at: usize) -> Result<(DmaVec, usize), Failure> {
    for &vec in vecs {
        if at < vec.len() {
            return Ok((vec, at));
        }
        at -= vec.len();
    }
    Err(Failure::new(fmt!("{at} bytes past the end of the buffer")))
}

pub(crate) fn fill(buf: &DmaBuf, at: usize, len: usize, seed: usize) -> Result {
    let mut cpu = buf.cpu(DataDirection::ToDevice)?;
    for n in 0..len {
        cpu.write(at + n, &[pattern(seed + n)])?;
    }
    Ok(())
}

#[track_caller]
pub(crate) fn holds(buf: &DmaBuf, at: usize, len: usize, seed: usize) -> Outcome {
    let cpu = buf.cpu(DataDirection::FromDevice)?;
    for n in 0..len {
        let mut byte = [0];
        cpu.read(at + n, &mut byte)?;
        check_eq!(byte, [pattern(seed + n)], "at {}", at + n);
    }
    Ok(())
}

pub(crate) fn fixed(
    dev: &Device<Bound>,
    fixture: &Fixture,
) -> Result<Attachment<phyr_dma_buf::Static>> {
    Attachment::static_importer(dev, fixture.dma_buf())
}

pub(crate) fn dynamic(
    dev: &Device<Bound>,
    fixture: &Fixture,
) -> Result<(Attachment<Told>, Arc<Told>)> {
    let told = Arc::new(Told::default(), GFP_KERNEL)?;
    let attachment = Attachment::dynamic(dev, fixture.dma_buf(), false, told.clone())?;
    Ok((attachment, told))
}
