// SPDX-License-Identifier: GPL-2.0

//! Bugs that need Rust, for the C module beside it (`broken.c`).

use kernel::prelude::*;

/// Adds numbers whose sum does not fit. With `CONFIG_RUST_OVERFLOW_CHECKS` that panics, which is a
/// `BUG()`.
#[no_mangle]
pub extern "C" fn phyr_broken_overflow(by: u32) -> u32 {
    core::hint::black_box(u32::MAX) + by
}

/// Reads a byte that was freed. KASAN instruments Rust modules, too.
#[no_mangle]
pub extern "C" fn phyr_broken_rust_uaf() -> u8 {
    let Ok(bytes) = KBox::new([0x42_u8; 256], GFP_KERNEL) else {
        return 0;
    };
    let freed = core::hint::black_box(bytes.as_ptr());
    drop(bytes);
    // SAFETY: This is unsound on purpose: the memory was freed.
    unsafe { freed.read_volatile() }
}
