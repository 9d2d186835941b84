// SPDX-License-Identifier: GPL-2.0

//! Reset: from a controller that does not answer to one that does, or to a dead one.
//!
//! 1. No request is started any more.
//! 2. The controller is disabled, so it accesses no memory.
//! 3. What it completed before is finished. The rest is taken, unmapped and put back into the
//!    block layer's queue.
//! 4. The controller is enabled and told of its queues.
//! 5. Requests are started again.
//!
//! If 2 or 4 fail, the controller is dead: everything in flight fails, and so does all that comes.
//! If 2 fails because the controller does not stop, its bus mastering is turned off first.

use super::{
    ctrl::Ctrl,
    io::{
        self,
        Nvme, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use phyr_blk::{
    Quiesced,
    Status,
    TagSet, //
};

/// Resets the controller, unless somebody else did after `generation`, which
/// [`Ctrl::generation`] returned. Either way nothing is in flight any more that was in flight when
/// it returned that. Sleeps.
pub(crate) fn recover<'bound>(
    ctrl: &Ctrl<'bound>,
    tags: Arc<TagSet<'bound, Nvme>>,
    generation: u32,
) {
    let Some(resetting) = ctrl.begin_reset(Some(generation)) else {
        return;
    };
    let quiesced = TagSet::quiesce(tags);

    let alive =
        !resetting.was_dead() && !ctrl.is_gone() && stop(ctrl, &quiesced) && start(ctrl, &quiesced);
    if !alive {
        fail(ctrl, &quiesced);
    }
    // Requests start when `quiesced` is dropped, and must find the new state.
    resetting.end(alive);
    drop(quiesced);
}

/// Gives up a controller whose hardware has failed, so that no one waits for it. Returns whether
/// it had to. Sleeps.
pub(crate) fn abandon_failed<'bound>(ctrl: &Ctrl<'bound>, tags: Arc<TagSet<'bound, Nvme>>) -> bool {
    // A controller that is just being reset looks like a failed one: wait for the reset.
    let Some(resetting) = ctrl.begin_reset(None) else {
        return false;
    };
    let failed = resetting.was_dead() || ctrl.has_failed();

    if failed {
        let quiesced = TagSet::quiesce(tags);
        fail(ctrl, &quiesced);
        resetting.end(false);
        drop(quiesced);
    } else {
        resetting.cancel();
    }
    failed
}

/// Disables the controller and empties its queues.
fn stop<'bound>(ctrl: &Ctrl<'bound>, quiesced: &Quiesced<'bound, Nvme>) -> bool {
    if ctrl.disable().is_err() {
        return false;
    }
    for hw in quiesced.tag_set().hw_queues() {
        hw.queue().process(hw);
        hw.drain(|io| io::settle(io, true, Status::Timeout));
    }
    true
}

/// Enables the controller with its old queues.
fn start<'bound>(ctrl: &Ctrl<'bound>, quiesced: &Quiesced<'bound, Nvme>) -> bool {
    let queues = quiesced.tag_set().hw_queues();
    let restart = || -> Result {
        ctrl.enable()?;
        // CAST: There were no more than fit to begin with.
        let wanted = queues.len() as u16;
        if ctrl.set_queue_count(wanted)? < wanted {
            return Err(ENOSPC);
        }
        queues.iter().try_for_each(|hw| hw.queue().create())
    };

    match restart() {
        Ok(()) => {
            dev_info!(ctrl.device(), "the controller was reset\n");
            true
        }
        Err(e) => {
            dev_err!(
                ctrl.device(),
                "the controller does not come back: {:?}\n",
                e
            );
            false
        }
    }
}

/// Fails all that is in flight, when the controller can do no more harm to its memory.
fn fail<'bound>(ctrl: &Ctrl<'bound>, quiesced: &Quiesced<'bound, Nvme>) {
    ctrl.stop_dma();
    quiesced.tag_set().cancel(Status::IoErr);
}
