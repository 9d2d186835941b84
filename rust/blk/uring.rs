// SPDX-License-Identifier: GPL-2.0

//! Commands that user space sends to a file through io_uring.
//!
//! ```text
//!                 uring_cmd            execute_command()     Passthrough::end()
//!  IORING_OP_URING_CMD ------> UringCmd --------------> Pending ------------> completion queue
//!                                 | done()                                       ^
//!                                 +----------------------------------------------+
//! ```
//!
//! Each command ends exactly once: by the result of the call, or with the request that was sent for
//! it ([`execute_command()`](super::PassthroughRequest::execute_command)).
//!
//! By `uring_cmd_flags` of the submission queue entry a command may ask io_uring itself for a
//! buffer that was registered with the ring (`IORING_URING_CMD_FIXED`), or for many completions. A
//! driver says whether it has the former ([`CharFile::FIXED_BUFFERS`](super::CharFile)); the latter
//! is not supported. A command that asks for what there is not ends with `EINVAL`, before a driver
//! sees it. A ring that polls (`IORING_SETUP_IOPOLL`) may have these commands, which complete as on
//! any other; so may one whose completions have 32 bytes ([`CommandResult::extra`]).
//!
//! C header: [`include/linux/io_uring/cmd.h`](srctree/include/linux/io_uring/cmd.h)

use super::{
    bindings as own,
    status::Status, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{
        self,
        NonNull, //
    }, //
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
pub struct UringCmd<'a> {
    cmd: NonNull<bindings::io_uring_cmd>,
    flags: i32,
    /// Neither longer nor shorter than the call: a [`UringResult`] is for this command only.
    _call: PhantomData<fn(&'a ()) -> &'a ()>,
}

/// The result of a call that issues a [`UringCmd`].
#[must_use = "the call returns it"]
pub struct UringResult<'a> {
    result: c_int,
    _call: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl UringResult<'_> {
    pub(crate) fn into_raw(self) -> c_int {
        self.result
    }
}

/// Words of the command area of an entry of 128 bytes.
const WORDS: usize = 80 / size_of::<u64>();
/// And of one of 64 bytes.
const SHORT_WORDS: usize = 16 / size_of::<u64>();

/// Flags of a call that are not supported: commands are never polled for, and complete once.
/// io_uring does not set them for files that cannot be polled.
const UNKNOWN: i32 =
    own::io_uring_cmd_flags_IO_URING_F_IOPOLL | own::io_uring_cmd_flags_IO_URING_F_MULTISHOT;

/// `IORING_URING_CMD_FIXED`
const FIXED: u32 = 1 << 0;

/// Refuses a command that no driver is to see.
///
/// `asks` is its `uring_cmd_flags`, and `flags` are those of the call. `has_fixed`: the driver has
/// commands on buffers that were registered with the ring.
///
/// # Errors
///
/// - `EINVAL`: it asks for a registered buffer where there are none, many completions, or what is
///   not known here.
/// - `EOPNOTSUPP`: it would have to be polled for, or be issued as one of many.
#[inline]
pub(crate) fn refuse(asks: u32, flags: i32, has_fixed: bool) -> Result {
    let known = if has_fixed { FIXED } else { 0 };
    if asks & !known != 0 {
        return Err(EINVAL);
    }
    if flags & UNKNOWN != 0 {
        return Err(EOPNOTSUPP);
    }
    Ok(())
}

impl<'a> UringCmd<'a> {
    /// # Safety
    ///
    /// The arguments satisfy the type invariants: they are those of the call.
    pub(crate) unsafe fn new(cmd: NonNull<bindings::io_uring_cmd>, flags: i32) -> Self {
        // INVARIANT: the caller passes the arguments of the running call.
        Self {
            cmd,
            flags,
            _call: PhantomData,
        }
    }

    /// Returns the command's number (`cmd_op` of the submission queue entry).
    #[inline]
    pub fn op(&self) -> u32 {
        // SAFETY: by the type invariants the command is being issued.
        unsafe { own::phyr_blk_helper_uring_cmd_op(self.cmd.as_ptr()) }
    }

    /// Returns whether the data is in a buffer that was registered with the ring
    /// (`IORING_URING_CMD_FIXED`).
    #[inline]
    pub fn is_fixed(&self) -> bool {
        // SAFETY: by the type invariants the command is being issued.
        unsafe { own::phyr_blk_helper_uring_cmd_flags(self.cmd.as_ptr()) & FIXED != 0 }
    }

    /// Returns whether the ring has completions of 32 bytes, so that there can be a
    /// [`CommandResult::extra`].
    #[inline]
    pub fn has_large_cqe(&self) -> bool {
        self.flags & own::io_uring_cmd_flags_IO_URING_F_CQE32 != 0
    }

    /// Returns the command as C has it, and the flags of the call.
    pub(crate) fn as_raw(&self) -> (*mut bindings::io_uring_cmd, c_uint) {
        // CAST: the same bits.
        (self.cmd.as_ptr(), self.flags as c_uint)
    }

    /// Returns whether the call may wait. If it may not and would have to, the command is
    /// [done](Self::done) with `EAGAIN`, and io_uring issues it again in a context that may.
    #[inline]
    pub fn may_wait(&self) -> bool {
        self.flags & own::io_uring_cmd_flags_IO_URING_F_NONBLOCK == 0
    }

    /// Copies the command area of the submission queue entry, which has 80 bytes if entries are of
    /// 128 bytes (`IORING_SETUP_SQE128`), else 16. Use one copy: user space can write to it.
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
        // SAFETY: by the type invariants the command is being issued.
        let area = unsafe { own::phyr_blk_helper_uring_cmd_area(self.cmd.as_ptr()) };
        let mut copy = [0u64; WORDS];
        for (at, word) in copy.iter_mut().enumerate().take(words) {
            // SAFETY: the area has `words` words, and `at` is less. As user space can write to it,
            // each is read once.
            *word = unsafe { area.add(at).read_volatile() };
        }
        match C::read_from_prefix(copy.as_bytes()) {
            Ok((command, _)) => Ok(command),
            Err(_) => Err(EOPNOTSUPP),
        }
    }

    /// Ends the command by the result of the call: zero, a positive number, or an error.
    #[inline]
    pub fn done(self, result: Result<u32>) -> UringResult<'a> {
        UringResult {
            result: to_raw(result),
            _call: PhantomData,
        }
    }

    /// Splits the command into one that ends later, maybe at once on another CPU, and the result of
    /// the call, which says so.
    #[inline]
    pub(crate) fn into_pending(self) -> (Pending, UringResult<'a>) {
        let result = UringResult {
            result: EIOCBQUEUED.to_errno(),
            _call: PhantomData,
        };
        // SAFETY: by the type invariants the command is being issued; it keeps nothing.
        unsafe { own::phyr_blk_helper_uring_cmd_keep(self.cmd.as_ptr(), ptr::null_mut()) };
        // INVARIANT: the one result of the call says so.
        (Pending(self.cmd), result)
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
pub(crate) struct Pending(NonNull<bindings::io_uring_cmd>);

// SAFETY: a pending command can be completed from anywhere.
unsafe impl Send for Pending {}

// SAFETY: a shared reference to one has no methods.
unsafe impl Sync for Pending {}

impl Pending {
    /// Ends the command. The task that sent it posts the completion when it runs next.
    ///
    /// Context: any.
    ///
    /// C: `io_uring_cmd_do_in_task_lazy`, `io_uring_cmd_done`.
    #[inline]
    pub(crate) fn complete(self, result: impl Into<CommandResult>) {
        let CommandResult { result, extra } = result.into();
        let (extra, has_extra) = (extra.unwrap_or(0), extra.is_some());
        let cmd = self.into_raw();
        // SAFETY: by the type invariants the command is pending, and ends by `self`, which is given
        // up.
        unsafe { own::phyr_blk_helper_uring_cmd_complete(cmd, to_raw(result), extra, has_extra) };
    }

    /// Has the command unmap the memory of user space that `bio` is of, in the context of its task,
    /// before it ends.
    ///
    /// # Safety
    ///
    /// `bio` is the first one of a request's user memory. Nobody else unmaps it, and the request
    /// has ended when the command is completed.
    pub(crate) unsafe fn keep(&mut self, bio: *mut bindings::bio) {
        // SAFETY: by the type invariants the command is pending. The caller gives up `bio`.
        unsafe { own::phyr_blk_helper_uring_cmd_keep(self.0.as_ptr(), bio) };
    }

    /// Gives the command up as a pointer; [`Pending::from_raw`] takes it back.
    pub(crate) fn into_raw(self) -> *mut bindings::io_uring_cmd {
        ManuallyDrop::new(self).0.as_ptr()
    }

    /// Takes back a command.
    ///
    /// # Safety
    ///
    /// `cmd` comes from [`Pending::into_raw`], and is taken back once.
    pub(crate) unsafe fn from_raw(cmd: NonNull<bindings::io_uring_cmd>) -> Self {
        // INVARIANT: the caller promises that it was that of a `Pending`.
        Self(cmd)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let result = EIO.to_errno();
        // SAFETY: by the type invariants the command is pending, and ends by `self`.
        unsafe { own::phyr_blk_helper_uring_cmd_complete(self.0.as_ptr(), result, 0, false) };
    }
}

/// The result of a command that was pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandResult {
    /// Zero, a positive number, or an error: `res` of the completion.
    pub result: Result<u32>,
    /// The number after it in a completion of 32 bytes, for a command that
    /// [has one](UringCmd::has_large_cqe).
    pub extra: Option<u64>,
}

impl From<Result<u32>> for CommandResult {
    #[inline]
    fn from(result: Result<u32>) -> Self {
        Self {
            result,
            extra: None,
        }
    }
}

/// Converts to zero, or to the errno that a submitter of I/O gets.
impl From<Status> for CommandResult {
    #[inline]
    fn from(status: Status) -> Self {
        Result::from(status).map(|()| 0).into()
    }
}

/// Returns `result` as io_uring has it: never a number that looks like an error, nor `EIOCBQUEUED`,
/// which means that there is no result yet.
#[inline]
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
            assert_eq!(refuse(0, flags, false), Ok(()));
            assert_eq!(refuse(FIXED, flags, false), Err(EINVAL));
            assert_eq!(refuse(FIXED, flags, true), Ok(()));
            // `IORING_URING_CMD_MULTISHOT`, and what there may be once.
            for asks in [1 << 1, 1 << 2, u32::MAX] {
                assert_eq!(refuse(asks, flags, false), Err(EINVAL));
                assert_eq!(refuse(asks, flags, true), Err(EINVAL));
            }
            for unknown in [
                own::io_uring_cmd_flags_IO_URING_F_IOPOLL,
                own::io_uring_cmd_flags_IO_URING_F_MULTISHOT,
            ] {
                assert_eq!(refuse(0, flags | unknown, true), Err(EOPNOTSUPP));
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
