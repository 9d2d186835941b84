// SPDX-License-Identifier: GPL-2.0

//! Block drivers whose requests are owned values.
//!
//! The layer between blk-mq and a driver of a real device: what [`kernel::block::mq`] does not
//! have. Errors can be completed, requests and hardware queues carry data of the driver, a tag that
//! the device reports finds its request exactly once, and a request's pages stay mapped exactly as
//! long as the device may use them.
//!
//! C header: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)
//!
//! # The states of a request
//!
//! ```text
//!             queue_rq             map()            park()
//!  blk-mq -----------------> Request ----> Mapped ------------> in flight
//!     ^                       |  ^          |  ^                    |
//!     |  end(), requeue(),    |  | unmap()  |  | take(tag), drain(),|
//!     |  Refused              |  +----------+  | Expired::take()    |
//!     +-----------------------+                +--------------------+
//! ```
//!
//! Each arrow consumes the value it starts from, so that a request is in one state and has one
//! owner. Who gets a request out of the in-flight table is decided by one atomic operation: a
//! completion, a second completion of the same tag, a timeout and a reset cannot all have it, and a
//! tag that is not in flight finds nothing. A driver whose device can tell the
//! [generation](Generation) besides the tag is safe also from a completion that comes again when
//! the tag is in use for another request; one whose device [cannot](TagOnly) has a rule to keep.
//!
//! A [`Request`] or [`Mapped`] that is dropped ends with an I/O error, after it was unmapped. One
//! that is leaked never ends: whoever waits for it hangs, and its pages stay where they are.
//!
//! Requests that a driver makes itself, by [`Queue`], come the same way, and carry a
//! [`Passthrough`] instead of pages.
//!
//! # What lives how long
//!
//! - [`TagSet`]: the tags, the hardware queues ([`HwCtx`]) and all memory that the I/O path needs.
//!   It is reference counted; disks and interrupt handlers hold it.
//! - [`Disk`]: one block device. Several can share a tag set. A disk is gone before the
//!   [`Scope`](phyr_driver::scope::Scope) of its tag set ends, also when the value is leaked, and it is
//!   gone only after every request has ended: no callback of a driver runs later. Who still has it
//!   open gets errors.
//!
//! - [`CharDevice`]: a character device. It is gone as a disk is; its open files are not. They have
//!   no lifetime of the binding, and get at the device by what checks whether it is there:
//!   [`Queue`], [`Binding`](phyr_driver::binding::Binding).
//!
//! That holds for all of it, whatever is leaked: `'bound` is the lifetime of the scope, which
//! nobody can choose, and which ends before the first of the device's managed resources is
//! released.
//!
//! What the types cannot know is whether the device is done. A driver takes a request out of flight
//! because the device reported it, or because the device was stopped; see [`HwCtx::take`].
//!
//! # Examples
//!
//! The I/O path of a driver whose device reports commands by an identifier of 16 bits. That carries
//! the tag, of at most 12 bits if [`Config`] asks for no more, and the generation:
//!
//! ```
//! use core::{convert::Infallible, marker::PhantomData};
//! use kernel::{module::ModuleMetadata, prelude::*};
//! use phyr::DmaVecs;
//! use phyr_blk::{Generation, HwCtx, Operations, Queued, Request, Status};
//!
//! const TAG_BITS: u32 = 12;
//!
//! /// A ring that the device reads; what it does with it is not shown.
//! struct Ring;
//!
//! impl Ring {
//!     fn put(&self, _id: u16, _sector: u64, _data: DmaVecs<'_>) {}
//!     fn ring_doorbell(&self) {}
//! }
//!
//! struct Driver<M>(PhantomData<M>);
//!
//! impl<M: ModuleMetadata + 'static> Operations for Driver<M> {
//!     type Module = M;
//!     type HwQueue<'bound> = Ring;
//!     type DiskData<'bound> = ();
//!     type RequestData = ();
//!     type Passthrough = Infallible;
//!     type Completion = Generation;
//!     type PerTag<'bound> = ();
//!
//!     fn queue_rq<'a, 'bound>(
//!         hw: &'a HwCtx<'bound, Self>,
//!         _disk: &(),
//!         rq: Request<'a, 'bound, Self>,
//!         last: bool,
//!     ) -> Queued<'a, 'bound, Self> {
//!         let io = rq.map()?;
//!         let id = u16::from(io.generation()) << TAG_BITS | io.tag();
//!         hw.queue().put(id, io.sector(), io.dma_vecs());
//!         io.park();
//!         if last {
//!             hw.queue().ring_doorbell();
//!         }
//!         Ok(())
//!     }
//!
//!     fn commit_rqs<'a, 'bound>(hw: &'a HwCtx<'bound, Self>) {
//!         hw.queue().ring_doorbell();
//!     }
//! }
//!
//! /// The device says in an interrupt that it has completed `id`, which may be nonsense.
//! fn completed<M: ModuleMetadata + 'static>(hw: &HwCtx<'_, Driver<M>>, id: u16) {
//!     let tag = id % (1 << TAG_BITS);
//!     // CAST: four bits are left.
//!     let generation = (id >> TAG_BITS) as u8;
//!     match hw.take_generation(tag, generation) {
//!         Some(io) => io.complete(Status::Ok),
//!         None => pr_warn!("no command {id:#x} is in flight\n"),
//!     }
//! }
//! ```

mod attribute;
mod batch;
mod callback;
mod char_dev;
mod completion;
mod disk;
mod fit;
mod geometry;
mod handles;
mod hw;
mod inflight;
mod limits;
mod mapped;
mod number;
mod op;
mod operations;
mod passthrough;
mod pdu;
mod request;
mod source;
mod status;
mod tag_set;
mod vtable;

pub mod uring;

mod bindings;

pub use self::{
    attribute::{
        Attribute,
        IsVisible,
        Show,
        Text, //
    },
    batch::Batch,
    char_dev::{
        CharDevice,
        CharFile,
        Mode, //
    },
    completion::{
        Completion,
        Generation,
        TagOnly, //
    },
    disk::Disk,
    geometry::Geometry,
    handles::{
        Handles,
        Missing,
        Pass, //
    },
    hw::HwCtx,
    limits::DiskBuilder,
    mapped::{
        MapError,
        Mapped, //
    },
    number::{
        DiskNumber,
        DiskNumbers, //
    },
    op::{
        Op,
        Range,
        Ranges, //
    },
    operations::{
        Expired,
        Operations,
        Queued,
        Refused,
        TimeoutAction, //
    },
    passthrough::{
        Passthrough,
        Queue,
        Unsent, //
    },
    request::{
        Info,
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
