// SPDX-License-Identifier: GPL-2.0

//! A `queue_rq` that sleeps.

use crate::{
    check::Outcome,
    test_blk::{
        device::{
            disk,
            send,
            tag_set,
            wait_for,
            Device,
            Sleeper, //
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
    prelude::*,
    sync::Arc,
    workqueue::system_long, //
};
use phyr_blk::{
    GenDisk,
    TagSet, //
};
use phyr_driver::scope::Scope;

/// Checks that `queue_rq` may sleep, and that the removal of a disk waits for it.
pub(crate) fn in_queue_rq(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    device.at_once.store(true, Relaxed);
    device.sleeps.store(1, Relaxed);
    let set = tag_set::<true, false>(scope, &device, 2)?;
    let (disk, seen) = disk(&set, 64)?;
    check_cmp!(device.queued.load(Relaxed), !=, 0);
    send(&disk, &seen, 20)?;
    wait_for("not completed", || seen.tally.well.load(Acquire) == 20)?;
    // The request ends before the call sleeps.
    device.sleeps.store(100, Relaxed);
    send(&disk, &seen, 1)?;
    wait_for("not completed", || seen.tally.well.load(Acquire) == 21)?;
    drop(TagSet::quiesce(set.clone()));
    check_eq!(device.inside.load(Acquire), 0);
    in_a_reader(&device, disk)
}

/// Has a task that reads call `queue_rq` itself. After the request has ended only the removal of
/// the disk, which waits for calls, can know of the task.
fn in_a_reader(device: &Arc<Device>, disk: GenDisk<'_, Sleeper>) -> Outcome {
    let file = File::open(c"/dev/phyrtest0")?;
    let has_read = Arc::new(AtomicBool::new(false), GFP_KERNEL)?;
    let theirs = has_read.clone();
    // Longer than a removal takes by itself.
    device.sleeps.store(1500, Relaxed);
    let before = device.queued.load(Acquire);
    system_long().try_spawn(GFP_KERNEL, move || {
        // At the end, where nobody has looked for partitions.
        let _ = file.read_at(&mut [0; 512], 24 << 10);
        drop(file);
        theirs.store(true, Release);
    })?;
    wait_for("not called", || device.queued.load(Acquire) != before)?;
    drop(disk);
    let inside = device.inside.load(Acquire);
    wait_for("not read", || has_read.load(Acquire))?;
    check_eq!(inside, 0);
    Ok(())
}
