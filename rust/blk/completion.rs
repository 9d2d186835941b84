// SPDX-License-Identifier: GPL-2.0

//! The ways in which devices tell which request has completed.

mod sealed {
    pub trait Sealed {}
}

/// The way in which a device's completions name a request: [`Generation`] or [`TagOnly`].
///
/// A driver chooses by [`Operations::Completion`](super::Operations::Completion), and has the
/// functions that fit.
pub trait Completion: sealed::Sealed + 'static {}

/// The device reports an identifier that the driver has chosen, with room for a
/// [generation](super::Mapped::generation) of four bits beside the tag.
///
/// [`HwCtx::take_generation`](super::HwCtx::take_generation) then does not mistake a completion
/// that comes twice, or late, for one of the next request with the tag.
pub enum Generation {}

/// The device reports nothing but the tag: a bit in a register, or a slot in a list of its own.
///
/// A request that [`HwCtx::take`](super::HwCtx::take) finds under the tag is taken for the one
/// that the device means.
/// So the driver must see to it that the device cannot mean an older request. When a request ends
/// its tag is free, and in use again at once. Therefore, *before* a request ends,
///
/// 1. what the device said of it is consumed: its bit is cleared in the device, the entry of the
///    ring is passed. Read again, it would stand for the next request with this tag. Thus
///    acknowledge first, then [`take`](super::HwCtx::take) and end;
/// 2. nothing more can come: a request that was taken for any other reason, by
///    [`Expired::take`](super::Expired::take) or [`HwCtx::drain`](super::HwCtx::drain), is ended
///    when its slot, or the whole device, was stopped and what it had reported by then was
///    consumed.
///
/// # Examples
///
/// ```
/// use phyr_blk::{HwCtx, Operations, Status, TagOnly};
///
/// /// A register with one bit for each slot, of those that are cleared by writing ones.
/// struct Completed;
///
/// impl Completed {
///     fn read(&self) -> u32 {
///         0b101
///     }
///     fn clear(&self, _bits: u32) {}
/// }
///
/// /// Of a device with 32 slots.
/// fn interrupt<T: Operations<Completion = TagOnly>>(hw: &HwCtx<'_, T>, completed: &Completed) {
///     let bits = completed.read();
///     // First, as from the first request that ends its bit can be set again.
///     completed.clear(bits);
///     for tag in (0..32).filter(|tag| bits & 1 << tag != 0) {
///         if let Some(io) = hw.take(tag) {
///             io.complete(Status::Ok);
///         }
///     }
/// }
/// ```
pub enum TagOnly {}

impl sealed::Sealed for Generation {}
impl sealed::Sealed for TagOnly {}
impl Completion for Generation {}
impl Completion for TagOnly {}
