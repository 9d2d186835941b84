// SPDX-License-Identifier: GPL-2.0

//! Runs a path with each of its calls and allocations failing.

#[cfg(CONFIG_FAILSLAB)]
use crate::buffers::settle;
use crate::{
    check::{
        Failure,
        Outcome, //
    },
    test_fault_injection::watch::Place, //
};
#[cfg(CONFIG_FAILSLAB)]
use core::sync::atomic::{
    AtomicU32,
    Ordering::Relaxed, //
};
use kernel::prelude::*;
use phyr::fail::{
    self,
    Point, //
};

/// The result of the path under test, or a failure of the test itself.
pub(crate) type Tried = Result<Result, Failure>;

/// More than any path has fallible calls.
const MANY: u32 = 500;

/// Effect of a failed call on the path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The caller gets this error.
    Fails(Error),
    /// The path succeeds another way.
    Succeeds,
    /// The error; the path succeeds another way where the call is elsewhere on it.
    Either(Error),
}

/// Effects other than the error of the point.
pub(crate) type Exceptions<'a> = &'a [(Point, Then)];

/// Runs `path` with each of its fallible calls failing.
pub(crate) fn sweep(
    what: &str,
    place: &Place<'_>,
    exceptions: Exceptions<'_>,
    mut path: impl FnMut() -> Tried,
) -> Outcome {
    check_eq!(path()?, Ok(()), "{what}");
    place.empty()?;
    for nth in 1..MANY {
        fail::arm(None, nth);
        let result = path();
        let failed = fail::disarm();
        let Some(point) = failed else {
            check_eq!(result?, Ok(()), "{what}, without a failure");
            check_cmp!(nth, !=, 1, "{what}: nothing can fail");
            pr_info!("{what}: {} calls have failed\n", nth - 1);
            return sweep_allocations(what, place, path);
        };
        let exception = exceptions.iter().find(|exception| exception.0 == point);
        let then = exception.map_or(Then::Fails(point.error()), |exception| exception.1);
        let result = result?;
        let right = match (then, result) {
            (Then::Fails(e) | Then::Either(e), Err(got)) => e == got,
            (Then::Succeeds | Then::Either(_), Ok(())) => true,
            _ => false,
        };
        check!(right, "{what}: {} failed: {result:?}", point.name());
        again(what, point.name(), place, &mut path)?;
    }
    Err(Failure::new(fmt!("{what}: no end of failures")))
}

/// Checks after a failure that nothing is mapped, and that the next run succeeds.
fn again(what: &str, failed: &str, place: &Place<'_>, path: &mut impl FnMut() -> Tried) -> Outcome {
    place
        .empty()
        .inspect_err(|_| pr_err!("{what}: {failed}\n"))?;
    check_eq!(path()?, Ok(()), "{what}, after {failed}");
    place.empty()
}

/// Makes the `nth` next allocation of this thread fail; zero for none.
///
/// Returns how many allocations were left to the one that was set before: zero if it has failed.
#[cfg(CONFIG_FAILSLAB)]
fn fail_allocation(nth: u32) -> u32 {
    let task = kernel::current!().as_ptr();
    // SAFETY: the field is for the task itself.
    unsafe {
        let left = (&raw const (*task).fail_nth).read_volatile();
        (&raw mut (*task).fail_nth).write_volatile(nth);
        left
    }
}

/// The number of allocations that were left when [`Spare`] was dropped.
#[cfg(CONFIG_FAILSLAB)]
static SPARED: AtomicU32 = AtomicU32::new(0);

/// Ends the failing of allocations when dropped.
///
/// A device that leaves a domain allocates, must not fail, and warns if it does.
pub(crate) struct Spare;

impl Drop for Spare {
    fn drop(&mut self) {
        #[cfg(CONFIG_FAILSLAB)]
        SPARED.store(fail_allocation(0), Relaxed);
    }
}

/// Runs `path` with each of its allocations failing, where the kernel can do that.
#[cfg(CONFIG_FAILSLAB)]
fn sweep_allocations(what: &str, place: &Place<'_>, mut path: impl FnMut() -> Tried) -> Outcome {
    let mut refused = 0;
    for nth in 1..MANY {
        SPARED.store(0, Relaxed);
        fail_allocation(nth);
        let result = path();
        let left = fail_allocation(0).max(SPARED.load(Relaxed));
        settle();
        if left != 0 {
            check_eq!(result?, Ok(()), "{what}, without a failure");
            pr_info!(
                "{what}: {} allocations have failed, {refused} times it did\n",
                nth - 1
            );
            return Ok(());
        }
        match result {
            // The path succeeds another way.
            Ok(Ok(())) => {}
            Ok(result) => {
                check_err!(result, ENOMEM, "{what}: allocation {nth}");
                refused += 1;
            }
            Err(failure) => {
                pr_err!("{what}: allocation {nth}\n");
                return Err(failure);
            }
        }
        again(what, "an allocation", place, &mut path)?;
    }
    Err(Failure::new(fmt!("{what}: no end of allocations")))
}

#[cfg(not(CONFIG_FAILSLAB))]
fn sweep_allocations(_: &str, _: &Place<'_>, _: impl FnMut() -> Tried) -> Outcome {
    Ok(())
}
