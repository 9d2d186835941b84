// SPDX-License-Identifier: GPL-2.0

//! Interrupts of a PCI device whose handlers may borrow for the time of the driver's binding.
//!
//! A [`kernel::irq::Registration`] borrows from the allocation of the vectors, which a driver would
//! have to store beside it, and must not be leaked, which every driver would have to promise. Here
//! vectors and handlers are registered in a [`Scope`], and are gone when that ends.
//!
//! ```text
//!   Vectors::alloc(scope, pdev, ..)         in probe; freed when the scope ends
//!     |- request(0, name, handler)          called in hard interrupt context
//!     '- request_threaded(1, name, handler) that, and in a thread, which may sleep
//! ```
//!
//! C headers: [`include/linux/interrupt.h`](srctree/include/linux/interrupt.h),
//! [`include/linux/pci.h`](srctree/include/linux/pci.h)

use super::{
    bindings as own,
    pci::dma::with_command_locked,
    scope::{
        Registration,
        Scope, //
    }, //
};
use core::marker::PhantomPinned;
use kernel::{
    bindings,
    device::{
        Bound,
        Core,
        Device, //
    },
    error::to_result,
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
    types::ScopeGuard, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    raw, //
};

/// Kinds of vectors that [`Vectors::alloc`] may take; [`pci::IrqTypes`], whose value only its own
/// crate can read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Types(u32);

impl Types {
    /// Any kind: MSI-X first, then MSI, then the line (INTx).
    pub const ANY: Self = Self(bindings::PCI_IRQ_ALL_TYPES);

    /// Messages only, MSI-X first.
    pub const MESSAGES: Self = Self(bindings::PCI_IRQ_MSIX | bindings::PCI_IRQ_MSI);

    /// Allows one kind.
    pub const fn one(kind: IrqType) -> Self {
        Self(match kind {
            IrqType::Intx => bindings::PCI_IRQ_INTX,
            IrqType::Msi => bindings::PCI_IRQ_MSI,
            IrqType::MsiX => bindings::PCI_IRQ_MSIX,
        })
    }
}

/// Interrupt vectors of a PCI device, which are freed when the scope ends.
#[derive(Clone, Copy)]
pub struct Vectors<'b> {
    scope: Scope<'b>,
    pdev: &'b pci::Device<Bound>,
    kind: IrqType,
    len: u16,
}

/// Returns the kind of the vectors that a device has, or `Intx` if it has none.
fn kind(pdev: &pci::Device<Core<'_>>) -> IrqType {
    let pdev = raw::pci_device(pdev);
    // SAFETY: `pdev` is valid, and in its core context, in which nobody else changes these bits.
    let (msix, msi) = unsafe { ((*pdev).msix_enabled() != 0, (*pdev).msi_enabled() != 0) };
    match (msix, msi) {
        (true, _) => IrqType::MsiX,
        (false, true) => IrqType::Msi,
        (false, false) => IrqType::Intx,
    }
}

/// Returns whether a device has the `nr` vectors from `first` on.
///
/// Context: process context, may sleep, while the device is bound.
pub fn has_vectors(dev: &Device<Bound>, first: u32, nr: u32) -> bool {
    let Ok(pdev) = <&pci::Device<Bound>>::try_from(dev) else {
        return false;
    };
    first.checked_add(nr).is_some_and(|end| {
        (first..end).all(|vector| {
            // SAFETY: `pdev` is bound, and so is valid.
            unsafe { bindings::pci_irq_vector(raw::pci_device(pdev), vector) > 0 }
        })
    })
}

impl<'b> Vectors<'b> {
    /// Allocates from `min` to `max` vectors of the kinds in `types`.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `min` is zero, or more than `max`.
    /// - `EBUSY`: the device has vectors already.
    /// - `ENOSPC`: the device has fewer than `min` vectors.
    /// - `ENOMEM`: no memory.
    pub fn alloc(
        scope: Scope<'b>,
        pdev: &'b pci::Device<Core<'_>>,
        min: u32,
        max: u32,
        types: Types,
    ) -> Result<Self> {
        Self::alloc_with(scope, pdev, min, max, types.0, None)
    }

    /// Allocates from `min` to `max` vectors, and spreads all but the first `pre` of them over the
    /// processors. The kernel manages those: a vector is shut down with the last of its processors.
    ///
    /// With one for each queue, an interrupt comes on the processor that has submitted the request;
    /// see `phyr_blk::Affinity::Interrupts`.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// Those of [`Vectors::alloc`], and:
    ///
    /// - `EINVAL`: `pre` is not less than `min`.
    pub fn alloc_affinity(
        scope: Scope<'b>,
        pdev: &'b pci::Device<Core<'_>>,
        pre: u32,
        min: u32,
        max: u32,
        types: Types,
    ) -> Result<Self> {
        if pre >= min {
            return Err(EINVAL);
        }
        let affinity = bindings::irq_affinity {
            pre_vectors: pre,
            ..pin_init::zeroed()
        };
        let flags = types.0 | bindings::PCI_IRQ_AFFINITY;
        Self::alloc_with(scope, pdev, min, max, flags, Some(affinity))
    }

    fn alloc_with(
        scope: Scope<'b>,
        pdev: &'b pci::Device<Core<'_>>,
        min: u32,
        max: u32,
        flags: u32,
        mut affinity: Option<bindings::irq_affinity>,
    ) -> Result<Self> {
        // A message has 11 bits for its number at most: more than anybody can have.
        let max = max.min(2048);
        if min == 0 || min > max {
            return Err(EINVAL);
        }
        if !matches!(kind(pdev), IrqType::Intx) {
            return Err(EBUSY);
        }
        let raw = raw::pci_device(pdev);
        fail::at(Point::pci_alloc_irq_vectors)?;
        let affinity = affinity
            .as_mut()
            .map_or(core::ptr::null_mut(), core::ptr::from_mut);
        // SAFETY: `pdev` is bound; `affinity` is null or valid, and only used in the call.
        let len = with_command_locked(|| unsafe {
            own::phyr_driver_helper_alloc_irq_vectors(raw, min, max, flags, affinity)
        });
        // The numbers are valid, so `EINVAL` says that it has no vectors of the last kind.
        to_result(len).map_err(|e| if e == EINVAL { ENOSPC } else { e })?;
        let kind = kind(pdev);
        let pdev: &'b pci::Device<Bound> = pdev;
        scope.keep(ScopeGuard::new(move || {
            // SAFETY: `pdev` is bound until the scope ends, in its core context. It has the vectors
            // that were allocated above, or none if the kernel crate's `alloc_irq_vectors()`, which
            // is safe and does not see these, has freed them. Their handlers were registered in the
            // scope after this, and are gone, and none is being registered.
            with_command_locked(|| unsafe {
                bindings::pci_free_irq_vectors(raw::pci_device(pdev));
            });
        }))?;
        Ok(Self {
            scope,
            pdev,
            kind,
            // CAST: `max` at most.
            len: len as u16,
        })
    }

    /// Returns the number of vectors, at least the `min` of the allocation.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len.into()
    }

    /// Registers `handler` for the vector `index`; it is called in hard interrupt context from now
    /// on until the returned value is dropped, or the scope ends.
    ///
    /// A line ([`IrqType::Intx`]) may be shared with other devices: the handler is called for
    /// theirs as well, and returns [`IrqReturn::None`] where its own device has nothing to say.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there is no such vector; or the name is empty, has a slash, or is that of a
    ///   folder.
    /// - `EBUSY`: it has a handler, and is no shared line.
    /// - `ENODEV`: the scope is ending.
    /// - `ENOMEM`: no memory.
    pub fn request<H>(&self, index: usize, name: &'static CStr, handler: H) -> Result<Irq<'b, H>>
    where
        H: Handler + Send + 'b,
    {
        self.request_with(index, name, handler, Some(handle::<H>), None)
    }

    /// Registers `handler` for the vector `index`: its `handle()` is called in hard interrupt
    /// context, and its `handle_threaded()` in a thread, where it may sleep, whenever the former
    /// says [`ThreadedIrqReturn::WakeThread`].
    ///
    /// A handler that sees an error of its device recovers in the thread. The thread ends before
    /// the returned value is dropped, or the scope ends: it must not wait for either.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// Those of [`Vectors::request`].
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{device::Core, irq::{IrqReturn, ThreadedHandler, ThreadedIrqReturn}, pci};
    /// use kernel::prelude::*;
    /// use phyr_driver::{irq::{Irq, Types, Vectors}, scope::Scope};
    ///
    /// struct Events<'b>(pci::Bar<'b, 16>);
    ///
    /// impl ThreadedHandler for Events<'_> {
    ///     fn handle(&self) -> ThreadedIrqReturn {
    ///         // Look at the device: done, or something that takes longer?
    ///         ThreadedIrqReturn::WakeThread
    ///     }
    ///
    ///     fn handle_threaded(&self) -> IrqReturn {
    ///         // Reset it, and wait for that.
    ///         IrqReturn::Handled
    ///     }
    /// }
    ///
    /// fn register<'b>(
    ///     scope: Scope<'b>,
    ///     pdev: &'b pci::Device<Core<'_>>,
    ///     bar: pci::Bar<'b, 16>,
    /// ) -> Result<Irq<'b, Events<'b>>> {
    ///     let vectors = Vectors::alloc(scope, pdev, 1, 1, Types::ANY)?;
    ///     vectors.request_threaded(0, c"example", Events(bar))
    /// }
    /// ```
    pub fn request_threaded<H>(
        &self,
        index: usize,
        name: &'static CStr,
        handler: H,
    ) -> Result<Irq<'b, H>>
    where
        H: ThreadedHandler + Send + 'b,
    {
        self.request_with(
            index,
            name,
            handler,
            Some(handle_hard::<H>),
            Some(handle_threaded::<H>),
        )
    }

    fn request_with<H: Send + Sync + 'b>(
        &self,
        index: usize,
        name: &'static CStr,
        handler: H,
        hard: bindings::irq_handler_t,
        thread: bindings::irq_handler_t,
    ) -> Result<Irq<'b, H>> {
        // They become names of folders in /proc.
        if matches!(name.to_bytes(), b"" | b"." | b"..") || name.to_bytes().contains(&b'/') {
            return Err(EINVAL);
        }
        let index = u16::try_from(index)
            .ok()
            .filter(|&index| index < self.len)
            .ok_or(EINVAL)?;
        // The vectors are older than this, and are not freed meanwhile.
        self.scope
            .register_with(|| self.action(index, name, handler, hard, thread))
    }

    /// Registers a handler with the kernel.
    fn action<H: Send + Sync + 'b>(
        &self,
        index: u16,
        name: &'static CStr,
        handler: H,
        hard: bindings::irq_handler_t,
        thread: bindings::irq_handler_t,
    ) -> Result<Pin<KBox<Action<H>>>> {
        // SAFETY: `pdev` is bound, and so is valid.
        let irq = unsafe { bindings::pci_irq_vector(raw::pci_device(self.pdev), index.into()) };
        // CAST: not negative.
        let irq = to_result(irq).map(|()| irq as u32)?;
        let flags = match self.kind {
            // CAST: a flag.
            IrqType::Intx => bindings::IRQF_SHARED as usize,
            IrqType::Msi | IrqType::MsiX => 0,
        };
        KBox::pin_init(
            try_pin_init!(&this in Action {
                handler,
                irq,
                _pin: PhantomPinned,
                _: {
                    fail::at(Point::request_irq)?;
                    // INVARIANT: if this succeeds it is registered, with `this` as its cookie.
                    //
                    // SAFETY: `hard` and `thread` are `handle`, `handle_hard` or `handle_threaded`
                    // for `H`, which take an `Action<H>` for a cookie; all fields of `this` are
                    // there, and stay where they are until the interrupt is freed.
                    to_result(unsafe {
                        bindings::request_threaded_irq(
                            *irq,
                            hard,
                            thread,
                            flags,
                            name.as_char_ptr(),
                            this.as_ptr().cast(),
                        )
                    })?;
                },
            }? Error),
            GFP_KERNEL,
        )
    }
}

/// A handler that is registered for an interrupt; C: `struct irqaction`.
///
/// # Invariants
///
/// The interrupt `irq` is registered with a pointer to this as its cookie.
#[pin_data(PinnedDrop)]
pub struct Action<H> {
    handler: H,
    irq: u32,
    #[pin]
    _pin: PhantomPinned,
}

#[pinned_drop]
impl<H> PinnedDrop for Action<H> {
    fn drop(self: Pin<&mut Self>) {
        let cookie = core::ptr::from_ref(&*self).cast_mut().cast();
        // SAFETY: by the type invariants `irq` is registered with `cookie`. When this returns the
        // handler is not running any more.
        unsafe { bindings::free_irq(self.irq, cookie) };
    }
}

/// # Safety
///
/// `cookie` points to an [`Action<H>`](Action), which stays registered during the call.
unsafe extern "C" fn handle<H: Handler>(_irq: c_int, cookie: *mut c_void) -> bindings::irqreturn_t {
    // SAFETY: `cookie` is the `Action<H>` that `request_with()` has registered.
    let action = unsafe { &*cookie.cast::<Action<H>>() };
    returned(action.handler.handle())
}

/// # Safety
///
/// `cookie` points to an [`Action<H>`](Action), which stays registered during the call.
unsafe extern "C" fn handle_hard<H: ThreadedHandler>(
    _irq: c_int,
    cookie: *mut c_void,
) -> bindings::irqreturn_t {
    // SAFETY: `cookie` is the `Action<H>` that `request_with()` has registered.
    let action = unsafe { &*cookie.cast::<Action<H>>() };
    match action.handler.handle() {
        ThreadedIrqReturn::None => bindings::irqreturn::IRQ_NONE,
        ThreadedIrqReturn::Handled => bindings::irqreturn::IRQ_HANDLED,
        ThreadedIrqReturn::WakeThread => bindings::irqreturn::IRQ_WAKE_THREAD,
    }
}

/// # Safety
///
/// `cookie` points to an [`Action<H>`](Action), which stays registered during the call.
unsafe extern "C" fn handle_threaded<H: ThreadedHandler>(
    _irq: c_int,
    cookie: *mut c_void,
) -> bindings::irqreturn_t {
    // SAFETY: `cookie` is the `Action<H>` that `request_with()` has registered.
    let action = unsafe { &*cookie.cast::<Action<H>>() };
    returned(action.handler.handle_threaded())
}

fn returned(value: IrqReturn) -> bindings::irqreturn_t {
    match value {
        IrqReturn::None => bindings::irqreturn::IRQ_NONE,
        IrqReturn::Handled => bindings::irqreturn::IRQ_HANDLED,
    }
}

/// Owner of a registered interrupt handler; see [`Vectors::request`].
///
/// Dropping it waits for a running handler to end.
pub type Irq<'b, H> = Registration<'b, Pin<KBox<Action<H>>>>;
