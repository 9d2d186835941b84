// SPDX-License-Identifier: GPL-2.0

//! Requests that wait for room on the device.

use crate::{
    buffers::sleep,
    check::Outcome,
    test_blk::{
        device::{
            complete_one,
            disk,
            end_all,
            send,
            tag_set,
            wait_for,
            Device,
            Waiter, //
        },
        file::File, //
    }, //
};
use core::sync::atomic::{
    AtomicBool,
    Ordering::{
        Acquire,
        Relaxed,
        Release, //
    }, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue::system_long, //
};
use phyr_blk::{
    Status,
    TagSet, //
};
use phyr_driver::scope::Scope;

/// Checks that a request that waits for room starts when another completes.
pub(crate) fn comes_with_a_completion(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    device.room.store(1, Relaxed);
    let set = tag_set::<false, true>(scope, &device, 1)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = (|| {
        send(&disk, &seen, 6)?;
        for done in 1..=6 {
            wait_for("nothing came", || complete_one(&set))?;
            wait_for("not completed", || seen.tally.well.load(Acquire) == done)?;
        }
        check_cmp!(device.refused.load(Relaxed), >=, 5);
        Ok(())
    })();
    end_all(&set, &device);
    result
}

/// Checks that a refused request is not tried again while something is in flight.
pub(crate) fn is_waited_for(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    device.room.store(1, Relaxed);
    let set = tag_set::<false, true>(scope, &device, 1)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = (|| {
        send(&disk, &seen, 2)?;
        wait_for("nothing was refused", || device.refused.load(Relaxed) != 0)?;
        sleep();
        let before = device.refused.load(Relaxed);
        for _ in 0..10 {
            sleep();
        }
        // With `Busy` it is tried every 3 ms.
        check_cmp!(device.refused.load(Relaxed), <=, before + 1);
        wait_for("nothing in flight", || complete_one(&set))?;
        wait_for("not tried again", || complete_one(&set))
    })();
    end_all(&set, &device);
    result
}

/// Checks that a request that is refused with nothing in flight is not lost.
pub(crate) fn that_nothing_makes(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    device.at_once.store(true, Relaxed);
    device.refuses.store(20, Relaxed);
    let set = tag_set::<false, true>(scope, &device, 1)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = (|| {
        send(&disk, &seen, 1)?;
        wait_for("the request was lost", || {
            seen.tally.well.load(Acquire) == 1
        })
    })();
    end_all(&set, &device);
    result
}

/// Checks the same of a request that is refused while only another disk has some in flight.
pub(crate) fn of_another_disk(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    let set = tag_set::<false, true>(scope, &device, 1)?;
    let (one, seen_one) = disk(&set, 0)?;
    let (other, seen_other) = disk(&set, 0)?;
    let result = (|| {
        send(&one, &seen_one, 1)?;
        wait_for("not in flight", || device.queued.load(Relaxed) == 1)?;
        device.refuses.store(5, Relaxed);
        device.at_once.store(true, Relaxed);
        send(&other, &seen_other, 1)?;
        wait_for("the request was lost", || {
            seen_other.tally.well.load(Acquire) == 1
        })?;
        check_eq!(seen_one.tally.all(), 0);
        Ok(())
    })();
    end_all(&set, &device);
    result
}

/// Completes in batches what is in flight on `set`, until `wanted.over`. Restarts the queues, and
/// notes that, if nothing has come for long.
fn complete_in_batches(set: &Arc<TagSet<'static, Waiter>>, wanted: &Arc<Stuck>) {
    let mut idle = 0;
    while !wanted.over.load(Acquire) {
        let mut nr = 0;
        for hw in set.hw_queues() {
            hw.batch(|batch| {
                for tag in 0..hw.depth() {
                    if let Some(io) = hw.complete_tag(tag) {
                        io.complete_in(batch, Status::Ok);
                        nr += 1;
                    }
                }
            });
        }
        idle = if nr == 0 { idle + 1 } else { 0 };
        fsleep(Delta::from_millis(2));
        if idle == 1000 && !wanted.over.load(Acquire) {
            wanted.is_stuck.store(true, Relaxed);
            drop(TagSet::quiesce(set.clone()));
            idle = 0;
        }
    }
    wanted.has_stopped.store(true, Release);
}

#[derive(Default)]
struct Stuck {
    over: AtomicBool,
    is_stuck: AtomicBool,
    has_stopped: AtomicBool,
}

/// Checks that a driver that completes in batches does not forget what waits for room.
pub(crate) fn and_batches(scope: Scope<'static>) -> Outcome {
    let device = Device::new()?;
    device.room.store(1, Relaxed);
    // Of several queues, so that there is no I/O scheduler.
    let set = tag_set::<false, true>(scope, &device, 2)?;
    let stuck = Arc::new(Stuck::default(), GFP_KERNEL)?;
    let (theirs, wanted) = (set.clone(), stuck.clone());
    system_long().try_spawn(GFP_KERNEL, move || complete_in_batches(&theirs, &wanted))?;
    let result = (|| {
        let (disk, _) = disk(&set, 512)?;
        // Requests end on the processor that reports them, as those in a batch do.
        File::open_for(
            c"/sys/block/phyrtest0/queue/rq_affinity",
            bindings::O_WRONLY,
        )
        .and_then(|file| file.write(b"0"))?;
        let file = File::open(c"/dev/phyrtest0")?;
        let mut bytes = KVec::from_elem(0, 256 << 10, GFP_KERNEL)?;
        file.read(&mut bytes)?;
        drop(file);
        drop(disk);
        check_cmp!(device.refused.load(Relaxed), !=, 0);
        Ok(())
    })();
    stuck.over.store(true, Release);
    wait_for("the worker did not stop", || {
        stuck.has_stopped.load(Acquire)
    })?;
    check!(
        !stuck.is_stuck.load(Relaxed),
        "requests waited for room that was there"
    );
    result
}
