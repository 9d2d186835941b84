// SPDX-License-Identifier: GPL-2.0

//! Requests that end together.
//!
//! C: `struct io_comp_batch` ([`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)).

use super::{
    bindings as helpers,
    mapped::Mapped,
    op::Op,
    operations::Operations,
    request::Info, //
};
use core::marker::PhantomData;
use kernel::{
    bindings,
    prelude::*, //
};

/// Collects requests that have completed well, so that their tags are freed together: see
/// [`HwCtx::batch`](super::HwCtx::batch).
///
/// # Invariants
///
/// `list` has started requests of tag sets of `T`, which were given up to it, and are not mapped.
pub struct Batch<T: Operations> {
    list: bindings::io_comp_batch,
    _requests: PhantomData<fn(T)>,
}

impl<T: Operations> Batch<T> {
    #[inline]
    pub(crate) fn new() -> Self {
        // INVARIANT: there are none.
        Self {
            list: pin_init::zeroed(),
            _requests: PhantomData,
        }
    }

    /// Takes a request if it can end in a batch.
    ///
    /// # Errors
    ///
    /// It has to end by itself, and comes back.
    ///
    /// # Safety
    ///
    /// `info` stands for a request that is to end well, and
    /// `blk_mq_complete_request_remote()` has left it to this processor.
    #[inline]
    pub(crate) unsafe fn add<'a, 'bound>(
        &mut self,
        mut info: Info<'a, 'bound, T>,
    ) -> Result<(), Info<'a, 'bound, T>> {
        // The end of a batch does not restart a context that waits for room.
        if T::WAITS_FOR_ROOM || info.op() == Op::Passthrough {
            return Err(info);
        }
        // SAFETY: both are valid, and by the invariants of `Info` nobody else uses the request.
        if !unsafe { helpers::phyr_blk_helper_add_to_batch(info.rq.as_ptr(), &mut self.list) } {
            return Err(info);
        }
        // INVARIANT: nobody but this batch ends it; it is not mapped any more, and `info`, its only
        // owner, is given up.
        Mapped::unmap_info(&mut info);
        Ok(())
    }
}

impl<T: Operations> Drop for Batch<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.list.req_list.head.is_null() {
            // SAFETY: by the type invariant; they were given up to this.
            unsafe { bindings::blk_mq_end_request_batch(&mut self.list) };
        }
    }
}
