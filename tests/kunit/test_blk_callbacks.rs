// SPDX-License-Identifier: GPL-2.0

//! blk-mq's callbacks into a block driver whose device does nothing.
//!
//! On the debug kernel kCFI checks each of these calls, and lockdep a second driver on `phyr_blk`
//! beside `rust_nvme`; both report in the kernel log.

use crate::{
    check::Outcome,
    fixture::{
        in_scope,
        with_dma_api, //
    },
    table, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            ordering::Relaxed,
            Atomic, //
        },
        Arc, //
    },
    time::Msecs, //
};
use phyr::{
    DataDirection,
    Limits,
    Mapper, //
};
use phyr_blk::{
    uring::CommandResult,
    Affinity,
    Config,
    Expired,
    GenDisk,
    GenDiskBuilder,
    HwCtx,
    Operations,
    Passthrough,
    QueueRqError,
    QueueRqResult,
    Request,
    Status,
    TagOnly,
    TagSet,
    TimeoutAction, //
};
use phyr_driver::{
    completion::Completion,
    scope::Scope, //
};
use phyr_iommu::Domain;

/// Time-out of a request.
const TIMEOUT: Msecs = 100;
/// The most words of a list of descriptors.
const MAX_WORDS: usize = 1 << 20;
/// Time that a test waits for a request to end.
const PATIENCE: Msecs = 30_000;

/// The device's way with a request.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// Completes it.
    Completes,
    /// Never completes it.
    IsLost,
    /// Has no room for it the first time; completes it the second time.
    ComesAgain,
}

/// History of a request.
#[pin_data]
struct Seen {
    #[pin]
    ended: Completion,
    status: Atomic<u32>,
    queued: Atomic<u32>,
    timeouts: Atomic<u32>,
}

/// A request of the driver's own.
struct Ask {
    fate: Fate,
    seen: Arc<Seen>,
}

impl Passthrough for Ask {
    fn end(self, status: Status) -> CommandResult {
        self.seen.status.store((status as u8).into(), Relaxed);
        self.seen.ended.complete();
        status.into()
    }
}

struct Null;

impl Operations for Null {
    type Module = crate::LocalModule;
    type HwQueue<'bound> = ();
    type DiskData<'bound> = ();
    /// Number of times that the request has come to [`Operations::queue_rq`].
    type RequestData = u32;
    type PerTag<'bound> = ();
    type CompletionId = TagOnly;
    type Passthrough = Ask;

    fn queue_rq<'a, 'bound>(
        hw: &'a HwCtx<'bound, Self>,
        _disk: &(),
        mut rq: Request<'a, 'bound, Self>,
        _last: bool,
    ) -> QueueRqResult<'a, 'bound, Self> {
        *rq.data_mut() += 1;
        let turn = *rq.data();
        let Some((fate, seen)) = rq.passthrough().map(|ask| (ask.fate, ask.seen.clone())) else {
            rq.end(Status::Ok);
            return Ok(());
        };
        seen.queued.fetch_add(1, Relaxed);
        if fate == Fate::ComesAgain && turn == 1 {
            return Err(QueueRqError::Resource(rq));
        }
        let tag = rq.map()?.put_in_flight();
        if fate != Fate::IsLost {
            if let Some(io) = hw.complete_tag(tag) {
                io.complete(Status::Ok);
            }
        }
        Ok(())
    }

    fn timeout<'a, 'bound>(
        _hw: &'a HwCtx<'bound, Self>,
        expired: Expired<'a, 'bound, Self>,
    ) -> TimeoutAction {
        let Some(io) = expired.take() else {
            return TimeoutAction::Done;
        };
        if let Some(ask) = io.passthrough() {
            ask.seen.timeouts.fetch_add(1, Relaxed);
        }
        io.complete(Status::Timeout);
        TimeoutAction::Done
    }
}

/// Runs `test` in a scope of its own.
fn with_scope(test: impl for<'b> FnOnce(Scope<'b>) -> Outcome) -> Outcome {
    with_dma_api(|pdev, _| in_scope(pdev.as_ref(), test))
}

/// Runs `test` with an empty disk on a device that does nothing.
fn with_disk(test: impl FnOnce(&GenDisk<'_, Null>) -> Outcome) -> Outcome {
    with_scope(|scope| {
        let disk = disk(scope, Limits::NONE, GenDiskBuilder::new())?;
        test(&disk)
    })
}

/// Builds a disk whose requests are mapped within `limits`.
fn disk<'b>(scope: Scope<'b>, limits: Limits, disk: GenDiskBuilder) -> Result<GenDisk<'b, Null>> {
    let mapper = Arc::new(Mapper::new(scope.device(), limits)?, GFP_KERNEL)?;
    let mut queues = KVec::new();
    queues.push((), GFP_KERNEL)?;
    let config = Config::new(8, 8).timeout(TIMEOUT);
    let tags = TagSet::new(scope, mapper, queues, config, |(), _| Ok(()))?;
    disk.build(fmt!("phyr_test"), &tags, ())
}

/// Sends a request with this fate, and waits for its end.
fn ask(disk: &GenDisk<'_, Null>, fate: Fate) -> Result<Arc<Seen>> {
    let seen = Arc::pin_init(
        pin_init!(Seen {
            ended <- Completion::new(),
            status: Atomic::new(u32::MAX),
            queued: Atomic::new(0),
            timeouts: Atomic::new(0),
        }),
        GFP_KERNEL,
    )?;
    let queue = disk.queue()?;
    let request = queue.alloc(DataDirection::ToDevice, true)?;
    request.execute(Ask {
        fate,
        seen: seen.clone(),
    });
    seen.ended.wait_timeout(PATIENCE)?;
    Ok(seen)
}

/// Returns the status, and how often the request was queued and timed out.
fn became(seen: &Seen) -> (u32, u32, u32) {
    (
        seen.status.load(Relaxed),
        seen.queued.load(Relaxed),
        seen.timeouts.load(Relaxed),
    )
}

#[kunit_tests(phyr_device_blk_callbacks)]
mod tests {
    use super::*;

    fn raw(status: Status) -> u32 {
        (status as u8).into()
    }

    #[test]
    fn a_request_of_the_drivers_own_ends() -> Outcome {
        with_disk(|disk| {
            for _ in 0..20 {
                let seen = ask(disk, Fate::Completes)?;
                check_eq!(became(&seen), (raw(Status::Ok), 1, 0));
            }
            Ok(())
        })
    }

    #[test]
    fn a_request_that_is_lost_times_out() -> Outcome {
        with_disk(|disk| {
            for _ in 0..3 {
                let seen = ask(disk, Fate::IsLost)?;
                check_eq!(became(&seen), (raw(Status::Timeout), 1, 1));
            }
            Ok(())
        })
    }

    #[test]
    fn what_the_driver_keeps_survives_a_second_try() -> Outcome {
        with_disk(|disk| {
            for _ in 0..20 {
                let seen = ask(disk, Fate::ComesAgain)?;
                check_eq!(became(&seen), (raw(Status::Ok), 2, 0));
            }
            Ok(())
        })
    }

    /// None of these numbers makes the kernel warn.
    #[test]
    fn a_tag_set_has_numbers_that_there_can_be() -> Outcome {
        with_scope(|scope| {
            let mapper = Mapper::new(scope.device(), Limits::NONE)?;
            let mapper = Arc::new(mapper, GFP_KERNEL)?;
            let made = |config, nr| {
                let mut queues = KVec::new();
                for _ in 0..nr {
                    queues.push((), GFP_KERNEL)?;
                }
                TagSet::<Null>::new(scope, mapper.clone(), queues, config, |(), _| Ok(())).map(drop)
            };
            for (depth, segments, nr, errors) in [
                (0, 1, 1, [Some(EINVAL), None]),
                (1, 0, 1, [Some(EINVAL), None]),
                (1, 1, 0, [Some(EINVAL), None]),
                (1, 1, 1 << 16, [Some(EINVAL), None]),
                (1, u16::MAX, 1, [None, Some(ENOMEM)]),
                (u16::MAX, 1, 1, [None, Some(ENOMEM)]),
                (u16::MAX, u16::MAX, 1, [Some(ENOMEM), None]),
            ] {
                let result = made(Config::new(depth, segments), nr).err();
                check!(
                    errors.contains(&result),
                    "{result:?} of {depth}, {segments}, {nr}"
                );
            }
            let more = [1 << 31, 1 << 41, 1 << 61, usize::MAX / 8, usize::MAX];
            let few = [1, MAX_WORDS, MAX_WORDS + 1].into_iter();
            for words in Iterator::chain(few, more) {
                let result = made(Config::new(1, 1).descriptor_words(words), 1).err();
                if words <= MAX_WORDS {
                    check_matches!(result, None | Some(ENOMEM));
                } else {
                    check_eq!(result, Some(EINVAL), "{words:#x} words");
                }
            }
            // Vectors that there are not: the processors are spread.
            for first in [0, 1, 4000, u32::MAX] {
                let affinity = Affinity::Interrupts { first };
                made(Config::new(1, 1).affinity(affinity), 2)?;
            }
            Ok(())
        })
    }

    /// A list is memory of the DMA API's: at its address there is another mapping, or none.
    #[test]
    fn a_tag_set_in_a_domain_has_no_lists() -> Outcome {
        with_scope(|scope| {
            let dev = scope.device();
            if table::domain_type(dev).is_none() {
                return Ok(());
            }
            let domain = Domain::attach(dev, None)?;
            let mapper = Arc::new(domain.mapper(Limits::NONE, 1 << 20)?, GFP_KERNEL)?;
            let made = |words| {
                let mut queues = KVec::new();
                queues.push((), GFP_KERNEL)?;
                let config = Config::new(1, 1).descriptor_words(words);
                TagSet::<Null>::new(scope, mapper.clone(), queues, config, |(), _| Ok(())).map(drop)
            };
            check_eq!(made(0), Ok(()));
            check_eq!(made(1), Err(EOPNOTSUPP));
            Ok(())
        })
    }

    #[test]
    fn a_disk_that_does_not_go_with_its_mapper_is_refused() -> Outcome {
        with_scope(|scope| {
            let build = |limits, builder| disk(scope, limits, builder).map(drop);
            let short = check_some!(Limits::NONE.with_max_segment(65536));
            let kept = check_some!(short.with_min_align_mask(4095));
            let new = || GenDiskBuilder::new().max_hw_sectors(2048);
            // With a list of pages no segment is cut, and bounced memory keeps its offset.
            let pages = || new().virt_boundary_mask(4095);
            let rows = [
                (short, new(), Ok(())),
                (short, new().max_segment_size(u32::MAX), Ok(())),
                (short, pages(), Err(EINVAL)),
                (kept, pages(), Err(EINVAL)),
                (kept, pages().max_hw_sectors(128), Ok(())),
            ];
            for (nr, (limits, builder, expected)) in rows.into_iter().enumerate() {
                check_eq!(build(limits, builder), expected, "row {nr}");
            }
            Ok(())
        })
    }
}
