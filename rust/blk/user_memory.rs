// SPDX-License-Identifier: GPL-2.0

//! Memory of user space as the data of a request.
//!
//! The block layer pins the pages for as long as the request takes, and marks those dirty that the
//! device wrote; or it copies, where the device cannot take the memory as it is. To the
//! driver it is a request with pages like any other.
//!
//! C: [`block/blk-map.c`](srctree/block/blk-map.c).

use super::{
    bindings as own,
    uring::UringCmd, //
};
use core::{
    mem::MaybeUninit,
    ptr, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    uaccess::UserPtr, //
};
use phyr::fail::{
    self,
    Point, //
};

/// Memory of the task that sends a request: its data.
#[derive(Clone, Copy)]
pub enum UserMemory {
    /// So many bytes from an address on.
    Range(UserPtr, u32),
    /// A `struct iovec` array of so many elements.
    Vector(UserPtr, u32),
}

impl UserMemory {
    /// Returns the address, the length, and whether it is that of an array.
    fn parts(self) -> (UserPtr, u32, bool) {
        match self {
            Self::Range(addr, len) => (addr, len, false),
            Self::Vector(addr, len) => (addr, len, true),
        }
    }
}

/// `REQ_OP_MASK & 1`: the operations with this bit write.
const WRITES: u32 = 1;

/// Returns the direction of the data of `rq`, as C has it: `READ` or `WRITE`.
///
/// # Safety
///
/// `rq` is valid, and owned by the caller.
unsafe fn data_dir(rq: *const bindings::request) -> c_int {
    // SAFETY: the caller promises that `rq` is valid.
    // CAST: one bit.
    (unsafe { (*rq).cmd_flags } & WRITES) as c_int
}

/// Makes `memory` of the calling task the data of `rq`.
///
/// # Errors
///
/// Those of `blk_rq_map_user_io()`: see
/// [`execute_and_wait`](super::PassthroughRequest::execute_and_wait).
///
/// # Safety
///
/// `rq` is a passthrough request without data that was not executed, and owned by the caller, who
/// [unmaps](unmap) its bio when it has ended.
pub(crate) unsafe fn map(rq: *mut bindings::request, memory: UserMemory) -> Result {
    let (addr, len, is_vector) = memory.parts();
    // The block layer would pin pages of none.
    current!().mm().ok_or(EFAULT)?;
    fail::at(Point::blk_rq_map_user_io)?;
    // SAFETY: the caller promises that `rq` is a request without data that it owns. The address
    // is one of user space, which the block layer checks.
    // CAST: a `usize` has at least 32 bits.
    to_result(unsafe {
        bindings::blk_rq_map_user_io(
            rq,
            ptr::null_mut(),
            addr.as_mut_ptr(),
            len as usize,
            bindings::GFP_KERNEL,
            is_vector,
            0,
            false,
            data_dir(rq),
        )
    })
}

/// Makes `memory` the data of `rq`: of the calling task, or of the buffer that was registered with
/// the ring, as `cmd` says.
///
/// # Errors
///
/// Those of [`map`], and those of io_uring for memory that is not in the buffer.
///
/// # Safety
///
/// As for [`map`], and `cmd` ends after the request.
pub(crate) unsafe fn map_for(
    cmd: &UringCmd<'_>,
    rq: *mut bindings::request,
    memory: UserMemory,
) -> Result {
    if !cmd.is_fixed() {
        // SAFETY: the caller promises of `rq` what `map` asks.
        return unsafe { map(rq, memory) };
    }
    let mut iter = MaybeUninit::uninit();
    let (addr, len, is_vector) = memory.parts();
    let (cmd, flags) = cmd.as_raw();
    // SAFETY: the caller promises that `rq` is valid.
    let dir = unsafe { data_dir(rq) };
    fail::at(Point::io_uring_cmd_import_fixed)?;
    // SAFETY: the command is being issued with these flags, and asks for a registered buffer;
    // `iter` may be written.
    // CAST: a `usize` has at least 32 bits, and no more than 64.
    to_result(unsafe {
        if is_vector {
            let vecs = addr.as_const_ptr().cast();
            own::phyr_blk_helper_uring_cmd_import_vec(
                cmd,
                vecs,
                len as usize,
                dir,
                iter.as_mut_ptr(),
                flags,
            )
        } else {
            let addr = addr.as_const_ptr().addr() as u64;
            own::phyr_blk_helper_uring_cmd_import(
                cmd,
                addr,
                len as usize,
                dir,
                iter.as_mut_ptr(),
                flags,
            )
        }
    })?;
    fail::at(Point::blk_rq_map_user_io)?;
    // SAFETY: the caller promises that `rq` is a request without data that it owns. `iter` was
    // filled in just now, with memory that the command holds until it ends.
    to_result(unsafe {
        let queue = (*rq).q;
        let iter = iter.as_ptr();
        bindings::blk_rq_map_user_iov(queue, rq, ptr::null_mut(), iter, bindings::GFP_KERNEL)
    })
}

/// Unmaps the memory that `bio` is of; none if it is null.
///
/// Context: process context, may sleep. Memory that was copied, and that the device has written, is
/// copied back only in the task that has mapped it.
///
/// # Errors
///
/// - `EFAULT`: the memory is not there any more.
/// - `EINTR`: this is not the task.
///
/// # Safety
///
/// `bio` is null or was the first bio of a request when it was [mapped](map), which has ended or
/// will never be executed. It is not used any more.
pub(crate) unsafe fn unmap(bio: *mut bindings::bio) -> Result {
    // SAFETY: the caller promises that `bio` is the first of those that were mapped, or null.
    to_result(unsafe { bindings::blk_rq_unmap_user(bio) })
}
