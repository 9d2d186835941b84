// SPDX-License-Identifier: GPL-2.0

//! The state of a controller, and the right to reset it.
//!
//! ```text
//!  live ---------------------> resetting --------> dead    (all I/O fails)
//!    ^  no answer,                 |  ^              |
//!    |  fatal status,              |  '--------------'
//!    |  reset from outside         |     reset from outside
//!    '-----------------------------'
//! ```
//!
//! A [`Reset`] is the right to touch the controller: there is one at a time. It begins by
//! [`State::begin_recovery`], because of a command, or else by [`State::begin_reset`], which a
//! recovery makes room for.

use kernel::{
    device::{
        Bound,
        Device, //
    },
    io::poll::read_poll_timeout,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Mutex,
        MutexGuard, //
    },
    time::Delta, //
};

/// Commands can be submitted.
const LIVE: u32 = 0;
/// Commands wait. If there is no [`Reset`] they wait for a reset from outside to be finished.
const RESETTING: u32 = 1;
/// Commands fail until somebody else has reset the controller.
const DEAD: u32 = 2;
/// Commands fail for good: the machine shuts down.
const OFF: u32 = 3;

/// Commands of user space are taken.
const TAKEN: u32 = 0;
/// New ones fail: the driver is being unbound.
const REFUSED: u32 = 1;
/// Those that the controller has are given up as well.
const ABORTED: u32 = 2;

/// The state of a controller, and the lock of its resets.
#[pin_data]
pub(crate) struct State<'bound> {
    dev: &'bound Device<Bound>,
    /// One of [`LIVE`], [`RESETTING`], [`DEAD`] and [`OFF`].
    state: Atomic<u32>,
    /// Count of resets.
    generation: Atomic<u32>,
    /// Held during a reset.
    #[pin]
    resetting: Mutex<()>,
    /// Count of those who wait for it in [`State::begin_reset`].
    waiting: Atomic<u32>,
    /// One of [`TAKEN`], [`REFUSED`] and [`ABORTED`], for admin commands of user space.
    user_commands: Atomic<u32>,
}

impl<'bound> State<'bound> {
    /// Returns the state of a controller that takes commands.
    pub(crate) fn new(dev: &'bound Device<Bound>) -> impl PinInit<Self> + 'bound {
        pin_init!(Self {
            dev,
            state: Atomic::new(LIVE),
            generation: Atomic::new(0),
            resetting <- new_mutex!(()),
            waiting: Atomic::new(0),
            user_commands: Atomic::new(TAKEN),
        })
    }

    /// Returns whether commands can be submitted.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.state.load(Relaxed) == LIVE
    }

    /// Returns whether the driver gave the controller up, or has shut it down.
    pub(crate) fn is_dead(&self) -> bool {
        self.state.load(Relaxed) >= DEAD
    }

    /// Returns the [generation](Self::generation) if commands can be submitted.
    ///
    /// If the caller has the lock of the admin queue, a command that is submitted before it
    /// releases that is of this generation: no reset ends meanwhile.
    pub(crate) fn live_generation(&self) -> Option<u32> {
        // Pairs with `Reset::end`: not live with the generation from before.
        if self.state.load(Acquire) != LIVE {
            return None;
        }
        Some(self.generation())
    }

    /// Returns a number that changes whenever a reset has emptied the queues.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// Begins a reset that a command is not the reason for. Waits for one that is going on, which
    /// then does not wait for the controller any more.
    ///
    /// Context: process context, may sleep.
    pub(crate) fn begin_reset(&self) -> Reset<'_, 'bound> {
        self.waiting.fetch_add(1, Relaxed);
        let guard = self.resetting.lock();
        self.waiting.fetch_sub(1, Relaxed);
        self.begin(guard)
    }

    /// Begins a reset because of a command that the controller does not complete. Waits for one
    /// that is going on. [`None`]: one has ended after `generation`, or is not finished.
    ///
    /// Context: process context, may sleep.
    pub(crate) fn begin_recovery(&self, generation: u32) -> Option<Reset<'_, 'bound>> {
        let guard = self.resetting.lock();
        if generation != self.generation() || !self.is_live() {
            return None;
        }
        Some(self.begin(guard))
    }

    fn begin<'a>(&'a self, guard: MutexGuard<'a, ()>) -> Reset<'a, 'bound> {
        Reset {
            state: self,
            before: self.state.xchg(RESETTING, Relaxed),
            _guard: guard,
        }
    }

    /// Returns whether somebody waits in [`State::begin_reset`].
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.load(Relaxed) != 0
    }

    /// Returns whether somebody waits in [`State::begin_reset`] before `timeout` is over.
    ///
    /// Context: process context, may sleep.
    pub(crate) fn is_awaited_within(&self, timeout: Delta) -> bool {
        read_poll_timeout(
            || Ok(self.is_awaited()),
            |awaited| *awaited,
            Delta::from_millis(10),
            timeout,
        )
        .is_ok()
    }

    /// Refuses admin commands of user space from now on.
    pub(crate) fn refuse_user_commands(&self) {
        self.user_commands.store(REFUSED, Relaxed);
    }

    /// Gives up the admin command of user space that the controller has, if any.
    pub(crate) fn abort_user_commands(&self) {
        self.user_commands.store(ABORTED, Relaxed);
    }

    /// Returns whether admin commands of user space fail: the controller is dead, or being unbound.
    pub(crate) fn refuses_user_commands(&self) -> bool {
        self.is_dead() || self.user_commands.load(Relaxed) != TAKEN
    }

    /// Returns whether to wait no longer for the answer to an admin command of user space, which
    /// was submitted when the generation was `generation`.
    pub(crate) fn is_user_command_over(&self, generation: u32) -> bool {
        self.is_awaited()
            || self.live_generation() != Some(generation)
            || self.user_commands.load(Relaxed) == ABORTED
    }

    /// Waits for a reset that is going on. Returns whether one has ended after `generation`, and
    /// the controller works.
    ///
    /// Context: process context, may sleep.
    pub(crate) fn was_reset(&self, generation: u32) -> bool {
        let _guard = self.resetting.lock();
        self.is_live() && self.generation() != generation
    }
}

/// Outcomes of a reset.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The controller takes commands.
    Live,
    /// It is stopped, and commands wait: a reset from outside is to be finished.
    Unfinished,
    /// It was given up.
    Dead,
    /// It was shut down, for good.
    Off,
}

/// A reset that is going on.
pub(crate) struct Reset<'a, 'bound> {
    state: &'a State<'bound>,
    before: u32,
    _guard: MutexGuard<'a, ()>,
}

impl Reset<'_, '_> {
    /// Returns whether commands could be submitted before.
    pub(crate) fn was_live(&self) -> bool {
        self.before == LIVE
    }

    /// Returns whether the controller was shut down before.
    pub(crate) fn was_off(&self) -> bool {
        self.before == OFF
    }

    /// Ends a reset that has not touched the controller, which goes on as before.
    pub(crate) fn cancel(self) {
        self.state.state.store(self.before, Relaxed);
    }

    /// Ends the reset, after which no command from before is in flight.
    pub(crate) fn end(self, outcome: Outcome) {
        let state = match outcome {
            Outcome::Live => LIVE,
            Outcome::Unfinished => RESETTING,
            Outcome::Dead => DEAD,
            Outcome::Off => OFF,
        };
        if outcome == Outcome::Dead && self.before < DEAD {
            dev_err!(
                self.state.dev,
                "the controller is dead; all I/O fails from now on\n"
            );
        }
        // Only changed under the lock that this holds.
        let generation = self.state.generation().wrapping_add(1);
        self.state.generation.store(generation, Relaxed);
        self.state.state.store(state, Release);
    }
}
