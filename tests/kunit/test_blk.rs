// SPDX-License-Identifier: GPL-2.0

//! Block drivers on a made-up device. Requests are the driver's own, or reads by the block layer,
//! which looks for partitions.

use crate::{
    check::Outcome,
    fixture::{
        binding,
        skip,
        with_dma_api, //
    },
    test_blk::{
        device::{
            complete_one,
            disk,
            end_all,
            send,
            tag_set,
            wait_for,
            Device, //
        },
        file::File, //
    }, //
};
use core::sync::atomic::Ordering::{
    Acquire,
    Relaxed, //
};
use kernel::prelude::*;
use phyr_driver::scope::Scope;

mod abort;
mod batch;
mod device;
mod file;
mod files;
mod room;
mod sleep;

/// Checks that every tag of every queue has a slot of its own.
fn per_tag(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    let set = tag_set::<false, false>(scope, &device, 2)?;
    let (disk, seen) = disk(&set, 0)?;
    let result = (|| {
        for round in 1..=20 {
            send(&disk, &seen, 5)?;
            wait_for("not in flight", || device.queued.load(Relaxed) == 5 * round)?;
            while complete_one(&set) {}
            wait_for("not completed", || {
                seen.tally.well.load(Acquire) == 5 * round
            })?;
        }
        check_eq!(device.mixed_up.load(Relaxed), 0);
        Ok(())
    })();
    end_all(&set, &device);
    result
}

#[kunit_tests(phyr_device_blk)]
mod tests {
    use super::*;

    fn run(test: impl FnOnce(Scope<'_>) -> Outcome) -> Outcome {
        with_dma_api(|_, _| test(binding()?.scope))
    }

    /// Returns whether user space has mounted sysfs and devtmpfs. Built in, suites run before it,
    /// and the case is skipped.
    fn has_files() -> bool {
        let has = File::open(c"/sys/block").is_ok() && File::open(c"/dev/null").is_ok();
        if !has {
            skip(c"nobody has mounted /sys and /dev yet");
        }
        has
    }

    #[test]
    fn attributes_are_there_with_the_disk() -> Outcome {
        if !has_files() {
            return Ok(());
        }
        run(files::attributes)
    }

    #[test]
    fn a_geometry_outlives_the_disk() -> Outcome {
        if !has_files() {
            return Ok(());
        }
        run(files::geometry)
    }

    #[test]
    fn a_number_is_free_with_its_disk() -> Outcome {
        if !has_files() {
            return Ok(());
        }
        run(files::numbers)
    }

    #[test]
    fn what_is_aborted_times_out_at_once() -> Outcome {
        run(abort::one_of_three)
    }

    #[test]
    fn what_somebody_has_meanwhile_times_out_later() -> Outcome {
        run(abort::while_somebody_has_it)
    }

    #[test]
    fn what_completes_meanwhile_ends_once() -> Outcome {
        run(abort::while_they_complete)
    }

    #[test]
    fn room_comes_with_a_completion() -> Outcome {
        run(room::comes_with_a_completion)
    }

    #[test]
    fn room_is_not_asked_for_meanwhile() -> Outcome {
        run(room::is_waited_for)
    }

    #[test]
    fn nothing_waits_for_room_that_nothing_makes() -> Outcome {
        run(room::that_nothing_makes)
    }

    #[test]
    fn nothing_waits_for_another_disk() -> Outcome {
        run(room::of_another_disk)
    }

    #[test]
    fn what_waits_for_room_is_seen_by_batches() -> Outcome {
        if !has_files() {
            return Ok(());
        }
        with_dma_api(|_, _| room::and_batches(binding()?.scope))
    }

    #[test]
    fn each_of_a_batch_ends_once_and_with_its_own_status() -> Outcome {
        run(batch::of_many_statuses)
    }

    #[test]
    fn what_is_in_flight_is_drained_unmapped() -> Outcome {
        run(batch::drained)
    }

    #[test]
    fn queue_rq_may_sleep() -> Outcome {
        if !has_files() {
            return Ok(());
        }
        run(sleep::in_queue_rq)
    }

    #[test]
    fn each_tag_has_its_own() -> Outcome {
        run(per_tag)
    }
}
