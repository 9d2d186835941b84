// SPDX-License-Identifier: GPL-2.0

//! dma-buf on a device: what an exporter and an importer of the library do with each other, and
//! with the kinds of the other side that C has (`foreign`).

use crate::{
    edu::{
        Engine,
        BUFFER, //
    },
    fixture::{
        pattern,
        with_device, //
    },
    foreign,
    table, //
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
    faux,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Completion, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue, //
};
use phyr::{
    dma_buf::{
        self,
        Access,
        Attachment,
        DmaBuf,
        Exported,
        Exporter,
        Importing,
        Invalidate,
        NotLinear,
        Paged, //
    },
    memory::{
        Chunks,
        Memory, //
    },
    raw,
    DataDirection,
    DmaVec,
    Limits,
    Mapper,
    Phyr, //
};

type Outcome = Result<(), &'static str>;

const BOTH: DataDirection = DataDirection::Bidirectional;

/// How often each callback of an exporter was called.
#[derive(Default)]
pub(crate) struct Calls {
    attached: AtomicI32,
    pinned: AtomicI32,
    cpu: AtomicI32,
    released: AtomicI32,
}

impl Calls {
    /// Each of them as often as its counterpart.
    fn balance(&self) -> bool {
        [&self.attached, &self.pinned, &self.cpu]
            .iter()
            .all(|calls| calls.load(Relaxed) == 0)
    }
}

/// An exporter that counts, and refuses if it is told to.
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
    type Cpu = Paged;

    const NAME: &'static CStr = c"phyr_test";

    fn attach(&self, _importer: &Importing<'_>) -> Result {
        if let Some(e) = self.refuse {
            return Err(e);
        }
        self.calls.attached.fetch_add(1, Relaxed);
        Ok(())
    }

    fn detach(&self, _importer: &Importing<'_>) {
        self.calls.attached.fetch_add(-1, Relaxed);
    }

    fn pin(&self, _importer: &Importing<'_>) -> Result {
        self.calls.pinned.fetch_add(1, Relaxed);
        Ok(())
    }

    fn unpin(&self, _importer: &Importing<'_>) {
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

/// Another exporter, of the same memory.
struct Other;

impl Exporter for Other {
    type Module = crate::LocalModule;
    type Memory = Chunks;
    type Cpu = Paged;

    const NAME: &'static CStr = c"phyr_test_other";
}

/// An importer that counts how often it was told.
#[derive(Default)]
pub(crate) struct Told(pub(crate) AtomicI32);

impl Invalidate for Told {
    fn invalidate(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// `nr` pages in no order.
fn pages(nr: usize) -> Result<Chunks> {
    let mut chunks = Chunks::zeroed(nr * PAGE_SIZE, 0, GFP_KERNEL)?;
    for at in 0..nr {
        chunks.swap(at, (at * 7 + 3) % nr);
    }
    Ok(chunks)
}

struct Fixture {
    buf: Exported<Counting>,
    calls: Arc<Calls>,
    phyrs: KVVec<Phyr>,
}

impl Fixture {
    fn with(nr: usize, access: Access, refuse: Option<Error>) -> Result<Self> {
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
            buf: dma_buf::export(memory, exporter, access)?,
            calls,
            phyrs,
        })
    }

    fn new(nr: usize) -> Result<Self, &'static str> {
        Self::with(nr, Access::ReadWrite, None).map_err(|_| "not exported")
    }

    fn dma_buf(&self) -> ARef<DmaBuf> {
        self.buf.dma_buf().into()
    }

    /// Drops the buffer, after which it must have been released, and all calls balance.
    fn end(self) -> Outcome {
        if self.buf.counts() != (0, 0) {
            return Err("attachments or mappings are left");
        }
        let calls = self.calls.clone();
        drop(self);
        settle();
        if calls.released.load(Relaxed) != 1 {
            return Err("not released");
        }
        if !calls.balance() {
            return Err("calls do not balance");
        }
        Ok(())
    }
}

/// Lets files be closed that the test, which is a kernel thread, has put.
pub(crate) fn settle() {
    // SAFETY: may be called from any thread that may sleep.
    unsafe { bindings::flush_delayed_fput() };
}

pub(crate) fn ranges<I>(attachment: &Attachment<I>) -> Result<KVVec<DmaVec>, &'static str> {
    let mut vecs = KVVec::new();
    let mut full = false;
    attachment
        .dma_vecs(|vec| full |= vecs.push(vec, GFP_KERNEL).is_err())
        .map_err(|_| "no ranges")?;
    if full {
        return Err("no memory");
    }
    Ok(vecs)
}

/// Where byte `at` of the buffer is for the device.
pub(crate) fn find(vecs: &[DmaVec], mut at: usize) -> Result<(DmaVec, usize), &'static str> {
    for &vec in vecs {
        if at < vec.len() {
            return Ok((vec, at));
        }
        at -= vec.len();
    }
    Err("not that long")
}

fn fill(buf: &DmaBuf, at: usize, len: usize, seed: usize) -> Outcome {
    let mut cpu = buf
        .cpu(DataDirection::ToDevice)
        .map_err(|_| "no access to write")?;
    for n in 0..len {
        cpu.write(at + n, &[pattern(seed + n)])
            .map_err(|_| "not written")?;
    }
    Ok(())
}

fn holds(buf: &DmaBuf, at: usize, len: usize, seed: usize) -> Outcome {
    let cpu = buf
        .cpu(DataDirection::FromDevice)
        .map_err(|_| "no access to read")?;
    for n in 0..len {
        let mut byte = [0];
        cpu.read(at + n, &mut byte).map_err(|_| "not read")?;
        if byte != [pattern(seed + n)] {
            return Err("other bytes");
        }
    }
    Ok(())
}

/// The device copies a page within the buffer; the CPU sees it, while it is mapped and afterwards.
fn carry<I>(
    fixture: &Fixture,
    attachment: &Attachment<I>,
    engine: &Engine<'_>,
    mapper: &Mapper<'_>,
) -> Outcome {
    let buf = fixture.buf.dma_buf();
    let (from, to) = (2 * PAGE_SIZE, 9 * PAGE_SIZE);
    fill(buf, from, BUFFER, 1)?;

    attachment.map(BOTH).map_err(|_| "not mapped")?;
    let vecs = ranges(attachment)?;
    if vecs.iter().map(|vec| vec.len()).sum::<usize>() != buf.size() {
        return Err("not as long as the buffer");
    }
    table::check(mapper, vecs.iter().copied(), fixture.phyrs.iter().copied())?;

    let (vec, at) = find(&vecs, from)?;
    engine.read(vec, at, BUFFER).map_err(|_| "no read")?;
    let (vec, at) = find(&vecs, to)?;
    engine.write(vec, at, BUFFER).map_err(|_| "no write")?;
    holds(buf, to, BUFFER, 1)?;

    // The other way: what the CPU writes meanwhile, the device reads.
    fill(buf, from, BUFFER, 2)?;
    let (vec, at) = find(&vecs, from)?;
    engine.read(vec, at, BUFFER).map_err(|_| "no read")?;
    let (vec, at) = find(&vecs, 0)?;
    engine.write(vec, at, BUFFER).map_err(|_| "no write")?;

    attachment.unmap();
    table::check_gone(mapper, vecs.iter().copied())?;
    holds(buf, to, BUFFER, 1)?;
    holds(buf, 0, BUFFER, 2)
}

/// All of the segments are one range, as they must be behind an IOMMU; or else there is a gap where
/// the first one begins that does not adjoin the one before.
fn linear(mapper: &Mapper<'_>, attachment: &Attachment<dma_buf::Static>) -> Outcome {
    let (mut end, mut gap) = (None, None);
    for (nr, vec) in ranges(attachment)?.iter().enumerate() {
        let start = vec.addr().into_raw();
        if end.is_some_and(|end| end != start) {
            gap = gap.or(Some(nr));
        }
        // CAST: a `usize` is at most 64 bits wide.
        end = Some(start + vec.len() as u64);
    }
    let before = |nr| {
        let vecs = ranges(attachment)?;
        Ok::<usize, &'static str>(vecs.iter().take(nr).map(|vec| vec.len()).sum())
    };
    match (attachment.linear(), gap) {
        (Ok(vec), None) if vec.len() == attachment.len() => Ok(()),
        (Err(NotLinear::Gap { segment, offset }), Some(nr)) if mapper.granule().is_none() => {
            if segment != nr || before(nr)? != offset {
                return Err("the gap is elsewhere");
            }
            Ok(())
        }
        _ => Err("not as expected"),
    }
}

/// After an unmap, and after a revoke, the device gets nowhere through the addresses that it had.
fn faults(pdev: &pci::Device<Bound>, fixture: &Fixture) -> Outcome {
    let engine = Engine::new(pdev).map_err(|_| "no engine")?;
    let buf = fixture.buf.dma_buf();
    fill(buf, 0, BUFFER, 1)?;
    let (attachment, _) = dynamic(pdev.as_ref(), fixture)?;
    let unchanged = |cpu: &dma_buf::CpuAccess| {
        for n in 0..BUFFER {
            let mut byte = [0];
            cpu.read(n, &mut byte).map_err(|_| "not read")?;
            if byte != [pattern(1 + n)] {
                return Err("the device still wrote");
            }
        }
        Ok(())
    };
    for revoke in [false, true] {
        attachment.map(BOTH).map_err(|_| "not mapped")?;
        let vecs = ranges(&attachment)?;
        // What the device has in its buffer would change the memory.
        let (vec, at) = find(&vecs, PAGE_SIZE)?;
        engine.read(vec, at, BUFFER).map_err(|_| "no read")?;
        let cpu = buf
            .cpu(DataDirection::FromDevice)
            .map_err(|_| "no access to read")?;
        if revoke {
            fixture.buf.revoke().map_err(|_| "not revoked")?;
        } else {
            attachment.unmap();
        }
        let (vec, at) = find(&vecs, 0)?;
        engine.write(vec, at, BUFFER).map_err(|_| "no write")?;
        unchanged(&cpu)?;
    }
    pr_info!("phyr_test: a write behind a revoke changed nothing\n");
    Ok(())
}

/// A device without an IOMMU, whose binding a test can end.
fn another_device() -> Result<faux::Registration, &'static str> {
    let device = faux::Registration::new(c"phyr_test", None).map_err(|_| "no other device")?;
    let dev = raw::device(AsRef::<Device<Bound>>::as_ref(
        AsRef::<faux::Device<Bound>>::as_ref(&device),
    ));
    // SAFETY: the device is the test's own, and maps nothing yet.
    unsafe {
        (*dev).coherent_dma_mask = u64::MAX;
        (*dev).dma_mask = &raw mut (*dev).coherent_dma_mask;
    }
    Ok(device)
}

fn bound(device: &faux::Registration) -> &Device<Bound> {
    AsRef::<faux::Device<Bound>>::as_ref(device).as_ref()
}

fn fixed(dev: &Device<Bound>, fixture: &Fixture) -> Result<Attachment<dma_buf::Static>> {
    Attachment::fixed(dev, fixture.dma_buf())
}

fn dynamic(
    dev: &Device<Bound>,
    fixture: &Fixture,
) -> Result<(Attachment<Told>, Arc<Told>), &'static str> {
    let told = Arc::new(Told::default(), GFP_KERNEL).map_err(|_| "no memory")?;
    let attachment = Attachment::dynamic(dev, fixture.dma_buf(), false, told.clone())
        .map_err(|_| "not attached")?;
    Ok((attachment, told))
}

/// What every use of a revoked buffer must be.
fn all_refused<I>(dev: &Device<Bound>, fixture: &Fixture, attachment: &Attachment<I>) -> Outcome {
    if attachment.is_mapped() || fixture.buf.counts().1 != 0 || !fixture.buf.is_revoked() {
        return Err("not revoked");
    }
    if attachment.map(BOTH) != Err(ENODEV) {
        return Err("mapped");
    }
    if !matches!(fixed(dev, fixture), Err(e) if e == ENODEV) {
        return Err("attached");
    }
    if !matches!(fixture.buf.dma_buf().cpu(BOTH), Err(e) if e == ENODEV) {
        return Err("accessed");
    }
    Ok(())
}

/// A signal from one thread to another.
#[pin_data]
struct Done {
    #[pin]
    done: Completion,
    yes: AtomicI32,
}

impl Done {
    fn new() -> Result<Arc<Self>, &'static str> {
        let init = pin_init!(Self {
            done <- Completion::new(),
            yes: AtomicI32::new(0),
        });
        Arc::pin_init(init, GFP_KERNEL).map_err(|_| "no memory")
    }

    fn set(&self) {
        self.yes.store(1, Relaxed);
        self.done.complete_all();
    }

    fn is_set(&self) -> bool {
        self.yes.load(Relaxed) != 0
    }
}

/// Revokes in another thread; the signal is set when that is done.
fn revoke_elsewhere(fixture: &Fixture) -> Result<Arc<Done>, &'static str> {
    let (done, buf) = (Done::new()?, fixture.buf.clone());
    let signal = done.clone();
    workqueue::system_unbound()
        .try_spawn(GFP_KERNEL, move || {
            if buf.revoke().is_ok() {
                drop(buf);
                signal.set();
            }
        })
        .map_err(|_| "no thread")?;
    Ok(done)
}

fn sleep() {
    fsleep(Delta::from_millis(20));
}

#[kunit_tests(phyr_device_dma_buf)]
mod tests {
    use super::*;

    #[test]
    fn bytes_both_ways_static() {
        let result = with_device(|pdev, mapper| {
            let fixture = Fixture::new(40)?;
            let engine = Engine::new(pdev).map_err(|_| "no engine")?;
            let attachment = fixed(pdev.as_ref(), &fixture).map_err(|_| "not attached")?;
            carry(&fixture, &attachment, &engine, mapper)?;
            // And again: an attachment can be mapped many times.
            carry(&fixture, &attachment, &engine, mapper)?;
            drop(attachment);
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn bytes_both_ways_dynamic() {
        let result = with_device(|pdev, mapper| {
            let fixture = Fixture::new(40)?;
            let engine = Engine::new(pdev).map_err(|_| "no engine")?;
            let (attachment, told) = dynamic(pdev.as_ref(), &fixture)?;
            carry(&fixture, &attachment, &engine, mapper)?;
            drop(attachment);
            if told.0.load(Relaxed) != 0 {
                return Err("told, though not mapped");
            }
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn mapped_once_an_attachment_but_by_many() {
        let result = with_device(|pdev, _| {
            let fixture = Fixture::new(4)?;
            let one = fixed(pdev.as_ref(), &fixture).map_err(|_| "not attached")?;
            let (two, _) = dynamic(pdev.as_ref(), &fixture)?;
            if !matches!(one.dma_vecs(|_| ()), Err(e) if e == ENXIO) {
                return Err("ranges before it is mapped");
            }
            one.map(BOTH).map_err(|_| "not mapped")?;
            if one.map(BOTH) != Err(EBUSY) {
                return Err("mapped twice");
            }
            two.map(BOTH).map_err(|_| "not mapped by another")?;
            if fixture.buf.counts() != (2, 2) {
                return Err("miscounted");
            }
            one.unmap();
            one.unmap();
            if fixture.buf.counts() != (2, 1) || one.is_mapped() || !two.is_mapped() {
                return Err("miscounted after an unmap");
            }
            // Dropped while it is mapped.
            drop((one, two));
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn linear_looks_at_every_segment() {
        let result = with_device(|pdev, mapper| {
            let fixture = Fixture::new(40)?;
            let attachment = fixed(pdev.as_ref(), &fixture).map_err(|_| "not attached")?;
            if attachment.linear() != Err(NotLinear::Not(ENXIO)) {
                return Err("linear before it is mapped");
            }
            attachment.map(BOTH).map_err(|_| "not mapped")?;
            linear(mapper, &attachment)?;
            drop(attachment);
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn revoked_from_a_dynamic_importer() {
        let result = with_device(|pdev, mapper| {
            let fixture = Fixture::new(8)?;
            let (attachment, told) = dynamic(pdev.as_ref(), &fixture)?;
            attachment.map(BOTH).map_err(|_| "not mapped")?;
            let vecs = ranges(&attachment)?;
            fixture.buf.revoke().map_err(|_| "not revoked")?;
            if told.0.load(Relaxed) != 1 {
                return Err("not told once");
            }
            table::check_gone(mapper, vecs.iter().copied())?;
            all_refused(pdev.as_ref(), &fixture, &attachment)?;
            fixture.buf.revoke().map_err(|_| "not revoked again")?;
            drop(attachment);
            if told.0.load(Relaxed) != 1 {
                return Err("told of no mapping");
            }
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn not_revoked_from_a_static_importer() {
        let result = with_device(|pdev, _| {
            let fixture = Fixture::new(8)?;
            let (other, told) = dynamic(pdev.as_ref(), &fixture)?;
            let attachment = fixed(pdev.as_ref(), &fixture).map_err(|_| "not attached")?;
            attachment.map(BOTH).map_err(|_| "not mapped")?;
            other.map(BOTH).map_err(|_| "not mapped")?;
            if fixture.buf.revoke() != Err(EBUSY) {
                return Err("revoked");
            }
            // Nothing has changed, for the other one either.
            if fixture.buf.is_revoked()
                || !attachment.is_mapped()
                || !other.is_mapped()
                || told.0.load(Relaxed) != 0
            {
                return Err("something has changed");
            }
            attachment.unmap();
            fixture.buf.revoke().map_err(|_| "not revoked")?;
            all_refused(pdev.as_ref(), &fixture, &attachment)?;
            drop((attachment, other));
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn revoke_waits_for_an_importer_that_unmaps_later() {
        let result = with_device(|pdev, mapper| {
            let fixture = Fixture::new(8)?;
            let importer = foreign::Importer::dynamic(pdev.as_ref(), &fixture.dma_buf())?;
            importer.map()?;
            let (first, second) = (revoke_elsewhere(&fixture)?, revoke_elsewhere(&fixture)?);
            while !fixture.buf.is_revoked() || !importer.is_told() {
                sleep();
            }
            sleep();
            if first.is_set() || second.is_set() {
                return Err("did not wait");
            }
            let vecs = importer.unmap()?;
            table::check_gone(mapper, vecs.iter().copied())?;
            first.done.wait_for_completion();
            second.done.wait_for_completion();
            drop(importer);
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    /// An importer that detaches and has forgotten to unmap: the device no longer gets there.
    ///
    /// The kernel's own debugging of dma-bufs would lose some memory by it.
    #[cfg(not(CONFIG_DMABUF_DEBUG))]
    #[test]
    fn what_an_importer_leaves_behind_is_unmapped() {
        let result = with_device(|pdev, mapper| {
            let fixture = Fixture::new(8)?;
            let importer = foreign::Importer::deaf(pdev.as_ref(), &fixture.dma_buf())?;
            importer.map()?;
            let vecs = importer.ranges()?;
            drop(importer);
            table::check_gone(mapper, vecs.iter().copied())?;
            fixture.buf.revoke().map_err(|_| "not revoked")?;
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn pinned_by_one_that_cannot_be_told() {
        let result = with_device(|pdev, _| {
            let fixture = Fixture::new(8)?;
            let importer = foreign::Importer::deaf(pdev.as_ref(), &fixture.dma_buf())?;
            importer.pin()?;
            if fixture.buf.revoke() != Err(EBUSY) {
                return Err("revoked");
            }
            importer.unpin();
            importer.map()?;
            if fixture.buf.revoke() != Err(EBUSY) {
                return Err("revoked while mapped");
            }
            importer.unmap()?;
            fixture.buf.revoke().map_err(|_| "not revoked")?;
            if importer.pin().is_ok() {
                return Err("pinned when revoked");
            }
            drop(importer);
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn revoked_while_others_map() {
        let result = with_device(|pdev, _| {
            for _ in 0..8 {
                let fixture = Fixture::new(8)?;
                let (attachment, _) = dynamic(pdev.as_ref(), &fixture)?;
                let (another, _) = dynamic(pdev.as_ref(), &fixture)?;
                let done = revoke_elsewhere(&fixture)?;
                let mut refused = 0;
                while refused < 2 {
                    refused = 0;
                    for attachment in [&attachment, &another] {
                        match attachment.map(BOTH) {
                            Ok(()) => attachment.unmap(),
                            Err(e) if e == EBUSY => {}
                            Err(e) if e == ENODEV => refused += 1,
                            Err(_) => return Err("another error"),
                        }
                    }
                }
                done.done.wait_for_completion();
                all_refused(pdev.as_ref(), &fixture, &attachment)?;
                drop((attachment, another));
                fixture.end()?;
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn refused_by_the_exporter() {
        let result = with_device(|pdev, _| {
            let fixture = Fixture::with(1, Access::ReadWrite, Some(EOPNOTSUPP))
                .map_err(|_| "not exported")?;
            if !matches!(fixed(pdev.as_ref(), &fixture), Err(e) if e == EOPNOTSUPP) {
                return Err("attached");
            }
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn a_file_for_reading_is_not_written() {
        use DataDirection::{
            FromDevice,
            ToDevice, //
        };
        let refused = |access, dir| {
            let mut map = Err(EINVAL);
            with_device(|pdev, _| {
                let fixture = Fixture::with(2, access, None).map_err(|_| "not exported")?;
                let attachment = fixed(pdev.as_ref(), &fixture).map_err(|_| "not attached")?;
                map = attachment.map(dir);
                drop(attachment);
                fixture.end()
            })
            .map(|()| map)
        };
        assert_eq!(refused(Access::ReadOnly, ToDevice), Ok(Ok(())));
        assert_eq!(refused(Access::ReadOnly, FromDevice), Ok(Err(EACCES)));
        assert_eq!(refused(Access::ReadOnly, BOTH), Ok(Err(EACCES)));
        assert_eq!(refused(Access::WriteOnly, FromDevice), Ok(Ok(())));
        assert_eq!(refused(Access::WriteOnly, ToDevice), Ok(Err(EACCES)));
        assert_eq!(refused(Access::WriteOnly, BOTH), Ok(Err(EACCES)));
        assert_eq!(refused(Access::ReadWrite, BOTH), Ok(Ok(())));
        assert_eq!(
            refused(Access::ReadWrite, DataDirection::None),
            Ok(Err(EINVAL))
        );
    }

    #[test]
    fn the_cpu_keeps_to_the_file_and_the_bounds() {
        let result = (|| {
            let fixture = Fixture::with(2, Access::ReadOnly, None).map_err(|_| "not exported")?;
            let buf = fixture.buf.dma_buf();
            if buf.cpu(DataDirection::ToDevice).is_ok() || buf.cpu(BOTH).is_ok() {
                return Err("access to write");
            }
            let mut cpu = buf
                .cpu(DataDirection::FromDevice)
                .map_err(|_| "no access to read")?;
            let (size, mut bytes) = (buf.size(), [1; 2]);
            if cpu.write(0, &bytes) != Err(EACCES) {
                return Err("written");
            }
            if cpu.read(size - 1, &mut bytes).is_ok() || cpu.read(usize::MAX, &mut bytes).is_ok() {
                return Err("read behind the end");
            }
            cpu.read(size - 2, &mut bytes).map_err(|_| "not read")?;
            if bytes != [0; 2] {
                return Err("not zeroed");
            }
            drop(cpu);
            fixture.end()
        })();
        assert_eq!(result, Ok(()));
    }

    /// The device goes away with an attachment that was leaked while it is mapped.
    #[test]
    fn a_leaked_attachment_ends_with_the_binding() {
        let result = (|| {
            let fixture = Fixture::new(8)?;
            let device = another_device()?;
            let (attachment, told) = dynamic(bound(&device), &fixture)?;
            attachment.map(BOTH).map_err(|_| "not mapped")?;
            // As good as forgotten, but that the memory checker is not to find it at the end.
            let mut leaked = core::mem::ManuallyDrop::new(attachment);
            drop(device);
            if told.0.load(Relaxed) != 1 || fixture.buf.counts() != (0, 0) {
                return Err("not detached");
            }
            if leaked.map(BOTH) != Err(ENODEV)
                || !matches!(leaked.dma_vecs(|_| ()), Err(e) if e == ENODEV)
                || leaked.linear() != Err(NotLinear::Not(ENODEV))
                || leaked.is_mapped()
            {
                return Err("it can be used");
            }
            leaked.unmap();
            // SAFETY: it is dropped once, here.
            unsafe { core::mem::ManuallyDrop::drop(&mut leaked) };
            fixture.end()
        })();
        assert_eq!(result, Ok(()));
    }

    /// Nor does a leaked reference hurt: the buffer stays, and keeps its memory.
    #[test]
    fn a_leaked_buffer_keeps_its_memory() {
        let result = (|| {
            let fixture = Fixture::new(2)?;
            let mut leaked = core::mem::ManuallyDrop::new(fixture.buf.clone());
            let calls = fixture.calls.clone();
            drop(fixture);
            settle();
            if calls.released.load(Relaxed) != 0 {
                return Err("released");
            }
            fill(leaked.dma_buf(), 0, 16, 1)?;
            holds(leaked.dma_buf(), 0, 16, 1)?;
            // SAFETY: it is dropped once, here.
            unsafe { core::mem::ManuallyDrop::drop(&mut leaked) };
            settle();
            if calls.released.load(Relaxed) != 1 {
                return Err("not released");
            }
            Ok(())
        })();
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn an_exporter_knows_its_own() {
        let result = (|| {
            let fixture = Fixture::new(1)?;
            if Exported::<Other>::of(fixture.dma_buf()).is_ok() {
                return Err("taken for another's");
            }
            let same = Exported::<Counting>::of(fixture.dma_buf()).map_err(|_| "not known")?;
            if !core::ptr::eq(same.exporter(), fixture.buf.exporter()) {
                return Err("not the same");
            }
            drop(same);
            let fake = foreign::exported(
                PAGE_SIZE,
                &[DmaVec::new(phyr::DmaAddr::from_raw(0), PAGE_SIZE)],
            )?;
            if Exported::<Counting>::of(fake).is_ok() {
                return Err("a foreign one taken for its own");
            }
            fixture.end()
        })();
        settle();
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn only_whole_pages_are_exported() {
        let export = |memory: KVVec<phyr::memory::Pages>| -> Result {
            dma_buf::export(memory, Pieces, Access::ReadWrite).map(drop)
        };
        let pieces = |shape: &[(usize, usize)]| -> Result<KVVec<phyr::memory::Pages>> {
            let mut all = KVVec::new();
            for &(offset, len) in shape {
                all.push(crate::fixture::piece(offset, len)?, GFP_KERNEL)?;
            }
            Ok(all)
        };
        let try_export = |shape: &[(usize, usize)]| pieces(shape).and_then(export);
        assert_eq!(try_export(&[]), Err(EINVAL));
        assert_eq!(try_export(&[(0, PAGE_SIZE - 1)]), Err(EINVAL));
        assert_eq!(
            try_export(&[(0, PAGE_SIZE), (16, PAGE_SIZE - 16)]),
            Err(EINVAL)
        );
        assert_eq!(try_export(&[(0, PAGE_SIZE), (0, PAGE_SIZE)]), Ok(()));
        settle();
    }

    /// A table of a foreign exporter: what is beyond the buffer is not seen, what is missing is
    /// found, and `linear()` goes over all of it.
    #[test]
    fn tables_of_others() {
        let result = with_device(|pdev, _| {
            // CAST: the tests run on 64 bits.
            let page = PAGE_SIZE as u64;
            let vec = |at: u64, nr: usize| {
                DmaVec::new(phyr::DmaAddr::from_raw(at * page), nr * PAGE_SIZE)
            };
            let import = |size: usize, table: &[DmaVec]| {
                let buf = foreign::exported(size * PAGE_SIZE, table)?;
                Attachment::fixed(pdev.as_ref(), buf).map_err(|_| "not attached")
            };
            // One run in three segments, of which the buffer ends in the second.
            let table = [vec(16, 2), vec(18, 4), vec(22, 1)];
            let attachment = import(5, &table)?;
            attachment.map(BOTH).map_err(|_| "not mapped")?;
            if attachment.linear() != Ok(vec(16, 5)) {
                return Err("not linear");
            }
            if ranges(&attachment)?[..] != [vec(16, 2), vec(18, 3)] {
                return Err("not clipped");
            }
            drop(attachment);
            // As long as it says, but in two runs; the last segment leaves the gap.
            let table = [vec(16, 2), vec(18, 4), vec(23, 1)];
            let attachment = import(7, &table)?;
            attachment.map(BOTH).map_err(|_| "not mapped")?;
            let gap = NotLinear::Gap {
                segment: 2,
                offset: 6 * PAGE_SIZE,
            };
            if attachment.linear() != Err(gap) {
                return Err("the gap is not found");
            }
            drop(attachment);
            // A page too short: nothing stays mapped.
            let attachment = import(8, &table)?;
            if attachment.map(BOTH) != Err(EIO) || attachment.is_mapped() {
                return Err("mapped");
            }
            drop(attachment);
            settle();
            if foreign::mapped() != 0 {
                return Err("calls do not balance");
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }

    /// Only where it is asked for (`faults=1`), as in the tests of linear mappings.
    #[test]
    fn behind_a_revoke_the_device_faults() {
        let result = with_device(|pdev, mapper| {
            if mapper.granule().is_none() || !crate::wants_faults() {
                return Ok(());
            }
            let fixture = Fixture::new(8)?;
            faults(pdev, &fixture)?;
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn entries_are_cut_for_the_device() {
        let result = with_device(|pdev, mapper| {
            let fixture = Fixture::new(40)?;
            let attachment = fixed(pdev.as_ref(), &fixture).map_err(|_| "not attached")?;
            attachment.map(BOTH).map_err(|_| "not mapped")?;
            let vecs = ranges(&attachment)?;
            let limits = Limits::of_device(pdev.as_ref());
            for vec in &vecs {
                // CAST: a `usize` is at most 64 bits wide.
                if vec.len() as u64 > limits.room(vec.addr().into_raw()) {
                    return Err("an entry is over the limits");
                }
            }
            if mapper.granule().is_some() && vecs.len() != (40 * PAGE_SIZE).div_ceil(0x10000) {
                return Err("cut too often");
            }
            drop(attachment);
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }
}

/// An exporter of pieces of memory that user space cannot map.
struct Pieces;

impl Exporter for Pieces {
    type Module = crate::LocalModule;
    type Memory = KVVec<phyr::memory::Pages>;
    type Cpu = dma_buf::Unpaged;

    const NAME: &'static CStr = c"phyr_test_pieces";
}
