// SPDX-License-Identifier: GPL-2.0

//! Commands that user space sends to a file through io_uring.
//!
//! ```text
//!                 uring_cmd                 pend()             complete()
//!  IORING_OP_URING_CMD ------> Issued ----------------> Pending ---------> completion queue
//!                                 | done()                                      ^
//!                                 +---------------------------------------------+
//! ```
//!
//! Each command ends exactly once: the types allow no other, and a [`Pending`] that is dropped ends
//! with an error. One that is leaked never ends, and the ring waits for it.
//!
//! By `uring_cmd_flags` of the submission queue entry a command may ask io_uring itself for a
//! buffer that was registered with the ring, or for many completions. There is neither here: such
//! a command ends with `EINVAL`, before a driver sees it. A ring that polls
//! (`IORING_SETUP_IOPOLL`) may have these commands, which complete as on any other; so may one
//! whose completions have 32 bytes, of which the last 16 are zero.
//!
//! C header: [`include/linux/io_uring/cmd.h`](srctree/include/linux/io_uring/cmd.h)

use super::bindings as own;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    prelude::*, //
};

/// A command that is being issued, in the context of the task that sent it or of a worker of
/// io_uring on its behalf.
///
/// # Invariants
///
/// `cmd` is a command that io_uring issues by the call that is running with `'a`; it was not
/// completed, nor was it said to be pending.
pub struct Issued<'a> {
    cmd: NonNull<bindings::io_uring_cmd>,
    flags: i32,
    /// Neither longer nor shorter than the call: an [`Answer`] is for this command only.
    _call: PhantomData<fn(&'a ()) -> &'a ()>,
}

/// What becomes of an [`Issued`] command.
#[must_use = "it is what the call returns"]
pub struct Answer<'a> {
    result: c_int,
    _call: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl Answer<'_> {
    pub(crate) fn into_raw(self) -> c_int {
        self.result
    }
}

/// Words of the command area of an entry of 128 bytes.
const WORDS: usize = 80 / size_of::<u64>();
/// And of one of 64 bytes.
const SHORT_WORDS: usize = 16 / size_of::<u64>();

/// Flags of a call that this has no way for: it never polls, and completes once. io_uring does not
/// set them for files that cannot be polled.
const UNKNOWN: i32 =
    own::io_uring_cmd_flags_IO_URING_F_IOPOLL | own::io_uring_cmd_flags_IO_URING_F_MULTISHOT;

/// Refuses a command that no driver is to see.
///
/// `asks` is its `uring_cmd_flags`, and `flags` are those of the call.
///
/// # Errors
///
/// - `EINVAL`: it asks for a registered buffer, many completions, or what is not known here.
/// - `EOPNOTSUPP`: it would have to be polled for, or be issued as one of many.
#[inline]
pub(crate) fn refuse(asks: u32, flags: i32) -> Result {
    if asks != 0 {
        return Err(EINVAL);
    }
    if flags & UNKNOWN != 0 {
        return Err(EOPNOTSUPP);
    }
    Ok(())
}

impl<'a> Issued<'a> {
    /// # Safety
    ///
    /// The arguments satisfy the type invariants: they are those of the call.
    pub(crate) unsafe fn new(cmd: NonNull<bindings::io_uring_cmd>, flags: i32) -> Self {
        // INVARIANT: by the safety requirements.
        Self {
            cmd,
            flags,
            _call: PhantomData,
        }
    }

    /// Which command it is (`cmd_op` of the submission queue entry).
    #[inline]
    pub fn op(&self) -> u32 {
        // SAFETY: by the type invariants.
        unsafe { own::phyr_blk_helper_uring_cmd_op(self.cmd.as_ptr()) }
    }

    /// Whether it may wait. If it may not and would have to, it is [done](Self::done) with
    /// `EAGAIN`, and io_uring issues it again where it may.
    #[inline]
    pub fn may_wait(&self) -> bool {
        self.flags & own::io_uring_cmd_flags_IO_URING_F_NONBLOCK == 0
    }

    /// The command area of the submission queue entry, which has 80 bytes where entries are of 128
    /// bytes (`IORING_SETUP_SQE128`), else 16. It is copied once, as user space can write to it.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: `C` does not fit.
    #[inline]
    pub fn command<C: FromBytes>(&self) -> Result<C> {
        const { assert!(size_of::<C>() <= WORDS * size_of::<u64>()) };
        let large = self.flags & own::io_uring_cmd_flags_IO_URING_F_SQE128 != 0;
        let words = size_of::<C>().div_ceil(size_of::<u64>());
        if words > if large { WORDS } else { SHORT_WORDS } {
            return Err(EOPNOTSUPP);
        }
        let mut area = [0u64; WORDS];
        // SAFETY: by the type invariants; the area has as many words, and so has `area`.
        unsafe { own::phyr_blk_helper_uring_cmd_read(self.cmd.as_ptr(), area.as_mut_ptr(), words) };
        match C::read_from_prefix(area.as_bytes()) {
            Ok((command, _)) => Ok(command),
            Err(_) => Err(EOPNOTSUPP),
        }
    }

    /// Ends it here and now. The result is zero or a positive number, or an error.
    #[inline]
    pub fn done(self, result: Result<u32>) -> Answer<'a> {
        Answer {
            result: to_raw(result),
            _call: PhantomData,
        }
    }

    /// It ends later, by what is returned, maybe at once on another CPU.
    #[inline]
    pub fn pend(self) -> (Pending, Answer<'a>) {
        let answer = Answer {
            result: EIOCBQUEUED.to_errno(),
            _call: PhantomData,
        };
        // INVARIANT: the one answer to the call says so.
        (Pending(self.cmd), answer)
    }
}

/// A command that ends later.
///
/// When it is dropped it ends with `EIO`.
///
/// # Invariants
///
/// io_uring was or will be told that the command is pending; it ends by `self`.
#[must_use = "a command that is dropped ends with an error"]
pub struct Pending(NonNull<bindings::io_uring_cmd>);

// SAFETY: a pending command can be completed from anywhere.
unsafe impl Send for Pending {}

// SAFETY: nothing can be done with a shared reference.
unsafe impl Sync for Pending {}

impl Pending {
    /// Ends the command. The task that sent it is told, and takes note when it runs next.
    ///
    /// Context: any.
    ///
    /// C: `io_uring_cmd_do_in_task_lazy`, `io_uring_cmd_done`.
    #[inline]
    pub fn complete(self, result: Result<u32>) {
        let cmd = ManuallyDrop::new(self).0;
        // SAFETY: by the type invariants, and it is given up.
        unsafe { own::phyr_blk_helper_uring_cmd_complete(cmd.as_ptr(), to_raw(result)) };
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // SAFETY: by the type invariants.
        unsafe { own::phyr_blk_helper_uring_cmd_complete(self.0.as_ptr(), EIO.to_errno()) };
    }
}

/// A result as io_uring has it. Neither a number that looks like an error, nor the error that means
/// that there is no result yet can come out.
fn to_raw(result: Result<u32>) -> c_int {
    match result {
        Ok(value) => c_int::try_from(value).unwrap_or(c_int::MAX),
        Err(e) if e == EIOCBQUEUED => EIO.to_errno(),
        Err(e) => e.to_errno(),
    }
}

#[kunit_tests(phyr_blk_uring)]
mod tests {
    use super::*;

    #[test]
    fn what_only_io_uring_could_do_is_refused() {
        let known = [
            0,
            own::io_uring_cmd_flags_IO_URING_F_NONBLOCK,
            own::io_uring_cmd_flags_IO_URING_F_COMPLETE_DEFER,
            own::io_uring_cmd_flags_IO_URING_F_UNLOCKED
                | own::io_uring_cmd_flags_IO_URING_F_IOWQ
                | own::io_uring_cmd_flags_IO_URING_F_SQE128
                | own::io_uring_cmd_flags_IO_URING_F_CQE32
                | own::io_uring_cmd_flags_IO_URING_F_COMPAT,
        ];
        for flags in known {
            assert_eq!(refuse(0, flags), Ok(()));
            // `IORING_URING_CMD_FIXED`, `IORING_URING_CMD_MULTISHOT`, and what there may be once.
            for asks in [1 << 0, 1 << 1, 1 << 2, u32::MAX] {
                assert_eq!(refuse(asks, flags), Err(EINVAL));
            }
            for unknown in [
                own::io_uring_cmd_flags_IO_URING_F_IOPOLL,
                own::io_uring_cmd_flags_IO_URING_F_MULTISHOT,
            ] {
                assert_eq!(refuse(0, flags | unknown), Err(EOPNOTSUPP));
            }
        }
    }

    #[test]
    fn results_say_nothing_else() {
        for (result, raw) in [
            (Ok(0), 0),
            (Ok(512), 512),
            (Ok(0x7fff_ffff), 0x7fff_ffff),
            (Ok(0x8000_0000), 0x7fff_ffff),
            (Ok(u32::MAX), 0x7fff_ffff),
            (Err(EAGAIN), EAGAIN.to_errno()),
            (Err(EIOCBQUEUED), EIO.to_errno()),
        ] {
            assert_eq!(to_raw(result), raw);
        }
    }
}
