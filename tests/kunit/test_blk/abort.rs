// SPDX-License-Identifier: GPL-2.0

//! Aborts of requests in flight.

use crate::{
    buffers::sleep,
    check::Outcome,
    test_blk::device::{
        complete_one,
        disk,
        end_all,
        in_flight,
        send,
        tag_set,
        wait_for,
        Device,
        Plain,
        Seen,
        DEPTH, //
    }, //
};
use core::sync::atomic::Ordering::{
    Acquire,
    Relaxed,
    Release, //
};
use kernel::prelude::*;
use phyr_blk::{
    GenDisk,
    TagSet, //
};
use phyr_driver::scope::Scope;

/// Checks that an abort runs the time-out handler at once, and for the aborted request only.
pub(crate) fn one_of_three(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    let set = tag_set::<false, false>(scope, &device, 2)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = abort_one(&set, &device, &disk, &seen);
    end_all(&set, &device);
    result
}

fn abort_one(
    set: &TagSet<'_, Plain>,
    device: &Device,
    disk: &GenDisk<'_, Plain>,
    seen: &Seen,
) -> Outcome {
    send(disk, seen, 3)?;
    let nr = || set.hw_queues().iter().map(in_flight).sum::<usize>();
    wait_for("not in flight", || nr() == 3)?;
    for hw in set.hw_queues() {
        for tag in [0, 1, DEPTH - 1, DEPTH, DEPTH + 1, u16::MAX] {
            if hw.is_in_flight(tag) {
                continue;
            }
            check!(!hw.abort(tag), "tag {tag}");
        }
    }
    let (hw, tag) = check_some!(set
        .hw_queues()
        .iter()
        .flat_map(|hw| (0..DEPTH).map(move |tag| (hw, tag)))
        .find(|(hw, tag)| hw.is_in_flight(*tag)));
    check!(hw.abort(tag));
    wait_for("the handler did not run", || {
        seen.tally.timed_out.load(Acquire) == 1
    })?;
    sleep();
    check_eq!((device.timeouts.load(Relaxed), nr()), (1, 2));
    check!(!hw.abort(tag));
    while complete_one(set) {}
    wait_for("not completed", || seen.tally.well.load(Acquire) == 2)
}

/// A time-out comes while a thread has the request out of flight, and then puts it back: there is
/// another time-out.
pub(crate) fn while_somebody_has_it(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    let set = tag_set::<false, false>(scope, &device, 1)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = abort_meanwhile(&set, &device, &disk, &seen);
    device.late.may_look.store(true, Relaxed);
    end_all(&set, &device);
    result
}

fn abort_meanwhile(
    set: &TagSet<'_, Plain>,
    device: &Device,
    disk: &GenDisk<'_, Plain>,
    seen: &Seen,
) -> Outcome {
    let late = &device.late;
    late.is_wanted.store(true, Relaxed);
    send(disk, seen, 1)?;
    let hw = check_some!(set.hw(0));
    wait_for("not in flight", || in_flight(hw) == 1)?;
    let tag = check_some!((0..DEPTH).find(|&tag| hw.is_in_flight(tag)));
    check!(hw.abort(tag));
    wait_for("no time-out", || late.has_begun.load(Acquire))?;
    let io = check_some!(hw.complete_tag(tag));
    late.may_look.store(true, Release);
    wait_for("no end of the time-out", || late.is_over.load(Acquire))?;
    // Also in `blk_mq_rq_timed_out()`, or else a timer that starts again undoes an abort.
    sleep();
    io.put_in_flight();
    wait_for("no other time-out", || {
        hw.abort(tag);
        seen.tally.timed_out.load(Acquire) == 1
    })
}

/// Requests complete while they are being aborted: each ends once.
pub(crate) fn while_they_complete(scope: Scope<'_>) -> Outcome {
    const REQUESTS: u32 = 2000;
    let device = Device::new()?;
    device.at_once.store(true, Relaxed);
    device.aborts.store(true, Relaxed);
    let set = tag_set::<false, false>(scope, &device, 2)?;
    let (disk, seen) = disk(&set, 0)?;
    send(&disk, &seen, REQUESTS)?;
    wait_for("not all have ended", || seen.tally.all() == REQUESTS)?;
    check_eq!(seen.tally.otherwise.load(Relaxed), 0);
    Ok(())
}
