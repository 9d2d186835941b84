// SPDX-License-Identifier: GPL-2.0

//! Callbacks whose C prototype has an enumeration, with the type that kCFI sees in C.
//!
//! Before C calls through a pointer, a kernel with `CONFIG_CFI` compares a hash of the type that it
//! expects with the one in front of the function. In C an enumeration is a type of its own there.
//! The kernel's bindings have these two as `u32`, so that a Rust function of just the field's type
//! has another hash, and the first call traps. The types here are passed as a `u32` is, and are
//! hashed as C does it; the kernel's own `bindgen_parameters` do the same for other enumerations.
//!
//! `tests/host/kcfi` compares the hashes of all callbacks with those of C.

use kernel::{
    bindings,
    prelude::*, //
};

/// `enum blk_eh_timer_return`, as what [`Timeout`] returns.
#[repr(transparent)]
#[cfi_encoding = "19blk_eh_timer_return"]
pub(crate) struct EhTimerReturn(pub(crate) bindings::blk_eh_timer_return);

/// `enum rq_end_io_ret`, as what [`EndIo`] returns.
#[repr(transparent)]
#[cfi_encoding = "13rq_end_io_ret"]
pub(crate) struct RqEndIoRet(pub(crate) bindings::rq_end_io_ret);

/// The type in C of `timeout` in `struct blk_mq_ops`.
type Timeout = unsafe extern "C" fn(*mut bindings::request) -> EhTimerReturn;

/// The type in C of `end_io` in `struct request`: `rq_end_io_fn *`.
type EndIo = unsafe extern "C" fn(
    *mut bindings::request,
    bindings::blk_status_t,
    *const bindings::io_comp_batch,
) -> RqEndIoRet;

/// As [`EndIo`], but with what the kernel's bindings have for its result.
type RawEndIo = unsafe extern "C" fn(
    *mut bindings::request,
    bindings::blk_status_t,
    *const bindings::io_comp_batch,
) -> bindings::rq_end_io_ret;

/// Sizes and alignments that the conversions below rely on, besides `repr(transparent)`.
const _: () = {
    assert!(size_of::<EhTimerReturn>() == size_of::<c_uint>());
    assert!(align_of::<EhTimerReturn>() == align_of::<c_uint>());
    assert!(size_of::<RqEndIoRet>() == size_of::<c_uint>());
    assert!(align_of::<RqEndIoRet>() == align_of::<c_uint>());
};

/// Returns `f` as the kernel's bindings have the field [`Timeout`] is for.
pub(crate) const fn timeout(
    f: Timeout,
) -> unsafe extern "C" fn(*mut bindings::request) -> bindings::blk_eh_timer_return {
    // SAFETY: both are pointers to functions, of one signature but for the result, and
    // `EhTimerReturn` is a transparent wrapper of the other's: it is returned the same way.
    unsafe { core::mem::transmute::<Timeout, _>(f) }
}

/// Returns `f` as the kernel's bindings have the field [`EndIo`] is for.
pub(crate) const fn end_io(f: EndIo) -> RawEndIo {
    // SAFETY: both are pointers to functions, of one signature but for the result, and `RqEndIoRet`
    // is a transparent wrapper of the other's: it is returned the same way.
    unsafe { core::mem::transmute::<EndIo, RawEndIo>(f) }
}
