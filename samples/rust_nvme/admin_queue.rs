// SPDX-License-Identifier: GPL-2.0

//! The queue for admin commands of user space: requests with the user's memory, mapped as any, each
//! of which waits for its command.
//!
//! ```text
//! queue_rq()    map() ---> PRPs ---> Ctrl::run_user() ---> end()
//!                                         | no answer
//!                                         '--> reset::recover() ---> end()
//! ```
//!
//! `queue_rq` may sleep: it runs in the task that sends the command, or in a worker. A command that
//! is not answered is unmapped when the controller has been stopped, and not before.
//!
//! C: `admin_q` of `struct nvme_ctrl`

use super::{
    admin,
    ctrl::{
        Ctrl,
        UserError, //
    },
    desc::PAGE_SIZE,
    format::Format,
    layout::Layout,
    payload::Payload,
    request::NvmeBlk,
    reset,
    setup::Setup, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::Delta, //
};
use phyr_blk::{
    Config,
    GenDiskBuilder,
    HwCtx,
    Mapped,
    Operations,
    Queue,
    QueueRqError,
    QueueRqResult,
    Request,
    Status,
    TagOnly,
    TagSet, //
};
use phyr_driver::scope::Scope;

/// Commands that can wait for their turn. The controller is given one at a time.
const DEPTH: u16 = 16;

/// The most bytes of a command: more than any log or firmware image needs at once.
const MAX_TRANSFER: usize = 1 << 20;

/// The driver of the queue.
pub(crate) struct NvmeAdmin;

/// The controller and what a reset of it needs.
pub(crate) struct AdminQueue<'bound> {
    ctrl: Arc<Ctrl<'bound>>,
    tags: Arc<TagSet<'bound, NvmeBlk>>,
    setup: Setup<'bound>,
}

impl<'bound> AdminQueue<'bound> {
    /// Makes the queue, in which requests of `tags` are held back by resets as always.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]: memory is short.
    pub(crate) fn build(
        scope: Scope<'bound>,
        ctrl: &Arc<Ctrl<'bound>>,
        tags: &Arc<TagSet<'bound, NvmeBlk>>,
        layout: &Layout,
    ) -> Result<Queue<'bound, NvmeAdmin>> {
        let max_transfer = layout.max_transfer.min(MAX_TRANSFER);
        // Admin commands have PRPs, whatever else the controller has.
        let format = Format::Prp;
        let max_segments = format.max_segments(max_transfer);
        let queue = Self {
            ctrl: ctrl.clone(),
            tags: tags.clone(),
            setup: Setup::new(ctrl.device(), format),
        };
        let mut queues = KVec::new();
        queues.push(queue, GFP_KERNEL)?;
        let config = Config::new(DEPTH, max_segments)
            .descriptor_words(format.list_words(max_transfer, max_segments));
        let mapper = tags.mapper();
        let set = TagSet::new(scope, mapper.clone(), queues, config, |_, _| Ok(()))?;
        let boundary = mapper.dma_alignment().max(PAGE_SIZE);
        GenDiskBuilder::new()
            // CAST: 1 MiB at most, and at most a page.
            .max_hw_sectors((max_transfer >> 9) as u32)
            .max_segments(max_segments)
            .max_segment_size(u32::MAX)
            .exceed_opt_mapping_size()
            .dma_alignment(mapper.dma_alignment().max(4) as u32 - 1)
            .virt_boundary_mask(boundary - 1)
            .build_queue(&set, ())
    }
}

impl Operations for NvmeAdmin {
    type Module = super::DriverModule;
    type HwQueue<'bound> = AdminQueue<'bound>;
    type DiskData<'bound> = ();
    type RequestData = ();
    type Passthrough = Payload;
    type PerTag<'bound> = ();
    type CompletionId = TagOnly;

    const BLOCKING: bool = true;

    fn queue_rq<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        _disk: &(),
        rq: Request<'a, 'bound, Self>,
        _last: bool,
    ) -> QueueRqResult<'a, 'bound, Self> {
        let AdminQueue { ctrl, tags, setup } = hw.queue();
        if ctrl.state().refuses_user_commands() {
            return Err(QueueRqError::Failed(rq, Status::IoErr));
        }
        let mut io = rq.map()?;
        let command = match setup.passthru(&mut io) {
            Ok(command) => command,
            Err(status) => return Err(QueueRqError::Failed(io.unmap(), status)),
        };
        match ctrl.run_user(command, timeout(&io)) {
            Ok(completion) => {
                if let Some(passthru) = io.passthrough_mut().and_then(Payload::passthru_mut) {
                    passthru.set_answer(completion.status(), completion.result);
                }
                io.unmap().end(completion.status().to_blk());
            }
            Err(UserError::NotLive) => return Err(QueueRqError::Resource(io.unmap())),
            Err(UserError::Unanswered { generation, error }) => {
                // The controller may access its memory until it was stopped.
                reset::recover(ctrl, tags.clone(), generation);
                io.unmap().end(match error {
                    ETIMEDOUT => Status::Timeout,
                    _ => Status::IoErr,
                });
            }
        }
        Ok(())
    }
}

/// Returns the time that the command of `io` may take.
fn timeout(io: &Mapped<'_, '_, NvmeAdmin>) -> Delta {
    let passthru = io.passthrough().and_then(Payload::passthru);
    match passthru.map_or(0, |passthru| passthru.timeout_ms) {
        0 => admin::TIMEOUT,
        timeout => Delta::from_millis(timeout.into()),
    }
}
