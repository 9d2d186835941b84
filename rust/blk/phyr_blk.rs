// SPDX-License-Identifier: GPL-2.0

//! Block drivers whose requests are owned values.
//!
//! The layer between blk-mq and a driver of a real device, with everything that
//! [`kernel::block::mq`] does not have. Errors can be completed, requests and hardware queues carry
//! data of the driver, a tag that the device reports finds its request exactly once, and a
//! request's pages stay mapped exactly as long as the device may use them.
//!
//! C header: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)
//!
//! # The states of a request
//!
//! ```text
//!             queue_rq             map()          put_in_flight()
//!  blk-mq -----------------> Request ----> Mapped ------------------> in flight
//!     ^                       |  ^          |  ^                        |
//!     |  end(), requeue(),    |  | unmap()  |  | complete_tag(), drain(),|
//!     |  QueueRqError         |  +----------+  | Expired::take()        |
//!     +-----------------------+                +------------------------+
//! ```
//!
//! Each arrow consumes the value it starts from, so that a request is in one state and has one
//! owner. One atomic operation decides which caller gets a request out of flight: a completion, a
//! second completion of the same tag, a time-out and a reset cannot all have it, and a tag that is
//! not in flight finds nothing. A driver whose device can report the
//! [generation](TagAndGeneration) besides the tag is safe also from a completion that comes again
//! when the tag is in use for another request; one whose device [cannot](TagOnly) has a rule to
//! keep.
//!
//! A [`Request`] or [`Mapped`] that is dropped ends with an I/O error, after it was unmapped. One
//! that is leaked never ends: its submitter hangs, and its pages stay mapped.
//!
//! Requests that a driver makes itself, by [`RequestQueue`], come the same way, and carry a
//! [`Passthrough`] instead of pages.
//!
//! # Files
//!
//! In the order of a request; each may import only files above it, but for the first, in which a
//! request begins.
//!
//! ```text
//! vtable.rs         blk-mq's callbacks: queue_rq, complete, timeout
//!
//! bindings.rs       declarations of C that the kernel's bindings do not have
//! status.rs, op.rs  blk_status_t, enum req_op
//! uring.rs          commands of io_uring
//! types.rs          DriverTypes: the types that a driver brings along
//! tag_table.rs      the table of requests in flight, by tag
//! free_list.rs      free places, without a lock
//! pool.rs           memory in places of one size, which grows ahead
//! held.rs           places that a request has taken
//! memory.rs         the memory of a queue: slots and descriptors, short and long
//! hw.rs             HwCtx: a hardware queue
//! pdu.rs            the private part of a request
//! source.rs         the memory of a request: bio_vec -> phyr
//! request.rs        Request
//! mapped.rs         map() -> Mapped, unmap()
//! describe.rs       describe(): memory that the device reads
//! in_flight.rs      put_in_flight(), complete_tag(), drain(), Expired
//! attribute.rs      files of a disk in sysfs
//! operations.rs     Operations: the functions of a driver
//! batch.rs          requests that are unmapped with one flush
//! completion.rs     complete(), alone or in a batch
//!
//! user_memory.rs    memory of a program as the data of one request
//! passthrough.rs    requests of the driver's own
//! tag_set.rs        TagSet: hardware queues, quiesce, cancel
//! geometry.rs, fit.rs, limits.rs
//!                   the properties of a disk, and their limits
//! disk.rs           GenDisk
//! queue.rs          Queue: without a disk
//! builder.rs        GenDiskBuilder, of either
//! number.rs         the numbers in the names of disks
//!
//! char_dev.rs       a character device that takes commands of io_uring
//! handles.rs        HandleTable: values that user space refers to by number
//! ```
//!
//! # Lifetimes
//!
//! - [`TagSet`]: the tags, the hardware queues ([`HwCtx`]) and all memory of the I/O path. It is
//!   reference counted; disks and interrupt handlers hold it.
//! - [`GenDisk`]: one block device. Several can share a tag set. A disk is gone before the
//!   [`Scope`](phyr_driver::scope::Scope) of its tag set ends, also if the value is leaked, and it
//!   is gone only after every request has ended: no callback of a driver runs later. If it is still
//!   open, I/O fails.
//! - [`CharDevice`]: a character device. It is gone as a disk is; its open files are not. They have
//!   no lifetime of the binding, and get at the device by types that check:
//!   [`RequestQueue`], [`Binding`](phyr_driver::binding::Binding).
//!
//! That holds for all of them, whatever is leaked: `'bound` is the lifetime of the scope, which
//! nobody can choose, and which ends before the first of the device's managed resources is
//! released.
//!
//! The types cannot know whether the device is done. A driver takes a request out of flight because
//! the device reported it, or because the device was stopped; see [`HwCtx::complete_tag`].
//!
//! # Examples
//!
//! The I/O path of a driver whose device reports commands by an identifier of 16 bits. It carries
//! the tag, of at most 12 bits if [`Config`] asks for no more, and the generation:
//!
//! ```
//! use core::{convert::Infallible, marker::PhantomData};
//! use kernel::{module::ModuleMetadata, prelude::*};
//! use phyr::DmaVecs;
//! use phyr_blk::{TagAndGeneration, HwCtx, Operations, QueueRqResult, Request, Status};
//!
//! const TAG_BITS: u32 = 12;
//!
//! /// A ring that the device reads; how it is written is not shown.
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
//!     type CompletionId = TagAndGeneration;
//!     type PerTag<'bound> = ();
//!
//!     fn queue_rq<'a, 'bound>(
//!         hw: &'a HwCtx<'bound, Self>,
//!         _disk: &(),
//!         rq: Request<'a, 'bound, Self>,
//!         last: bool,
//!     ) -> QueueRqResult<'a, 'bound, Self> {
//!         let io = rq.map()?;
//!         let id = u16::from(io.generation()) << TAG_BITS | io.tag();
//!         hw.queue().put(id, io.sector(), io.dma_vecs());
//!         io.put_in_flight();
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
//!     match hw.complete_generation(tag, generation) {
//!         Some(io) => io.complete(Status::Ok),
//!         None => pr_warn!("no command {id:#x} is in flight\n"),
//!     }
//! }
//! ```

mod attribute;
mod batch;
mod bindings;
mod builder;
mod char_dev;
mod completion;
mod describe;
mod disk;
mod fit;
mod free_list;
mod geometry;
mod handles;
mod held;
mod hw;
mod in_flight;
mod limits;
mod mapped;
mod memory;
mod number;
mod op;
mod operations;
mod passthrough;
mod pdu;
mod pool;
mod queue;
mod request;
mod source;
mod status;
mod tag_set;
mod tag_table;
mod types;
pub mod uring;
mod user_memory;
mod vtable;

pub use self::{
    attribute::{
        Attribute,
        IsVisible,
        Show,
        Text, //
    },
    builder::GenDiskBuilder,
    char_dev::{
        is_sys_admin,
        CharDevice,
        CharFile,
        FileMode, //
    },
    completion::CompletionBatch,
    describe::Descriptors,
    disk::GenDisk,
    handles::{
        HandleGuard,
        HandleTable,
        LookupError, //
    },
    hw::{
        Affinity,
        HwCtx, //
    },
    in_flight::Expired,
    mapped::{
        MapError,
        Mapped, //
    },
    number::{
        DiskNumber,
        DiskNumbers, //
    },
    op::{
        DiscardRange,
        DiscardRanges,
        Op, //
    },
    operations::{
        Operations,
        QueueRqError,
        QueueRqResult,
        TimeoutAction, //
    },
    passthrough::{
        PassthroughRequest,
        RequestQueue, //
    },
    queue::Queue,
    request::{
        Request,
        RequestInfo, //
    },
    status::Status,
    tag_set::{
        Config,
        Quiesced,
        TagSet, //
    },
    types::{
        CompletionId,
        DriverTypes,
        Passthrough,
        TagAndGeneration,
        TagOnly, //
    },
    user_memory::UserMemory,
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
