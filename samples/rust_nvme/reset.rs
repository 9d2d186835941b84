// SPDX-License-Identifier: GPL-2.0

//! Reset: from a controller that does not answer, or that was reset from outside, to one that
//! works again, or to a dead one.
//!
//! 1. No request is started any more.
//! 2. The controller is disabled, so it accesses no memory. If it does not stop, its bus mastering
//!    is turned off.
//! 3. What it completed before is finished. The rest is taken, unmapped and put back into the
//!    block layer's queue.
//! 4. The controller is enabled and told of its queues. If that fails it is tried again, after
//!    longer and longer pauses.
//! 5. Requests are started again.
//!
//! If the last try of step 4 fails, the controller is dead: all requests fail, until a reset from
//! outside brings it back.
//!
//! ```text
//! Operations::timeout     recover()                    1 to 5
//! reset_prepare           Pause::prepare()             1 to 3
//! reset_done              Pause::done()                4 and 5
//! unbind                  abandon()                    1 to 3, if the hardware has failed
//! shutdown                shut_down()                  1 to 3, and no more I/O
//! ```
//!
//! [`Ctrl`] lets one of them at a time touch the controller. `recover` does not wait for the
//! controller, nor try again, while any other waits for it to end.
//!
//! C: `nvme_dev_disable()`, `nvme_reset_work()`, `nvme_reset_prepare()` in
//! [`drivers/nvme/host/pci.c`](srctree/drivers/nvme/host/pci.c)

use super::{
    ctrl::{
        Ctrl,
        End,
        Resetting, //
    },
    io::{
        self,
        Nvme, //
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
    Mapped,
    Quiesced,
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
    /// A try has failed, and somebody else waits for the controller.
    Awaited,
}

/// Resets the controller, unless somebody else did after `generation`, which
/// [`Ctrl::generation`] returned. Either way nothing is in flight any more that was in flight when
/// it returned that. Sleeps.
pub(crate) fn recover<'bound>(
    ctrl: &Ctrl<'bound>,
    tags: Arc<TagSet<'bound, Nvme>>,
    generation: u32,
) {
    let Some(resetting) = ctrl.begin_recovery(generation) else {
        return;
    };
    let quiesced = TagSet::quiesce(tags);

    // Any of them can be what the controller hangs on: not more often than others are retried.
    stop(ctrl, &quiesced, |io| io::settle(io, true, Status::Timeout));
    restart(ctrl, resetting, quiesced);
}

/// Holds all requests back while somebody else resets the controller.
#[pin_data]
pub(crate) struct Pause<'bound> {
    #[pin]
    quiesced: Mutex<Option<Quiesced<'bound, Nvme>>>,
}

impl<'bound> Pause<'bound> {
    /// Holds nothing back, yet.
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

    /// Stops the controller, so that it can be reset from outside, until [`Pause::done`]. Nothing
    /// is in flight then. Sleeps.
    pub(crate) fn prepare(&self, ctrl: &Ctrl<'bound>, tags: Arc<TagSet<'bound, Nvme>>) {
        let resetting = ctrl.begin_reset();
        if resetting.was_off() {
            return resetting.cancel();
        }
        let quiesced = TagSet::quiesce(tags);

        stop(ctrl, &quiesced, interrupted);
        // Two resets can begin before one is done; then the requests are held back as before.
        let before = self.quiesced.lock().replace(quiesced);
        resetting.end(End::Unfinished);
        drop(before);
    }

    /// Starts a controller that has been reset. Returns whether it works. One that was given up
    /// before gets another chance. Sleeps.
    pub(crate) fn done(&self, ctrl: &Ctrl<'bound>, tags: Arc<TagSet<'bound, Nvme>>) -> bool {
        let held = self.take();
        let resetting = ctrl.begin_reset();
        if resetting.was_off() {
            resetting.cancel();
            return false;
        }
        let quiesced = held.unwrap_or_else(|| TagSet::quiesce(tags));

        // Again, or for the first time where nobody has called `prepare`.
        stop(ctrl, &quiesced, interrupted);
        restart(ctrl, resetting, quiesced)
    }

    fn take(&self) -> Option<Quiesced<'bound, Nvme>> {
        self.quiesced.lock().take()
    }
}

/// Gives up the controller if its hardware has failed, or `pause` waits for it to be reset, so
/// that no one waits for it. Returns whether it did. Sleeps.
pub(crate) fn abandon_failed<'bound>(
    ctrl: &Ctrl<'bound>,
    tags: Arc<TagSet<'bound, Nvme>>,
    pause: &Pause<'bound>,
) -> bool {
    let held = pause.take();
    // A controller that is just being reset looks like a failed one: wait for the reset.
    let resetting = ctrl.begin_reset();
    let failed = !resetting.was_live() || ctrl.has_failed();

    if failed {
        give_up(ctrl, resetting, held, tags);
    } else {
        resetting.cancel();
    }
    failed
}

/// Gives up the controller, whatever state it is in. Sleeps.
pub(crate) fn abandon<'bound>(
    ctrl: &Ctrl<'bound>,
    tags: Arc<TagSet<'bound, Nvme>>,
    pause: &Pause<'bound>,
) {
    let held = pause.take();
    give_up(ctrl, ctrl.begin_reset(), held, tags);
}

fn give_up<'bound>(
    ctrl: &Ctrl<'bound>,
    resetting: Resetting<'_, 'bound>,
    held: Option<Quiesced<'bound, Nvme>>,
    tags: Arc<TagSet<'bound, Nvme>>,
) {
    let quiesced = held.unwrap_or_else(|| TagSet::quiesce(tags));

    fail(ctrl, &quiesced);
    resetting.end(End::Dead);
    drop(quiesced);
}

/// Shuts the controller down, as power may go: what is in flight gets `patience` to complete, and
/// nothing is written any more. Requests that come later fail. Sleeps.
pub(crate) fn shut_down<'bound>(
    ctrl: &Ctrl<'bound>,
    tags: Arc<TagSet<'bound, Nvme>>,
    pause: &Pause<'bound>,
    patience: Delta,
) {
    let held = pause.take();
    let resetting = ctrl.begin_reset();
    let quiesced = held.unwrap_or_else(|| TagSet::quiesce(tags));
    let queues = quiesced.tag_set().hw_queues();

    if resetting.was_live() && !ctrl.has_failed() {
        // What does not complete is failed below.
        let _ = read_poll_timeout(
            || Ok(queues.iter().any(has_work)),
            |busy| !busy,
            Delta::from_millis(1),
            patience,
        );
        // The specification wants the queues deleted first. Disabling the controller does it, too.
        let _ = queues.iter().try_for_each(|hw| hw.queue().delete());
        ctrl.shut_down();
    }
    // It may be another kernel's soon, and must not write to memory any more.
    let _ = ctrl.disable();
    fail(ctrl, &quiesced);
    resetting.end(End::Off);
    drop(quiesced);
}

/// Finishes what is completed. Returns whether anything is left in flight.
fn has_work(hw: &HwCtx<'_, Nvme>) -> bool {
    hw.queue().process(hw);
    (0..hw.depth()).any(|tag| hw.is_in_flight(tag))
}

/// Disables the controller, or at least ends its DMA, and empties its queues: what was in flight
/// goes to `take`.
fn stop<'bound>(
    ctrl: &Ctrl<'bound>,
    quiesced: &Quiesced<'bound, Nvme>,
    mut take: impl FnMut(Mapped<'_, 'bound, Nvme>),
) {
    if ctrl.disable().is_err() {
        ctrl.stop_dma();
    }
    for hw in quiesced.tag_set().hw_queues() {
        hw.queue().process(hw);
        hw.drain(&mut take);
    }
}

/// Puts back a request that came into a reset through no fault of its own: that is not one of the
/// times that it may be retried.
fn interrupted(io: Mapped<'_, '_, Nvme>) {
    if io.is_noretry() {
        io.complete(Status::IoErr);
    } else {
        io.unmap().requeue();
    }
}

/// Starts a stopped controller, or gives it up, and lets requests go on. Returns whether it works.
fn restart<'bound>(
    ctrl: &Ctrl<'bound>,
    resetting: Resetting<'_, 'bound>,
    quiesced: Quiesced<'bound, Nvme>,
) -> bool {
    let started = start(ctrl, &quiesced);

    // Requests start when `quiesced` is dropped, and must find the new state.
    match started {
        Started::Yes => resetting.end(End::Live),
        Started::No => {
            fail(ctrl, &quiesced);
            resetting.end(End::Dead);
        }
        Started::Awaited => resetting.end(End::Unfinished),
    }
    drop(quiesced);
    started == Started::Yes
}

/// Starts a stopped controller, with its old queues. It is tried until it works, [`TRIES`] times.
fn start<'bound>(ctrl: &Ctrl<'bound>, quiesced: &Quiesced<'bound, Nvme>) -> Started {
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
        if ctrl.is_awaited_within(Delta::from_millis(pause)) {
            return Started::Awaited;
        }
        pause *= 4;
    }
    Started::No
}

fn try_start<'bound>(ctrl: &Ctrl<'bound>, queues: &[HwCtx<'bound, Nvme>]) -> Result {
    ctrl.restart()?;
    // CAST: There were no more than fit to begin with.
    let wanted = queues.len() as u16;
    if ctrl.set_queue_count(wanted)? < wanted {
        return Err(ENOSPC);
    }
    queues.iter().try_for_each(|hw| hw.queue().create())
}

/// Fails all that is in flight, when the controller can do no more harm to its memory.
fn fail<'bound>(ctrl: &Ctrl<'bound>, quiesced: &Quiesced<'bound, Nvme>) {
    ctrl.stop_dma();
    quiesced.tag_set().cancel(Status::IoErr);
}
