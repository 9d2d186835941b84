// SPDX-License-Identifier: GPL-2.0

//! dma-buf: revocation, from importers of the library and from C importers (`foreign`).

use crate::{
    buffers::{
        dynamic,
        fill,
        find,
        fixed,
        ranges,
        settle,
        sleep,
        Fixture,
        BOTH, //
    },
    check::{
        Failure,
        Outcome, //
    },
    edu::{
        Engine,
        BUFFER, //
    },
    fixture::{
        pattern,
        with_dma_api, //
    },
    foreign::{
        self,
        Fence,
        Importer, //
    },
    oracle,
    table, //
};
use core::sync::atomic::{
    AtomicI32,
    Ordering::Relaxed, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::{
        Arc,
        Completion, //
    },
    workqueue, //
};
use phyr::DataDirection;
use phyr_dma_buf::Attachment;
use phyr_driver::pci::stop_dma;

/// Checks that after an unmap and after a revoke the device faults at the addresses it had.
fn faults(pdev: &pci::Device<Bound>, fixture: &Fixture) -> Outcome {
    let engine = Engine::new(pdev)?;
    let buf = fixture.buf.dma_buf();
    fill(buf, 0, BUFFER, 1)?;
    let (attachment, _) = dynamic(pdev.as_ref(), fixture)?;
    let unchanged = |cpu: &phyr_dma_buf::CpuAccess| {
        for n in 0..BUFFER {
            let mut byte = [0];
            cpu.read(n, &mut byte)?;
            check_eq!(byte, [pattern(1 + n)], "at {n}");
        }
        Ok(())
    };
    for revoke in [false, true] {
        attachment.map(BOTH)?;
        let vecs = ranges(&attachment)?;
        // What the device has in its buffer would change the memory.
        let (vec, at) = find(&vecs, PAGE_SIZE)?;
        engine.read(vec, at, BUFFER)?;
        let cpu = buf.cpu(DataDirection::FromDevice)?;
        if revoke {
            fixture.buf.revoke()?;
        } else {
            attachment.unmap();
        }
        let (vec, at) = find(&vecs, 0)?;
        engine.write(vec, at, BUFFER)?;
        unchanged(&cpu)?;
    }
    pr_info!("phyr_test: a write after a revoke changed nothing\n");
    Ok(())
}

/// Checks that every use of a revoked buffer is refused.
fn all_refused<I>(dev: &Device<Bound>, fixture: &Fixture, attachment: &Attachment<I>) -> Outcome {
    check!(attachment.dma_vecs(|_| ()).is_err());
    check_eq!(fixture.buf.counts().1, 0);
    check!(fixture.buf.is_revoked());
    check_err!(attachment.map(BOTH), ENODEV);
    check_err!(fixed(dev, fixture), ENODEV);
    check_err!(fixture.buf.dma_buf().cpu(BOTH), ENODEV);
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
    fn new() -> Result<Arc<Self>> {
        let init = pin_init!(Self {
            done <- Completion::new(),
            yes: AtomicI32::new(0),
        });
        Arc::pin_init(init, GFP_KERNEL)
    }

    fn set(&self) {
        self.yes.store(1, Relaxed);
        self.done.complete_all();
    }

    fn is_set(&self) -> bool {
        self.yes.load(Relaxed) != 0
    }
}

/// Revokes in another thread, and sets the signal when that is done.
fn revoke_elsewhere(fixture: &Fixture) -> Result<Arc<Done>> {
    let (done, buf) = (Done::new()?, fixture.buf.clone());
    let signal = done.clone();
    workqueue::system_unbound().try_spawn(GFP_KERNEL, move || {
        if buf.revoke().is_ok() {
            signal.set();
        }
        drop(buf);
        signal.done.complete_all();
    })?;
    Ok(done)
}

#[kunit_tests(phyr_device_dma_buf_revoke)]
mod tests {
    use super::*;

    #[test]
    fn revoked_from_a_dynamic_importer() -> Outcome {
        with_dma_api(|pdev, mapper| {
            let fixture = Fixture::new(8)?;
            let (attachment, told) = dynamic(pdev.as_ref(), &fixture)?;
            attachment.map(BOTH)?;
            let vecs = ranges(&attachment)?;
            fixture.buf.revoke()?;
            check_eq!(told.0.load(Relaxed), 1);
            table::check_gone(mapper, vecs.iter().copied())?;
            all_refused(pdev.as_ref(), &fixture, &attachment)?;
            fixture.buf.revoke()?;
            drop(attachment);
            check_eq!(told.0.load(Relaxed), 1);
            fixture.end()
        })
    }

    #[test]
    fn not_revoked_from_a_static_importer() -> Outcome {
        with_dma_api(|pdev, _| {
            let fixture = Fixture::new(8)?;
            let (other, told) = dynamic(pdev.as_ref(), &fixture)?;
            let attachment = fixed(pdev.as_ref(), &fixture)?;
            attachment.map(BOTH)?;
            other.map(BOTH)?;
            check_err!(fixture.buf.revoke(), EBUSY);
            // Nothing has changed, for the other one either.
            check!(!fixture.buf.is_revoked());
            check!(attachment.dma_vecs(|_| ()).is_ok());
            check!(other.dma_vecs(|_| ()).is_ok());
            check_eq!(told.0.load(Relaxed), 0);
            attachment.unmap();
            fixture.buf.revoke()?;
            all_refused(pdev.as_ref(), &fixture, &attachment)?;
            drop((attachment, other));
            fixture.end()
        })
    }

    #[test]
    fn revoke_waits_for_an_importer_that_unmaps_later() -> Outcome {
        with_dma_api(|pdev, mapper| {
            let fixture = Fixture::new(8)?;
            let importer = Importer::dynamic(pdev.as_ref(), &fixture.dma_buf())?;
            importer.map()?;
            let (first, second) = (revoke_elsewhere(&fixture)?, revoke_elsewhere(&fixture)?);
            while !fixture.buf.is_revoked() || !importer.is_told() {
                sleep();
            }
            sleep();
            check!(!first.is_set());
            check!(!second.is_set());
            let vecs = importer.unmap()?;
            table::check_gone(mapper, vecs.iter().copied())?;
            first.done.wait_for_completion();
            second.done.wait_for_completion();
            drop(importer);
            fixture.end()
        })
    }

    /// The device has a command for the buffer as it is revoked, and carries it out when the driver
    /// has given it up. Only a device model does so.
    #[test]
    fn revoked_under_a_command() -> Outcome {
        with_dma_api(|pdev, mapper| {
            if mapper.granule().is_none() || !oracle::is_model(pdev)? {
                return Ok(());
            }
            let fixture = Fixture::new(8)?;
            let importer = Importer::dynamic(pdev.as_ref(), &fixture.dma_buf())?;
            importer.map()?;
            let (vec, at) = find(&importer.ranges()?, 0)?;
            oracle::keep_next(pdev)?;
            Engine::new(pdev)?.start_write(vec, at, BUFFER)?;
            let done = revoke_elsewhere(&fixture)?;
            while !importer.is_told() {
                sleep();
            }
            // The device is off before anything is unmapped.
            stop_dma(pdev);
            importer.unmap()?;
            done.done.wait_for_completion();
            check!(done.is_set());
            oracle::check_late_refused(pdev)?;
            drop(importer);
            fixture.end()
        })
    }

    /// A task that is killed while it waits for fences or importers has revoked the buffer anyway.
    #[test]
    fn revoke_can_be_killed() -> Outcome {
        with_dma_api(|pdev, _| {
            let fixture = Fixture::new(8)?;
            let importer = Importer::dynamic(pdev.as_ref(), &fixture.dma_buf())?;
            importer.map()?;
            let fence = Fence::write(&fixture.dma_buf())?;
            let killed = foreign::killed(|| {
                let first = fixture.buf.revoke();
                fence.signal();
                (first, fixture.buf.revoke())
            });
            check_eq!(killed, (Err(EINTR), Err(EINTR)));
            check!(fixture.buf.is_revoked());
            check!(importer.is_told());
            importer.unmap()?;
            fixture.buf.revoke()?;
            drop(importer);
            fixture.end()
        })
    }

    /// Importers that detach without an unmap: the device no longer reaches the buffer, and the pin
    /// that the core has made for the static importer is gone.
    ///
    /// `CONFIG_DMABUF_DEBUG` would leak memory here.
    #[cfg(not(CONFIG_DMABUF_DEBUG))]
    #[test]
    fn what_an_importer_leaves_mapped_is_unmapped() -> Outcome {
        with_dma_api(|pdev, mapper| {
            for attach in [Importer::fixed, Importer::deaf, Importer::dynamic] {
                let fixture = Fixture::new(8)?;
                let importer = attach(pdev.as_ref(), &fixture.dma_buf())?;
                importer.map()?;
                let vecs = importer.ranges()?;
                drop(importer);
                table::check_gone(mapper, vecs.iter().copied())?;
                fixture.buf.revoke()?;
                fixture.end()?;
            }
            Ok(())
        })
    }

    /// Pins end with their attachment, however many they were; those of another stay.
    #[test]
    fn what_an_importer_leaves_pinned_is_unpinned() -> Outcome {
        with_dma_api(|pdev, _| {
            for attach in [Importer::deaf, Importer::dynamic] {
                let fixture = Fixture::new(8)?;
                let other = Importer::deaf(pdev.as_ref(), &fixture.dma_buf())?;
                let importer = attach(pdev.as_ref(), &fixture.dma_buf())?;
                other.pin()?;
                importer.pin()?;
                importer.pin()?;
                drop(importer);
                check_err!(fixture.buf.revoke(), EBUSY);
                other.unpin();
                fixture.buf.revoke()?;
                drop(other);
                fixture.end()?;
            }
            Ok(())
        })
    }

    #[test]
    fn pinned_by_one_that_cannot_be_told() -> Outcome {
        with_dma_api(|pdev, _| {
            let fixture = Fixture::new(8)?;
            let importer = Importer::deaf(pdev.as_ref(), &fixture.dma_buf())?;
            importer.pin()?;
            check_err!(fixture.buf.revoke(), EBUSY);
            importer.unpin();
            importer.map()?;
            check_err!(fixture.buf.revoke(), EBUSY);
            importer.unmap()?;
            fixture.buf.revoke()?;
            check!(importer.pin().is_err());
            drop(importer);
            fixture.end()
        })
    }

    #[test]
    fn revoked_while_others_map() -> Outcome {
        with_dma_api(|pdev, _| {
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
                            Err(e) if e == ENODEV => refused += 1,
                            Err(e) => return Err(Failure::from(e)),
                        }
                    }
                }
                done.done.wait_for_completion();
                all_refused(pdev.as_ref(), &fixture, &attachment)?;
                drop((attachment, another));
                fixture.end()?;
            }
            Ok(())
        })
    }

    /// The exporter is called, and memory is synced, only when the fences are signalled.
    #[test]
    fn the_cpu_waits_for_fences() -> Outcome {
        let fixture = Fixture::new(1)?;
        let fence = Fence::write(&fixture.dma_buf())?;
        let (done, buf) = (Done::new()?, fixture.dma_buf());
        let signal = done.clone();
        workqueue::system_unbound().try_spawn(GFP_KERNEL, move || {
            if buf.cpu(DataDirection::FromDevice).is_ok() {
                signal.set();
            }
            drop(buf);
            signal.done.complete_all();
        })?;
        sleep();
        let early = done.is_set() || fixture.calls.cpu.load(Relaxed) != 0;
        fence.signal();
        done.done.wait_for_completion();
        check!(!early);
        check!(done.is_set());
        settle();
        fixture.end()
    }

    /// Only where it is asked for (`faults=1`), as in the tests of linear mappings.
    #[test]
    fn after_a_revoke_the_device_faults() -> Outcome {
        with_dma_api(|pdev, mapper| {
            if mapper.granule().is_none() || !crate::wants_faults() {
                return Ok(());
            }
            let fixture = Fixture::new(8)?;
            faults(pdev, &fixture)?;
            fixture.end()
        })
    }
}
