// SPDX-License-Identifier: GPL-2.0

//! Block drivers whose requests are owned values.
//!
//! The layer between blk-mq and a driver of a real device: what [`kernel::block::mq`] does not have.
//! Errors can be completed, requests and hardware queues carry data of the driver, a tag that the
//! device reports finds its request exactly once, and a request's pages stay mapped exactly as long
//! as the device may use them.
//!
//! C header: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)
//!
//! # The states of a request
//!
//! ```text
//!             queue_rq                map()              park()
//!  blk-mq ───────────────▶ Request ────────▶ Mapped ───────────────▶ in flight
//!     ▲                       │ ▲               │ ▲                      │
//!     │  end(), requeue(),    │ │    unmap()    │ │   take(tag), drain() │
//!     │  Refused              │ └───────────────┘ └──────────────────────┘
//!     └───────────────────────┘          Expired::take()
//! ```
//!
//! Each arrow consumes the value it starts from, so that a request is in one state and has one
//! owner. Who gets a request out of the in-flight table is decided by one atomic operation: a
//! completion, a second completion of the same tag, a timeout and a reset cannot all have it, and a
//! tag that is not in flight finds nothing.
//!
//! A [`Request`] or [`Mapped`] that is dropped ends with an I/O error, after it was unmapped. One
//! that is leaked never ends: whoever waits for it hangs, and its pages stay where they are.
//!
//! # What lives how long
//!
//! - [`TagSet`]: the tags, the hardware queues ([`HwCtx`]) and all memory that the I/O path needs.
//!   It is reference counted; disks and interrupt handlers hold it.
//! - [`Disk`]: one block device. Several can share a tag set. A disk is gone before the driver's
//!   device unbinds, also when the value is leaked, and it is gone only after every request has
//!   ended: no callback of a driver runs later. Who still has it open gets errors.
//!
//! # Examples
//!
//! The I/O path of a driver:
//!
//! ```ignore
//! impl Operations for Driver {
//!     type Module = DriverModule;
//!     type HwQueue<'bound> = Ring<'bound>;
//!     type DiskData<'bound> = Namespace;
//!     type RequestData = ();
//!
//!     fn queue_rq<'a, 'bound>(
//!         hw: &'a HwCtx<'bound, Self>,
//!         disk: &Namespace,
//!         rq: Request<'a, 'bound, Self>,
//!         last: bool,
//!     ) -> Queued<'a, 'bound, Self> {
//!         let io = rq.map()?;
//!         let command = Command::new(disk, &io, io.dma_vecs());
//!         hw.queue().submit(command, last, || io.park());
//!         Ok(())
//!     }
//! }
//!
//! // In the interrupt handler, for each tag that the device reports:
//! if let Some(io) = hw.take(tag) {
//!     io.complete(status);
//! }
//! ```

mod disk;
mod hw;
mod inflight;
mod limits;
mod mapped;
mod operations;
mod pdu;
mod request;
mod status;
mod tag_set;
mod vtable;

pub use self::{
    disk::Disk,
    hw::HwCtx,
    limits::DiskBuilder,
    mapped::{
        MapError,
        Mapped, //
    },
    operations::{
        Expired,
        Operations,
        Queued,
        Refused,
        TimeoutAction, //
    },
    request::{
        Info,
        Op,
        Range,
        Ranges,
        Request, //
    },
    status::Status,
    tag_set::{
        Affinity,
        Config,
        Quiesced,
        TagSet, //
    },
};

use kernel::prelude::*;

struct PhyrBlk;

impl kernel::Module for PhyrBlk {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(PhyrBlk)
    }
}

module! {
    type: PhyrBlk,
    name: "phyr_blk",
    authors: ["phyr"],
    description: "Block drivers whose requests are owned values",
    license: "GPL",
}
