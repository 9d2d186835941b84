// SPDX-License-Identifier: GPL-2.0

//! A limit on the rate of messages: ten in five seconds, as `pr_err_ratelimited()`.
//!
//! C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h), which rust/kernel
//! has nothing for. Nothing here locks: two who come at once may both begin a new interval, or be
//! counted in the old one.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// Nanoseconds: `DEFAULT_RATELIMIT_INTERVAL`
const INTERVAL: i64 = 5_000_000_000;
/// `DEFAULT_RATELIMIT_BURST`
const BURST: u32 = 10;

/// Limits how often something is said.
pub(crate) struct RateLimit {
    /// The time when the interval began, 0 before the first.
    began: Atomic<i64>,
    /// Count of the times that it was to be said since.
    count: Atomic<u32>,
}

impl RateLimit {
    pub(crate) const fn new() -> Self {
        Self {
            began: Atomic::new(0),
            count: Atomic::new(0),
        }
    }

    /// Returns how often it was left out before, if it may be said at the time `now`, in
    /// nanoseconds.
    ///
    /// Context: any.
    pub(crate) fn next(&self, now: i64) -> Option<u32> {
        let began = self.began.load(Relaxed);
        if began == 0 || now.wrapping_sub(began) >= INTERVAL {
            self.began.store(now.max(1), Relaxed);
            return Some(self.count.xchg(1, Relaxed).saturating_sub(BURST));
        }
        (self.count.fetch_add(1, Relaxed) < BURST).then_some(0)
    }
}

#[kunit_tests(rust_nvme_ratelimit)]
mod tests {
    use super::*;

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
        for _ in 0..BURST {
            assert_eq!(limit.next(0), Some(0));
        }
        assert_eq!(limit.next(0), None);
    }
}
