// SPDX-License-Identifier: GPL-2.0

//! Requests that end together.

use crate::{
    check::Outcome,
    test_blk::device::{
        disk,
        end_all,
        in_flight,
        send,
        tag_set,
        wait_for,
        Device,
        Plain, //
    }, //
};
use core::sync::atomic::Ordering::{
    Acquire,
    Relaxed, //
};
use kernel::prelude::*;
use phyr_blk::{
    HwCtx,
    Status,
    TagSet, //
};
use phyr_driver::scope::Scope;

/// The statuses of a batch, some of which are faults.
const STATUSES: [Status; 6] = [
    Status::Ok,
    Status::Medium,
    Status::Ok,
    Status::Timeout,
    Status::IoErr,
    Status::Ok,
];

/// Returns the queue in which the requests are.
fn queue<'a, 'bound>(set: &'a TagSet<'bound, Plain>) -> Option<&'a HwCtx<'bound, Plain>> {
    set.hw_queues().iter().find(|hw| in_flight(hw) != 0)
}

/// Each request of a batch ends with the status that it was given, and is not there twice; while
/// they are collected none ends that could be flushed with others.
pub(crate) fn of_many_statuses(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    let set = tag_set::<false, false>(scope, &device, 1)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = (|| {
        for round in 1..=10 {
            send(&disk, &seen, STATUSES.len() as u32)?;
            wait_for("not in flight", || {
                device.queued.load(Relaxed) == round * STATUSES.len() as u32
            })?;
            let hw = check_some!(queue(&set));
            hw.batch(|batch| {
                let mut statuses = STATUSES.into_iter();
                for tag in 0..hw.depth() {
                    let Some(io) = hw.complete_tag(tag) else {
                        continue;
                    };
                    io.complete_in(batch, statuses.next().unwrap_or(Status::Ok));
                }
            });
            check_eq!(in_flight(hw), 0);
            let tally = &seen.tally;
            wait_for("not completed", || {
                tally.all() == round * STATUSES.len() as u32
            })?;
            check_eq!(tally.well.load(Acquire), 3 * round);
            check_eq!(tally.timed_out.load(Acquire), round);
            check_eq!(tally.otherwise.load(Acquire), 2 * round);
        }
        Ok(())
    })();
    end_all(&set, &device);
    result
}

/// All that is in flight comes back unmapped, once.
pub(crate) fn drained(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    let set = tag_set::<false, false>(scope, &device, 1)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = (|| {
        send(&disk, &seen, 5)?;
        wait_for("not in flight", || device.queued.load(Relaxed) == 5)?;
        let (hw, mut nr) = (check_some!(queue(&set)), 0);
        hw.drain_unmapped(|request| {
            nr += 1;
            // One of them starts again.
            if nr == 3 {
                request.requeue();
            } else {
                request.complete(Status::Timeout);
            }
        });
        check_eq!(nr, 5);
        wait_for("not started again", || device.queued.load(Relaxed) == 6)?;
        check_eq!(in_flight(hw), 1);
        set.cancel(Status::IoErr);
        wait_for("not ended", || seen.tally.all() == 5)?;
        check_eq!(seen.tally.timed_out.load(Acquire), 4);
        check_eq!(seen.tally.otherwise.load(Acquire), 1);
        Ok(())
    })();
    end_all(&set, &device);
    result
}
