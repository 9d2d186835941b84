// SPDX-License-Identifier: GPL-2.0

//! The private part of a request, behind its `struct request`.

use super::{
    operations::Operations,
    status::Status, //
};
use core::ptr::NonNull;
use kernel::bindings;
use phyr::State;

/// What lies behind each `struct request` of a tag set (`cmd_size` bytes).
///
/// It belongs to whoever owns the request. The block layer makes it with the request
/// (`init_request`) and drops it with it (`exit_request`).
#[repr(C)]
pub(crate) struct Pdu<T: Operations> {
    /// How the request's pages are mapped.
    pub(crate) state: State,
    /// How the request ended, on its way to the CPU that wants to know.
    pub(crate) status: Status,
    /// What the driver keeps.
    pub(crate) data: T::RequestData,
    /// What the driver sent along, if it made the request. The last field: other requests do not
    /// touch it.
    pub(crate) passthrough: Option<T::Passthrough>,
}

impl<T: Operations> Pdu<T> {
    /// The bytes to ask the block layer for.
    ///
    /// It gives them no better alignment than a request has.
    pub(crate) const SIZE: u32 = {
        assert!(align_of::<Self>() <= align_of::<bindings::request>());
        assert!(size_of::<Self>() <= 4096, "keep `RequestData` small");
        // CAST: checked to fit just above.
        size_of::<Self>() as u32
    };

    /// A request that is not mapped.
    pub(crate) fn new() -> Self {
        Self {
            state: State::UNMAPPED,
            status: Status::Ok,
            data: T::RequestData::default(),
            passthrough: None,
        }
    }

    /// Where it is.
    ///
    /// # Safety
    ///
    /// `rq` is a request of a tag set whose `cmd_size` is [`Pdu::SIZE`], and valid.
    #[inline]
    pub(crate) unsafe fn of(rq: NonNull<bindings::request>) -> NonNull<Self> {
        // SAFETY: by the safety requirements the allocation goes on behind the request; this is
        // `blk_mq_rq_to_pdu()`, which is inline in C.
        unsafe { rq.add(1) }.cast()
    }
}
