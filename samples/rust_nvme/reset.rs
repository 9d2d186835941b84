// SPDX-License-Identifier: GPL-2.0

//! Resets of the controller: because it does not answer, and from outside.
//!
//! 1. No request is started any more.
//! 2. The controller is disabled, so it accesses no memory. If it does not stop, its bus mastering
//!    is turned off.
//! 3. Requests that it has completed are finished. The others are taken out of flight, unmapped and
//!    requeued.
//! 4. The controller is enabled, and its queues are created. If that fails it is tried again, after
//!    longer and longer pauses.
//! 5. Requests are started again.
//!
//! If the last try of step 4 fails, the controller is dead: all requests fail, until a reset from
//! outside brings it back.
//!
//! ```text
//! Operations::timeout     recover()                    1 to 5
//! reset_prepare           ExternalReset::prepare()     1 to 3
//! reset_done              ExternalReset::done()        4 and 5
//! unbind                  abandon_failed()             1 to 3, if the hardware has failed
//! link failed for good    abandon()                    1 to 3
//! shutdown                shut_down()                  1 to 3, and no more I/O
//! ```
//!
//! One of them at a time touches the controller ([`Reset`]). `recover()` does not wait for the
//! controller, nor try again, while any other waits for it to end.
//!
//! C: `nvme_dev_disable()`, `nvme_reset_work()`, `nvme_reset_prepare()` in
//! [`drivers/nvme/host/pci.c`](srctree/drivers/nvme/host/pci.c)

use super::{
    ctrl::Ctrl,
    request::{
        retry_interrupted,
        retry_or_complete,
        NvmeBlk, //
    },
    state::{
        Outcome,
        Reset, //
    },
};
use kernel::{
    io::poll::read_poll_timeout,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    time::Delta, //
};
use phyr_blk::{
    HwCtx,
    Quiesced,
    Request,
    Status,
    TagSet, //
};

/// Tries of step 4.
const TRIES: u32 = 5;

/// The pause after the first try, in milliseconds. Each is four times as long as the one before:
/// 8.5 seconds in all.
const FIRST_PAUSE_MS: i64 = 100;

/// The result of step 4.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Started {
    Yes,
    /// Every try has failed.
    No,
    /// A try has failed, and another reset waits for this one to end.
    Awaited,
}

/// Resets the controller, unless it was reset after [`State::generation`] returned `generation`.
/// Either way, no request is in flight any more that was in flight then. Sleeps.
///
/// [`State::generation`]: super::state::State::generation
pub(crate) fn recover<'bound>(
    ctrl: &Ctrl<'bound>,
    tags: Arc<TagSet<'bound, NvmeBlk>>,
    generation: u32,
) {
    let Some(reset) = ctrl.state().begin_recovery(generation) else {
        return;
    };
    let quiesced = TagSet::quiesce(tags);

    // The controller may hang because of any of them, so it counts as one of their retries.
    stop(ctrl, &quiesced, |request| {
        retry_or_complete(request, true, Status::Timeout)
    });
    restart(ctrl, reset, quiesced);
}

/// A reset from outside, by the PCI core. Requests are held back meanwhile.
#[pin_data]
pub(crate) struct ExternalReset<'bound> {
    /// Holds requests back between [`ExternalReset::prepare`] and [`ExternalReset::done`].
    #[pin]
    quiesced: Mutex<Option<Quiesced<'bound, NvmeBlk>>>,
}

impl<'bound> ExternalReset<'bound> {
    /// Allocates it. No reset is going on.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]: memory is short.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                quiesced <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )
    }

    /// Stops the controller, so that it can be reset, until [`ExternalReset::done`]. No request is
    /// in flight then. Sleeps.
    pub(crate) fn prepare(&self, ctrl: &Ctrl<'bound>, tags: Arc<TagSet<'bound, NvmeBlk>>) {
        let reset = ctrl.state().begin_reset();
        if reset.was_off() {
            return reset.cancel();
        }
        let quiesced = TagSet::quiesce(tags);

        stop(ctrl, &quiesced, retry_interrupted);
        // Two resets can begin before one is done; then the requests are held back as before.
        let before = self.quiesced.lock().replace(quiesced);
        reset.end(Outcome::Unfinished);
        drop(before);
    }

    /// Starts a controller that was reset. Returns whether it works. A dead one may come back to
    /// life by this. Sleeps.
    pub(crate) fn done(&self, ctrl: &Ctrl<'bound>, tags: Arc<TagSet<'bound, NvmeBlk>>) -> bool {
        let held = self.take();
        let reset = ctrl.state().begin_reset();
        if reset.was_off() {
            reset.cancel();
            return false;
        }
        let quiesced = held.unwrap_or_else(|| TagSet::quiesce(tags));

        // Again; or for the first time, if `prepare` was not called.
        stop(ctrl, &quiesced, retry_interrupted);
        restart(ctrl, reset, quiesced)
    }

    fn take(&self) -> Option<Quiesced<'bound, NvmeBlk>> {
        self.quiesced.lock().take()
    }
}

/// Gives up the controller if its hardware has failed, or if it is being reset, so that nobody
/// waits for it. Returns whether it did. Sleeps.
pub(crate) fn abandon_failed<'bound>(
    ctrl: &Ctrl<'bound>,
    tags: Arc<TagSet<'bound, NvmeBlk>>,
    external: &ExternalReset<'bound>,
) -> bool {
    let held = external.take();
    // A recovery that is going on does not wait for the controller any more, and may leave it
    // stopped.
    let reset = ctrl.state().begin_reset();
    let failed = !reset.was_live() || ctrl.has_failed();

    if failed {
        give_up(ctrl, reset, held, tags);
    } else {
        reset.cancel();
    }
    failed
}

/// Gives up the controller, whatever state it is in. Sleeps.
pub(crate) fn abandon<'bound>(
    ctrl: &Ctrl<'bound>,
    tags: Arc<TagSet<'bound, NvmeBlk>>,
    external: &ExternalReset<'bound>,
) {
    let held = external.take();
    give_up(ctrl, ctrl.state().begin_reset(), held, tags);
}

/// Gives up the controller.
fn give_up<'bound>(
    ctrl: &Ctrl<'bound>,
    reset: Reset<'_, 'bound>,
    held: Option<Quiesced<'bound, NvmeBlk>>,
    tags: Arc<TagSet<'bound, NvmeBlk>>,
) {
    let quiesced = held.unwrap_or_else(|| TagSet::quiesce(tags));

    fail(ctrl, &quiesced);
    reset.end(Outcome::Dead);
    drop(quiesced);
}

/// Shuts the controller down before power may go: requests in flight have `timeout` to complete.
/// Later ones fail. Sleeps.
pub(crate) fn shut_down<'bound>(
    ctrl: &Ctrl<'bound>,
    tags: Arc<TagSet<'bound, NvmeBlk>>,
    external: &ExternalReset<'bound>,
    timeout: Delta,
) {
    let held = external.take();
    let reset = ctrl.state().begin_reset();
    let quiesced = held.unwrap_or_else(|| TagSet::quiesce(tags));
    let queues = quiesced.tag_set().hw_queues();

    if reset.was_live() && !ctrl.has_failed() {
        // Requests that do not complete fail below.
        let _ = read_poll_timeout(
            || Ok(queues.iter().any(has_work)),
            |busy| !busy,
            Delta::from_millis(1),
            timeout,
        );
        // As the specification demands. Should it fail: disabling the controller deletes queues,
        // too.
        let _ = queues.iter().try_for_each(|hw| hw.queue().delete());
        ctrl.shut_down();
    }
    // Memory may soon belong to another kernel: the controller must not write to it any more.
    let _ = ctrl.disable();
    fail(ctrl, &quiesced);
    reset.end(Outcome::Off);
    drop(quiesced);
}

/// Finishes completed requests of a queue. Returns whether others are in flight.
fn has_work(hw: &HwCtx<'_, NvmeBlk>) -> bool {
    hw.queue().process(hw);
    (0..hw.depth()).any(|tag| hw.is_in_flight(tag))
}

/// Disables the controller, or at least ends its DMA, and empties its queues: requests that were in
/// flight go to `take`.
fn stop<'bound>(
    ctrl: &Ctrl<'bound>,
    quiesced: &Quiesced<'bound, NvmeBlk>,
    mut take: impl FnMut(Request<'_, 'bound, NvmeBlk>),
) {
    if ctrl.disable().is_err() {
        ctrl.stop_dma();
    }
    for hw in quiesced.tag_set().hw_queues() {
        hw.queue().process(hw);
        hw.drain_unmapped(&mut take);
    }
}

/// Starts a stopped controller, or gives it up, and lets requests go on. Returns whether it works.
fn restart<'bound>(
    ctrl: &Ctrl<'bound>,
    reset: Reset<'_, 'bound>,
    quiesced: Quiesced<'bound, NvmeBlk>,
) -> bool {
    let started = start(ctrl, &quiesced);

    // Requests start when `quiesced` is dropped, and must find the new state.
    match started {
        Started::Yes => reset.end(Outcome::Live),
        Started::No => {
            fail(ctrl, &quiesced);
            reset.end(Outcome::Dead);
        }
        Started::Awaited => reset.end(Outcome::Unfinished),
    }
    drop(quiesced);
    started == Started::Yes
}

/// Starts a stopped controller with its old queues, in at most [`TRIES`] tries.
fn start<'bound>(ctrl: &Ctrl<'bound>, quiesced: &Quiesced<'bound, NvmeBlk>) -> Started {
    let queues = quiesced.tag_set().hw_queues();
    let mut pause = FIRST_PAUSE_MS;

    for nth in 1..=TRIES {
        let Err(e) = try_start(ctrl, queues) else {
            dev_info!(ctrl.device(), "the controller was reset\n");
            return Started::Yes;
        };
        dev_warn!(
            ctrl.device(),
            "the controller does not come back: {:?}, try {} of {}\n",
            e,
            nth,
            TRIES
        );
        if nth == TRIES {
            pause = 0;
        }
        if ctrl.state().is_awaited_within(Delta::from_millis(pause)) {
            return Started::Awaited;
        }
        pause *= 4;
    }
    Started::No
}

/// Tries once to start a stopped controller with its old queues.
fn try_start<'bound>(ctrl: &Ctrl<'bound>, queues: &[HwCtx<'bound, NvmeBlk>]) -> Result {
    ctrl.restart()?;
    // CAST: There were no more than fit to begin with.
    let wanted = queues.len() as u16;
    if ctrl.set_queue_count(wanted)? < wanted {
        return Err(ENOSPC);
    }
    queues.iter().try_for_each(|hw| hw.queue().create())
}

/// Ends the controller's DMA, and then fails all requests that are in flight.
fn fail<'bound>(ctrl: &Ctrl<'bound>, quiesced: &Quiesced<'bound, NvmeBlk>) {
    ctrl.stop_dma();
    quiesced.tag_set().cancel(Status::IoErr);
}
