// SPDX-License-Identifier: GPL-2.0

//! Memory that is mapped once, for a file that may be open for longer than the driver is bound.
//!
//! A [`Mapping`] has the lifetime of its driver's binding, which a file's values do not have. A
//! [`RegisteredMemory`] has no lifetime, and ends with the binding all the same: the mapping is a
//! [`Managed`] value of the device.

use super::managed::Managed;
use core::mem;
use kernel::{
    alloc::Flags,
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    sync::aref::ARef, //
};
use phyr::{
    mapping::Mapping,
    memory::Memory,
    ownership::MappedFor,
    DmaVecs,
    Limits,
    Mapper, //
};

/// Memory that is mapped for a device until this is dropped, and at the latest until the driver is
/// unbound. The memory is released with the mapping.
///
/// It must be memory that the device and the processors see alike all the time, as the mapping has
/// no turns: it is refused for a device that is not coherent, and for one whose memory may be
/// bounced.
///
/// # Examples
///
/// ```
/// use kernel::{device::{Bound, Device}, prelude::*, sync::Arc, uaccess::UserPtr};
/// use phyr::{memory::UserPages, DataDirection, Limits};
/// use phyr_driver::{registered::RegisteredMemory, users::Users};
///
/// /// Of an ioctl: the program's memory, for as many commands as it likes.
/// fn register(
///     dev: &Device<Bound>,
///     addr: UserPtr,
///     len: usize,
///     users: Arc<Users>,
/// ) -> Result<RegisteredMemory> {
///     let dir = DataDirection::Bidirectional;
///     let pages = UserPages::pin(addr, len, dir)?;
///     let (registered, _) = RegisteredMemory::new(
///         dev,
///         Limits::of_device(dev),
///         pages,
///         dir,
///         GFP_KERNEL_ACCOUNT,
///         // Each command is one of the users.
///         move || users.drain(),
///         |dma_vecs| Ok(dma_vecs.count()),
///     )?;
///     Ok(registered)
/// }
/// ```
pub struct RegisteredMemory {
    _ending: Managed,
}

/// Stops the device, and then ends the mapping.
///
/// # Invariants
///
/// `dev` is the device of `mapping`, and is bound, but for what comes when its managed resources
/// are released.
struct StopThenUnmap<M: Memory, F: FnMut()> {
    stop: F,
    _mapping: Mapping<'static, M>,
    /// Keeps the device from being moved to another domain than that of the DMA API.
    _mapped_for: MappedFor,
    _dev: ARef<Device>,
}

impl<M: Memory, F: FnMut()> Drop for StopThenUnmap<M, F> {
    fn drop(&mut self) {
        (self.stop)();
    }
}

impl RegisteredMemory {
    /// Maps `memory` for `dev`. Returns what `see` makes of the ranges that the device sees, which
    /// are valid until the mapping ends.
    ///
    /// `stop` is called before that, whatever it ends by: when it returns the device does not
    /// access the memory any more. It may sleep, but must come to an end by itself. Only if `see`
    /// fails it is not called: the device must not have been told of the ranges then.
    ///
    /// Context: process context, sleeps.
    ///
    /// # Errors
    ///
    /// The memory was dropped.
    ///
    /// - `EOPNOTSUPP`: the device and the processors would not see the same: memory may be bounced,
    ///   or the device is not coherent.
    /// - `EBUSY`: the device is in a domain of its driver's own.
    /// - Those of [`Mapper::new`], of [`Mapper::map`] and of `see`.
    pub fn new<M: Memory, R>(
        dev: &Device<Bound>,
        limits: Limits,
        memory: M,
        dir: M::Direction,
        flags: Flags,
        stop: impl FnMut() + Send + 'static,
        see: impl FnOnce(DmaVecs<'_>) -> Result<R>,
    ) -> Result<(Self, R)> {
        let mapped_for = MappedFor::new(dev)?;
        let mapper = Mapper::new(dev, limits)?;
        if mapper.max_mapping_size() != usize::MAX || !mapper.is_coherent() {
            return Err(EOPNOTSUPP);
        }
        let mapping = mapper.map(memory, dir, flags).map_err(|e| e.error)?;
        let seen = see(mapping.dma_vecs())?;
        // SAFETY: only the lifetime differs. `dev` is bound until its managed resources are
        // released, by when `Managed` has dropped `StopThenUnmap`, and so this; it holds the
        // device. The mapper is one of the DMA API, and has nothing else with a lifetime.
        let mapping = unsafe { mem::transmute::<Mapping<'_, M>, Mapping<'static, M>>(mapping) };
        // INVARIANT: `dev` is that of the mapping.
        let ending = StopThenUnmap {
            stop,
            _mapping: mapping,
            _mapped_for: mapped_for,
            _dev: dev.into(),
        };
        let ending = Managed::new(dev, ending, flags)?;
        Ok((Self { _ending: ending }, seen))
    }
}
