// SPDX-License-Identifier: GPL-2.0

//! A queue without a disk, for commands that are a device's and not a disk's.
//!
//! C: `blk_mq_alloc_queue()` in [`block/blk-mq.c`](srctree/block/blk-mq.c), such as NVMe's
//! `admin_q`.

use super::{
    limits::Properties,
    operations::Operations,
    passthrough::RequestQueue,
    tag_set::{
        TagSet,
        FEAT_SKIP_TAGSET_QUIESCE, //
    },
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::Arc, //
};
use phyr::fail::{
    self,
    Point, //
};
use phyr_driver::scope::Registration;

/// A queue that is there. The order of the fields is that of the teardown.
///
/// # Invariants
///
/// `queue` comes from `blk_mq_alloc_queue()`, with a reference that this owns, and nobody else
/// destroys it. It belongs to `tag_set`, and its `queuedata` points to the content of `_data`.
struct LiveQueue<'bound, T: Operations> {
    queue: NonNull<bindings::request_queue>,
    _data: KBox<T::DiskData<'bound>>,
    tag_set: Arc<TagSet<'bound, T>>,
}

// SAFETY: a queue belongs to no thread; the data is `Send`, and the tag set `Send` and `Sync`.
unsafe impl<T: Operations> Send for LiveQueue<'_, T> {}

impl<T: Operations> Drop for LiveQueue<'_, T> {
    fn drop(&mut self) {
        let queue = self.queue.as_ptr();
        // SAFETY: by the type invariants the queue is there, and nobody else destroys it. This
        // waits until each request has ended, then stops timers and work.
        unsafe { bindings::blk_mq_destroy_queue(queue) };
        self.tag_set.wait_for_callbacks();
        // SAFETY: by the type invariants this owns a reference.
        unsafe { bindings::blk_put_queue(queue) };
    }
}

/// A queue without a disk; made by
/// [`GenDiskBuilder::build_queue`](super::GenDiskBuilder::build_queue).
///
/// There are only the driver's own requests in it. When it is dropped all of them are waited for,
/// and before the scope of its tag set ends also if it is leaked.
pub struct Queue<'bound, T: Operations> {
    _live: Registration<'bound, LiveQueue<'bound, T>>,
    requests: RequestQueue<T>,
}

impl<'bound, T: Operations> Queue<'bound, T> {
    pub(crate) fn new(
        tag_set: Arc<TagSet<'bound, T>>,
        data: T::DiskData<'bound>,
        properties: &Properties,
    ) -> Result<Self> {
        let mut data = KBox::new(data, GFP_KERNEL)?;
        let mut limits = properties.limits;
        limits.features |= FEAT_SKIP_TAGSET_QUIESCE;
        let queuedata: *mut T::DiskData<'bound> = &mut *data;
        fail::at(Point::blk_mq_alloc_queue)?;
        // SAFETY: by the invariants of `TagSet` this is an allocated tag set; the limits are valid
        // for the call.
        let queue = from_err_ptr(unsafe {
            bindings::blk_mq_alloc_queue(tag_set.as_raw(), &mut limits, queuedata.cast())
        })?;
        let queue = NonNull::new(queue).ok_or(ENOMEM)?;
        // INVARIANT: it was allocated just now; its data is the content of `data`, which does not
        // move.
        let live = LiveQueue {
            queue,
            _data: data,
            tag_set: tag_set.clone(),
        };
        // SAFETY: nobody else knows of the queue, which was made for this tag set, with the
        // feature.
        unsafe { tag_set.admit(queue.as_ptr()) };
        // SAFETY: it is a queue of `T`, whose requests have the private part of its tag set.
        let requests = unsafe { RequestQueue::new(queue) }?;
        Ok(Self {
            _live: tag_set.scope().register(live)?,
            requests,
        })
    }

    /// Returns the queue by which the driver sends its requests.
    pub fn requests(&self) -> &RequestQueue<T> {
        &self.requests
    }
}
