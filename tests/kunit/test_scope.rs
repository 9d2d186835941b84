// SPDX-License-Identifier: GPL-2.0

//! Scopes: a value that is leaked in one ends with it, and mappers leave the state of the device as
//! it was set before probe.

use crate::{
    check::{
        Failure,
        Outcome, //
    },
    fixture::{
        self,
        in_scope, //
    }, //
};
use core::sync::atomic::{
    AtomicI32,
    Ordering::Relaxed, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Core,
        Device, //
    },
    io::Io,
    irq::{
        Handler,
        IrqReturn,
        ThreadedHandler,
        ThreadedIrqReturn, //
    },
    pci::{
        self,
        IrqType, //
    },
    prelude::*,
    sync::{
        Arc,
        SetOnce, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use phyr::{
    raw,
    Limits,
    Mapper, //
};
use phyr_driver::{
    binding::Binding,
    irq::{
        Types,
        Vectors, //
    },
    pci::{
        start_dma,
        stop_dma, //
    },
    scope::Scope, //
};

const BAR_LEN: usize = 0x100;
/// Reasons for an interrupt that have not been acknowledged.
const STATUS: usize = 0x24;
const RAISE: usize = 0x60;
const ACKNOWLEDGE: usize = 0x64;

/// Counts of a handler's calls and drops.
#[derive(Default)]
struct Calls {
    hard: AtomicI32,
    thread: AtomicI32,
    dropped: AtomicI32,
}

impl Calls {
    const fn new() -> Self {
        Self {
            hard: AtomicI32::new(0),
            thread: AtomicI32::new(0),
            dropped: AtomicI32::new(0),
        }
    }

    fn get(&self) -> [i32; 3] {
        [&self.hard, &self.thread, &self.dropped].map(|count| count.load(Relaxed))
    }

    /// Waits until `count` is more than zero.
    fn wait(count: &AtomicI32) -> Result {
        for _ in 0..1000 {
            if count.load(Relaxed) > 0 {
                return Ok(());
            }
            fsleep(Delta::from_millis(5));
        }
        Err(ETIMEDOUT)
    }
}

/// A handler of edu's interrupts, by message or by line.
struct Line<'b> {
    bar: Arc<pci::Bar<'b, BAR_LEN>>,
    calls: &'static Calls,
}

impl Line<'_> {
    /// Acknowledges the interrupt. Returns whether there was one.
    fn acknowledge(&self) -> bool {
        let status = self.bar.read32(STATUS);
        self.bar.write32(status, ACKNOWLEDGE);
        status != 0
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.calls.dropped.fetch_add(1, Relaxed);
    }
}

impl Handler for Line<'_> {
    fn handle(&self) -> IrqReturn {
        if !self.acknowledge() {
            return IrqReturn::None;
        }
        self.calls.hard.fetch_add(1, Relaxed);
        IrqReturn::Handled
    }
}

impl ThreadedHandler for Line<'_> {
    fn handle(&self) -> ThreadedIrqReturn {
        if !self.acknowledge() {
            return ThreadedIrqReturn::None;
        }
        self.calls.hard.fetch_add(1, Relaxed);
        ThreadedIrqReturn::WakeThread
    }

    fn handle_threaded(&self) -> IrqReturn {
        // It may sleep.
        fsleep(Delta::from_millis(1));
        self.calls.thread.fetch_add(1, Relaxed);
        IrqReturn::Handled
    }
}

/// A handler of nobody's interrupts.
struct Nobody;

impl Handler for Nobody {
    fn handle(&self) -> IrqReturn {
        IrqReturn::None
    }
}

/// Requests an interrupt of vectors that are newer than this, when they have been freed. Sets
/// `refused` to one if that is refused as it must be.
struct Late<'b> {
    vectors: Arc<SetOnce<Vectors<'b>>>,
    refused: &'static AtomicI32,
}

impl Late<'_> {
    /// By now the device has its line, and a handler on it, to be found if this one is requested.
    fn request(&self) -> Outcome {
        let pdev = fixture::binding()?.pdev;
        in_scope(generic(pdev), |scope| {
            let types = Types::one(IrqType::Intx);
            let line = Vectors::alloc(scope, pdev_in(scope, pdev), 1, 1, types)?;
            let _irq = line.request(0, c"phyr_test", Nobody)?;
            let vectors = check_some!(self.vectors.copy());
            check_err!(vectors.request(0, c"phyr_test", Nobody), ENODEV);
            Ok(())
        })
    }
}

impl Drop for Late<'_> {
    fn drop(&mut self) {
        self.refused
            .store(i32::from(self.request().is_ok()), Relaxed);
    }
}

/// Returns the device, or `None` where another suite has left vectors allocated.
fn device() -> Result<Option<&'static pci::Device<Core<'static>>>, Failure> {
    if crate::forgets() {
        return Ok(None);
    }
    Ok(Some(fixture::binding()?.pdev))
}

fn generic<'a>(pdev: &'a pci::Device<Core<'_>>) -> &'a Device<Bound> {
    let pdev: &pci::Device<Bound> = pdev;
    pdev.as_ref()
}

fn bar<'b>(scope: Scope<'b>) -> Result<Arc<pci::Bar<'b, BAR_LEN>>> {
    let pdev: &'b pci::Device<Bound> = scope.device().try_into()?;
    let bar = pdev.iomap_region_sized(0, c"phyr_test")?;
    Ok(Arc::new(bar, GFP_KERNEL)?)
}

fn line<'b>(bar: &Arc<pci::Bar<'b, BAR_LEN>>, calls: &'static Calls) -> Line<'b> {
    Line {
        bar: bar.clone(),
        calls,
    }
}

#[kunit_tests(phyr_device_scope)]
mod tests {
    use super::*;

    #[test]
    fn leaked_handlers_end_with_the_scope() -> Outcome {
        static HARD: Calls = Calls::new();
        static THREAD: Calls = Calls::new();
        let Some(pdev) = device()? else { return Ok(()) };
        for kind in [IrqType::Msi, IrqType::Intx] {
            for calls in [&HARD, &THREAD] {
                calls.hard.store(0, Relaxed);
                calls.thread.store(0, Relaxed);
                calls.dropped.store(0, Relaxed);
            }
            in_scope(generic(pdev), |scope| {
                let vectors = Vectors::alloc(scope, pdev_in(scope, pdev), 1, 1, Types::one(kind))?;
                check_eq!(vectors.len(), 1);
                let bar = bar(scope)?;
                let irq = vectors.request(0, c"phyr_test", line(&bar, &HARD))?;
                core::mem::forget(irq);
                bar.write32(1, RAISE);
                Calls::wait(&HARD.hard)?;
                check_eq!(HARD.dropped.load(Relaxed), 0);
                Ok(())
            })?;
            check_eq!(HARD.dropped.load(Relaxed), 1);
            // The vectors are free again.
            in_scope(generic(pdev), |scope| {
                let vectors = Vectors::alloc(scope, pdev_in(scope, pdev), 1, 1, Types::one(kind))?;
                let bar = bar(scope)?;
                let irq = vectors.request_threaded(0, c"phyr_test", line(&bar, &THREAD))?;
                bar.write32(1, RAISE);
                Calls::wait(&THREAD.thread)?;
                core::mem::forget(irq);
                Ok(())
            })?;
            check_eq!(THREAD.get(), [1, 1, 1]);
            check_eq!(HARD.get()[0], 1);
        }
        Ok(())
    }

    #[test]
    fn no_handler_is_registered_for_vectors_that_were_freed() -> Outcome {
        static REFUSED: AtomicI32 = AtomicI32::new(0);
        let Some(pdev) = device()? else { return Ok(()) };
        REFUSED.store(0, Relaxed);
        in_scope(generic(pdev), |scope| {
            let newer = Arc::new(SetOnce::new(), GFP_KERNEL)?;
            scope.keep(Late {
                vectors: newer.clone(),
                refused: &REFUSED,
            })?;
            let types = Types::one(IrqType::Msi);
            newer.populate(Vectors::alloc(scope, pdev_in(scope, pdev), 1, 1, types)?);
            Ok(())
        })?;
        check_eq!(REFUSED.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn vectors_that_cannot_be_have_a_reason() -> Outcome {
        let Some(pdev) = device()? else { return Ok(()) };
        let max = u32::MAX;
        for (min, most, error) in [
            (0, 0, EINVAL),
            (0, 1, EINVAL),
            (2, 1, EINVAL),
            (max, 1, EINVAL),
            (max, max, EINVAL),
            (2049, max, EINVAL),
            (2048, max, ENOSPC),
            (33, 64, ENOSPC),
        ] {
            let result = in_scope(generic(pdev), |scope| {
                let pdev = pdev_in(scope, pdev);
                let vectors = Vectors::alloc(scope, pdev, min, most, Types::MESSAGES);
                Ok(vectors.map(|_| ()))
            })?;
            check_eq!(result, Err(error), "{min} to {most}");
        }
        for (pre, min, most) in [(1, 1, 2), (2, 1, max), (max, max, max)] {
            let result = in_scope(generic(pdev), |scope| {
                let (pdev, types) = (pdev_in(scope, pdev), Types::MESSAGES);
                let vectors = Vectors::alloc_affinity(scope, pdev, pre, min, most, types);
                Ok(vectors.map(|_| ()))
            })?;
            check_eq!(result, Err(EINVAL), "{pre}, {min} to {most}");
        }
        in_scope(generic(pdev), |scope| {
            let pdev = pdev_in(scope, pdev);
            let vectors = Vectors::alloc(scope, pdev, 1, max, Types::MESSAGES)?;
            let again = Vectors::alloc(scope, pdev, 1, 1, Types::ANY);
            check_err!(again, EBUSY);
            static CALLS: Calls = Calls::new();
            let bar = bar(scope)?;
            for name in [c"", c".", c"..", c"a/b"] {
                let irq = vectors.request(0, name, line(&bar, &CALLS));
                check_err!(irq, EINVAL);
            }
            for index in [vectors.len(), 1 << 16, 1 << 32, usize::MAX] {
                let irq = vectors.request(index, c"phyr_test", line(&bar, &CALLS));
                check_err!(irq, EINVAL);
            }
            Ok(())
        })
    }

    #[test]
    fn a_leaked_owner_ends_the_binding() -> Outcome {
        let Some(pdev) = device()? else { return Ok(()) };
        let binding = in_scope(generic(pdev), |scope| {
            let (binding, owner) = Binding::new(scope)?;
            core::mem::forget(owner);
            check_eq!(binding.with(|_| Ok(7)), Ok(7));
            Ok(binding)
        })?;
        check_err!(binding.with(|_| Ok(7)), ENODEV);
        Ok(())
    }

    #[test]
    fn a_guarded_value_may_use_the_device_as_it_is_dropped() -> Outcome {
        static COMMANDS: AtomicI32 = AtomicI32::new(0);
        struct Last<'b>(&'b Device<Bound>);
        impl Drop for Last<'_> {
            fn drop(&mut self) {
                if <&pci::Device<Bound>>::try_from(self.0).is_ok() {
                    COMMANDS.fetch_add(1, Relaxed);
                }
            }
        }
        let Some(pdev) = device()? else { return Ok(()) };
        COMMANDS.store(0, Relaxed);
        in_scope(generic(pdev), |scope| {
            core::mem::forget(scope.register(Last(scope.device()))?);
            scope.keep(Last(scope.device()))?;
            drop(scope.register(Last(scope.device()))?);
            check_eq!(COMMANDS.load(Relaxed), 1);
            Ok(())
        })?;
        check_eq!(COMMANDS.load(Relaxed), 3);
        Ok(())
    }

    /// Bounce buffers in use were copied back to the wrong offset when `Mapper::new()` still
    /// changed `min_align_mask`.
    #[test]
    fn a_mapper_does_not_change_the_device() -> Outcome {
        let Some(pdev) = device()? else { return Ok(()) };
        let dev = generic(pdev);
        let kept = Limits::of_device(dev).min_align_mask();
        check_eq!(kept, crate::MIN_ALIGN_MASK);
        for (mask, expected) in [
            (0, None),
            (511, None),
            (kept, None),
            (2 * kept + 1, Some(EINVAL)),
            (u32::MAX, Some(EINVAL)),
        ] {
            let limits = check_some!(Limits::NONE.with_min_align_mask(mask));
            check_eq!(Mapper::new(dev, limits).err(), expected, "{mask:#x}");
            check_eq!(Limits::of_device(dev).min_align_mask(), kept);
        }
        Ok(())
    }

    #[test]
    fn mastering_the_bus_is_one_bit() -> Outcome {
        let Some(pdev) = device()? else { return Ok(()) };
        let command = || {
            let mut command = 0;
            // CAST: a small constant.
            let at = bindings::PCI_COMMAND as c_int;
            let raw = raw::device(generic(pdev));
            // SAFETY: the device is a field of a PCI device.
            let raw = unsafe { kernel::container_of!(raw, bindings::pci_dev, dev) };
            // SAFETY: the device is bound; the number may be written.
            unsafe { bindings::pci_read_config_word(raw, at, &mut command) };
            command
        };
        // `struct pci_dev` is the driver core's: its bit fields are not written to.
        let noted = || {
            let raw = raw::device(generic(pdev));
            // SAFETY: the device is a field of a PCI device, which is bound.
            unsafe { (*kernel::container_of!(raw, bindings::pci_dev, dev)).is_busmaster() }
        };
        let noted_before = noted();
        // CAST: a bit.
        let master = bindings::PCI_COMMAND_MASTER as u16;
        let before = command();
        check_eq!(before & master, master);
        stop_dma(pdev);
        check_eq!(command(), before & !master);
        check_eq!(noted(), noted_before);
        stop_dma(pdev);
        check_eq!(command(), before & !master);
        start_dma(pdev);
        check_eq!(command(), before);
        Ok(())
    }
}

/// Returns the device with the lifetime of a scope: the suites are alone with it.
fn pdev_in<'b>(
    _scope: Scope<'b>,
    pdev: &'static pci::Device<Core<'static>>,
) -> &'b pci::Device<Core<'static>> {
    pdev
}
