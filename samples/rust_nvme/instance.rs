// SPDX-License-Identifier: GPL-2.0

//! Numbers of controllers: the `0` in `rnvme0n1`.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// Bit `n` is set while there is a controller `n`.
static TAKEN: Atomic<u64> = Atomic::new(0);

/// A controller's number, its own until it is dropped.
///
/// # Invariants
///
/// The bit of the number in `TAKEN` is set, and this is the one [`Instance`] with it.
pub(crate) struct Instance(u32);

impl Instance {
    /// Takes the lowest free number.
    ///
    /// # Errors
    ///
    /// [`ENOSPC`]: there are 64 controllers.
    pub(crate) fn new() -> Result<Self> {
        let mut taken = TAKEN.load(Relaxed);
        loop {
            let free = taken.trailing_ones();
            let bit = 1u64.checked_shl(free).ok_or(ENOSPC)?;
            match TAKEN.cmpxchg(taken, taken | bit, Relaxed) {
                // INVARIANT: The bit was clear and is set now.
                Ok(_) => return Ok(Self(free)),
                Err(now) => taken = now,
            }
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.0
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let mut taken = TAKEN.load(Relaxed);
        while let Err(now) = TAKEN.cmpxchg(taken, taken & !(1 << self.0), Relaxed) {
            taken = now;
        }
    }
}
