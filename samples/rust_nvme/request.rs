// SPDX-License-Identifier: GPL-2.0

//! Requests of the block layer that the controller is done with, one way or the other: they are
//! tried again, or completed. The log has those that fail.

use super::{
    completion::NvmeStatus,
    namespace::Namespace,
    payload::Payload,
    transfer::Transfer, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        ClockSource,
        Monotonic, //
    }, //
};
use phyr_blk::{
    Mapped,
    Op,
    Request,
    RequestInfo,
    Status, //
};

/// Most times that a request is tried again: the default of the C driver.
const MAX_RETRIES: u8 = 5;

/// The block driver. [`io`](super::io) has its operations.
pub(crate) struct NvmeBlk;

/// The driver's data of a request: the number of times that it was tried again.
#[derive(Default)]
pub(crate) struct Retries(u8);

/// Tries a request again, if that makes sense, or completes it with `status`.
pub(crate) fn retry_or_complete(
    mut request: Request<'_, '_, NvmeBlk>,
    may_retry: bool,
    status: Status,
) {
    if will_retry(&request, may_retry) {
        request.data_mut().0 += 1;
        request.requeue();
    } else {
        request.complete(status);
    }
}

/// Tries a request again that a reset has interrupted through no fault of the request. That does
/// not count as one of its retries.
pub(crate) fn retry_interrupted(request: Request<'_, '_, NvmeBlk>) {
    if request.is_noretry() {
        request.complete(Status::IoErr);
    } else {
        request.requeue();
    }
}

/// Tries a request again that the controller has completed with the error `status`, or completes
/// it, with a message.
#[cold]
pub(crate) fn fail(dev: &Device<Bound>, io: Mapped<'_, '_, NvmeBlk>, status: NvmeStatus) {
    let may_retry = status.may_retry();
    if !io.is_quiet() && !will_retry(&io, may_retry) {
        log_failure(dev, &io, status);
    }
    retry_or_complete(io.unmap(), may_retry, status.to_blk());
}

/// Returns whether [`retry_or_complete`] tries a request again.
fn will_retry(request: &RequestInfo<'_, '_, NvmeBlk>, may_retry: bool) -> bool {
    may_retry && !request.is_noretry() && request.data().0 < MAX_RETRIES
}

/// Logs the command that has failed, and its status: as `nvme_log_error()`, with the namespace.
fn log_failure(dev: &Device<Bound>, io: &Mapped<'_, '_, NvmeBlk>, status: NvmeStatus) {
    let Some(missed) = FAILURES.next(Monotonic::ktime_get()) else {
        return;
    };
    if missed != 0 {
        dev_err!(dev, "{missed} more commands have failed\n");
    }
    let ns: &Namespace = io.disk();
    let transfer = io.passthrough().and_then(Payload::transfer);
    let first = transfer.map_or(io.sector() >> (ns.shift - 9), Transfer::first_block);
    let blocks = transfer.map_or(io.bytes(), Transfer::len) >> ns.shift;
    let command = match (io.op(), transfer) {
        (Op::Flush, _) => "Flush(0x0)",
        (Op::Write, _) => "Write(0x1)",
        (Op::Read, _) => "Read(0x2)",
        (Op::WriteZeroes, _) => "Write Zeroes(0x8)",
        (Op::Discard, _) => "Dataset Management(0x9)",
        (_, Some(transfer)) if transfer.is_write() => "Write(0x1) of a registered buffer",
        _ => "Read(0x2) of a registered buffer",
    };
    dev_err!(
        dev,
        "namespace {}: {} @ LBA {}, {} blocks, {}\n",
        ns.id,
        command,
        first,
        blocks,
        status
    );
}

/// Limits the messages of failed commands.
static FAILURES: RateLimit = RateLimit::new();

/// A limit on the rate of messages: ten in five seconds, as `pr_err_ratelimited()`.
///
/// There is no lock: two callers at the same time may both begin a new interval, or be counted in
/// the old one.
///
/// C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h), for which
/// rust/kernel has nothing.
struct RateLimit {
    /// Start of the interval, 0 before the first.
    began: Atomic<i64>,
    /// Count of messages since, including those left out.
    count: Atomic<u32>,
}

impl RateLimit {
    /// `DEFAULT_RATELIMIT_INTERVAL`, in nanoseconds.
    const INTERVAL: i64 = 5_000_000_000;
    /// `DEFAULT_RATELIMIT_BURST`
    const BURST: u32 = 10;

    const fn new() -> Self {
        Self {
            began: Atomic::new(0),
            count: Atomic::new(0),
        }
    }

    /// Returns [`Some`] if there may be a message at the time `now`, in nanoseconds: the number of
    /// messages that were left out before.
    ///
    /// Context: any.
    fn next(&self, now: i64) -> Option<u32> {
        let began = self.began.load(Relaxed);
        if began == 0 || now.wrapping_sub(began) >= Self::INTERVAL {
            self.began.store(now.max(1), Relaxed);
            return Some(self.count.xchg(1, Relaxed).saturating_sub(Self::BURST));
        }
        (self.count.fetch_add(1, Relaxed) < Self::BURST).then_some(0)
    }
}

#[kunit_tests(rust_nvme_ratelimit)]
mod tests {
    use super::RateLimit;

    const INTERVAL: i64 = RateLimit::INTERVAL;

    #[test]
    fn ten_in_five_seconds() {
        let limit = RateLimit::new();
        for at in 0..10 {
            assert_eq!(limit.next(7 + at), Some(0));
        }
        for at in 10..25 {
            assert_eq!(limit.next(7 + at), None);
        }
        assert_eq!(limit.next(7 + INTERVAL - 1), None);
        assert_eq!(limit.next(7 + INTERVAL), Some(16));
        assert_eq!(limit.next(7 + INTERVAL), Some(0));
        assert_eq!(limit.next(7 + 2 * INTERVAL), Some(0));
    }

    #[test]
    fn the_clock_may_begin_with_zero() {
        let limit = RateLimit::new();
        for _ in 0..RateLimit::BURST {
            assert_eq!(limit.next(0), Some(0));
        }
        assert_eq!(limit.next(0), None);
    }
}
