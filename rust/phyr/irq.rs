// SPDX-License-Identifier: GPL-2.0

//! Interrupts of a PCI device whose handlers may borrow for the time of the driver's binding.
//!
//! The kernel's own [`kernel::irq::Registration`] borrows from the allocation of the vectors, which
//! a driver would have to store beside it, and must never be leaked, which every driver would have
//! to vouch for. [`Irq`] holds a share of the vectors and is unregistered as the device unbinds.
//!
//! One way to misuse it is left, which is that of [`kernel::devres::Devres::access`]: a `Devres`
//! that is leaked gives out references for `'bound`, and yet is released before the older entries
//! of the device. A handler that was leaked before may then still run. Do not leak either.
//!
//! C header: [`include/linux/interrupt.h`](srctree/include/linux/interrupt.h)

use super::{
    bound::Guarded,
    fail::{
        self,
        Point, //
    }, //
};
use kernel::{
    device::Bound,
    irq::{
        Flags,
        Handler,
        IrqRequest,
        Registration, //
    },
    new_mutex,
    pci::{
        self,
        IrqTypes,
        IrqVectorRegistration, //
    },
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// The interrupt vectors of a PCI device.
///
/// They are freed when the last handler and this are gone, or as the device unbinds: their
/// interrupts refer to a part of the device that goes with the binding.
pub struct Vectors<'bound> {
    pdev: &'bound pci::Device<Bound>,
    len: usize,
    shared: Arc<Shared<'bound>>,
    _owner: Guarded<'bound, Owner<'bound>>,
}

/// The vectors, while there is an [`Owner`].
type Shared<'bound> = Mutex<Option<Arc<IrqVectorRegistration<'bound>>>>;

/// Gives up the share of [`Vectors`] when it is dropped, also where that was leaked.
struct Owner<'bound>(Arc<Shared<'bound>>);

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        let vectors = self.0.lock().take();
        drop(vectors);
    }
}

impl<'bound> Vectors<'bound> {
    /// Allocates from `min` to `max` vectors of the kinds in `types`.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: the device has fewer than `min` vectors.
    /// - `ENOMEM`: no memory.
    pub fn alloc(
        pdev: &'bound pci::Device<Bound>,
        min: u32,
        max: u32,
        types: IrqTypes,
    ) -> Result<Self> {
        fail::at(Point::pci_alloc_irq_vectors)?;
        let vectors = pdev.alloc_irq_vectors(min, max, types)?;
        let len = vectors.len();
        let vectors = Some(Arc::new(vectors, GFP_KERNEL)?);
        let shared = Arc::pin_init(new_mutex!(vectors), GFP_KERNEL)?;
        let owner = Owner(shared.clone());
        Ok(Self {
            pdev,
            len,
            shared,
            // SAFETY: what the value refers to for `'bound` is the device.
            _owner: unsafe { Guarded::new(pdev.as_ref(), owner) }?,
        })
    }

    /// Number of vectors, at least the minimum that was asked for.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Registers `handler` for the vector `index`; it is called from hard interrupt context from
    /// now on until the returned value is dropped.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there is no such vector.
    /// - `EBUSY`: it has a handler.
    /// - `ENODEV`: the vectors were freed, as the device unbinds.
    /// - `ENOMEM`: no memory.
    pub fn request<H>(
        &self,
        index: usize,
        name: &'static CStr,
        handler: H,
    ) -> Result<Irq<'bound, H>>
    where
        H: Handler + Send + 'bound,
    {
        let vectors = self.shared.lock().clone().ok_or(ENODEV)?;
        let request = IrqRequest::from(vectors.index(index)?);
        // SAFETY: only the lifetime changes. The request is good for as long as the vectors are
        // allocated, and `Registered` holds a share of them until its handler is unregistered.
        let request: IrqRequest<'bound> = unsafe { core::mem::transmute(request) };

        fail::at(Point::request_irq)?;
        // SAFETY: the registration is owned by a `Guarded`, which drops it before the device
        // unbinds whatever happens to the value that is returned.
        let init = unsafe {
            Registration::new(request, Flags::TRIGGER_NONE, name, Ok::<_, Error>(handler))
        };
        let registered = Registered {
            _irq: KBox::pin_init(init, GFP_KERNEL)?,
            _vectors: vectors,
        };
        Ok(Irq {
            // SAFETY: what the handler may refer to for `'bound` is the device, and what was
            // leaked; the one exception is named in the documentation of this module.
            _registered: unsafe { Guarded::new(self.pdev.as_ref(), registered) }?,
        })
    }
}

/// A handler and the vectors that one of them is of. The order of the fields is the order of the
/// drops: the handler must be gone when the vectors are freed.
struct Registered<'bound, H: Handler> {
    _irq: Pin<KBox<Registration<'bound, H>>>,
    _vectors: Arc<IrqVectorRegistration<'bound>>,
}

/// A registered interrupt handler, see [`Vectors::request`].
///
/// Dropping it waits for a running handler to end.
pub struct Irq<'bound, H: Handler + Send> {
    _registered: Guarded<'bound, Registered<'bound, H>>,
}
