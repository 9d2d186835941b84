// SPDX-License-Identifier: GPL-2.0

//! The types of a driver, without its functions.
//!
//! [`Operations`](super::Operations) has both, and its functions take requests and hardware queues.
//! Those are generic in the types only, so that their files need not know the functions.

use super::{
    status::Status,
    uring::CommandResult, //
};
use core::convert::Infallible;

/// Types of a block driver. Every [`Operations`](super::Operations) has them, and documents them.
pub trait DriverTypes: Sized + 'static {
    /// See [`Operations::HwQueue`](super::Operations::HwQueue).
    type HwQueue<'bound>: Send + Sync + 'bound;

    /// See [`Operations::DiskData`](super::Operations::DiskData).
    type DiskData<'bound>: Send + Sync + 'bound;

    /// See [`Operations::RequestData`](super::Operations::RequestData).
    type RequestData: Default + Send + 'static;

    /// See [`Operations::PerTag`](super::Operations::PerTag).
    type PerTag<'bound>: Send + 'bound;

    /// See [`Operations::CompletionId`](super::Operations::CompletionId).
    type CompletionId: CompletionId;

    /// See [`Operations::Passthrough`](super::Operations::Passthrough).
    type Passthrough: Passthrough;

    /// See [`Operations::MAPS_LISTS`](super::Operations::MAPS_LISTS).
    const MAPS_LISTS: bool;
}

/// Payload of a [`PassthroughRequest`](super::PassthroughRequest).
///
/// It is in the request from [`execute()`](super::PassthroughRequest::execute), or its like, until
/// the request has ended, also while the request waits to be tried again.
pub trait Passthrough: Send + 'static {
    /// Ends the payload: the device is done with what it refers to, or never knew of it. Called
    /// exactly once, unless the payload is
    /// [given back](super::PassthroughRequest::execute_and_wait).
    ///
    /// Returns what a command of io_uring that the request was for ends with; ignored if it was for
    /// none. `status.into()` has the errno and no number.
    ///
    /// Context: any, also a hard interrupt.
    fn end(self, status: Status) -> CommandResult;
}

/// For a driver that makes no requests.
impl Passthrough for Infallible {
    fn end(self, _status: Status) -> CommandResult {
        match self {}
    }
}

mod sealed {
    pub trait Sealed {}
}

/// The identifier by which a device's completions name a request: [`TagAndGeneration`] or
/// [`TagOnly`].
///
/// A driver chooses by [`Operations::CompletionId`](super::Operations::CompletionId), and has the
/// functions that fit.
pub trait CompletionId: sealed::Sealed + 'static {}

/// The device reports an identifier that the driver has chosen, with room for a
/// [generation](super::Mapped::generation) of four bits beside the tag.
///
/// [`HwCtx::complete_generation`](super::HwCtx::complete_generation) then does not mistake a
/// completion that comes twice, or late, for one of the next request with the tag.
pub enum TagAndGeneration {}

/// The device reports nothing but the tag: a bit in a register, or a slot in a list of its own.
///
/// [`HwCtx::complete_tag`](super::HwCtx::complete_tag) takes the request under the tag for the one
/// that the device means, so the driver must see to it that the device cannot mean an older one.
/// The tag of a request that has ended is free, and can be in use again at once. Therefore,
/// *before* a request ends,
///
/// 1. the report is consumed: its bit is cleared in the device, or the entry of the ring is passed.
///    Read again, it would stand for the next request with this tag. Acknowledge first, then
///    complete;
/// 2. nothing more can come: a request that was taken for another reason, by
///    [`Expired::take`](super::Expired::take) or [`HwCtx::drain`](super::HwCtx::drain), ends after
///    its slot, or the whole device, was stopped and everything it had reported was consumed.
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
/// fn interrupt<T: Operations<CompletionId = TagOnly>>(hw: &HwCtx<'_, T>, completed: &Completed) {
///     let bits = completed.read();
///     // First, as from the first request that ends its bit can be set again.
///     completed.clear(bits);
///     for tag in (0..32).filter(|tag| bits & 1 << tag != 0) {
///         if let Some(io) = hw.complete_tag(tag) {
///             io.complete(Status::Ok);
///         }
///     }
/// }
/// ```
pub enum TagOnly {}

impl sealed::Sealed for TagAndGeneration {}
impl sealed::Sealed for TagOnly {}
impl CompletionId for TagAndGeneration {}
impl CompletionId for TagOnly {}
