// SPDX-License-Identifier: GPL-2.0

//! Values that end with the binding: interrupts, registered values, the binding itself.

use crate::{
    buffers::sleep,
    check::{
        Failure,
        Outcome, //
    },
    edu::Engine,
    fixture,
    test_forget::leaked::forget, //
};
use core::{
    ptr,
    sync::atomic::{
        AtomicI32,
        AtomicPtr,
        Ordering::{
            Acquire,
            Relaxed, //
        }, //
    }, //
};
use kernel::{
    device::Bound,
    devres::Devres,
    irq::{
        Handler,
        IrqReturn, //
    },
    pci::{
        self,
        IrqType, //
    },
    prelude::*, //
};
use phyr_driver::{
    binding::Binding,
    irq::{
        Types,
        Vectors, //
    }, //
};

/// Counts how often it was dropped.
struct Tally(&'static AtomicI32);

impl Drop for Tally {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A handler of interrupts that counts them.
struct Count {
    _dropped: Tally,
}

impl Handler for Count {
    fn handle(&self) -> IrqReturn {
        INTERRUPTS.fetch_add(1, Relaxed);
        IrqReturn::Handled
    }
}

static INTERRUPTS: AtomicI32 = AtomicI32::new(0);

pub(crate) static HANDLERS_DROPPED: AtomicI32 = AtomicI32::new(0);

pub(crate) static GUARDED_DROPPED: AtomicI32 = AtomicI32::new(0);

/// [`GUARDED_DROPPED`] at the time a newer managed resource of the device was released.
pub(crate) static BEFORE_DEVRES: AtomicI32 = AtomicI32::new(-1);

/// A managed resource of the device, which notes when it is released.
struct Managed;

impl Drop for Managed {
    fn drop(&mut self) {
        BEFORE_DEVRES.store(GUARDED_DROPPED.load(Relaxed), Relaxed);
    }
}

pub(crate) static BINDING: AtomicPtr<Binding> = AtomicPtr::new(ptr::null_mut());

/// Returns the binding of the first probe.
pub(crate) fn first_binding() -> Result<&'static Binding, Failure> {
    // SAFETY: it was leaked, by `probe`.
    Ok(check_some!(unsafe { BINDING.load(Acquire).as_ref() }))
}

/// Forgets a handler of interrupts: it is called until the device is unbound.
pub(crate) fn interrupts(pdev: &pci::Device<Bound>) -> Outcome {
    let engine = Engine::new(pdev)?;
    let fixture::Binding { scope, pdev } = fixture::binding()?;
    for (min, max, error) in [
        (0, 1, EINVAL),
        (2, 1, EINVAL),
        (0, 0, EINVAL),
        (33, 64, ENOSPC),
    ] {
        let vectors = Vectors::alloc(scope, pdev, min, max, Types::one(IrqType::Msi));
        check_eq!(vectors.err(), Some(error), "{min} to {max}");
    }
    let types = Types::one(IrqType::Msi);
    let vectors = Vectors::alloc(scope, pdev, 1, 1, types)?;
    check_err!(Vectors::alloc(scope, pdev, 1, 1, Types::ANY), EBUSY);
    let handler = Count {
        _dropped: Tally(&HANDLERS_DROPPED),
    };
    let irq = vectors.request(0, c"phyr_test", handler);
    forget(irq?, KVec::new())?;
    let before = INTERRUPTS.load(Relaxed);
    engine.interrupt()?;
    for _ in 0..3000 {
        if INTERRUPTS.load(Relaxed) != before {
            return Ok(());
        }
        sleep();
    }
    Err(Failure::new(fmt!("the handler was not called")))
}

/// Forgets values that are tied to the binding: they are dropped when the device is unbound, not
/// before.
pub(crate) fn guarded() -> Outcome {
    let scope = fixture::binding()?.scope;
    let guarded = scope.register(Tally(&GUARDED_DROPPED));
    forget(guarded?, KVec::new())?;
    // It gives out references that live as long as the scope.
    let managed = Devres::<Managed>::new(scope.device(), Ok::<_, Error>(Managed));
    forget(managed?, KVec::new())?;
    check_eq!(GUARDED_DROPPED.load(Relaxed), 0);
    let binding = first_binding()?;
    check!(!binding.is_over());
    binding.with(|_| Ok(()))?;
    Ok(())
}
