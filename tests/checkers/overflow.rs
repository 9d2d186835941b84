// SPDX-License-Identifier: GPL-2.0

//! What only Rust can do wrong, for the C module beside it (`broken.c`).

use kernel::prelude::*;

/// A sum that does not fit: `CONFIG_RUST_OVERFLOW_CHECKS` makes it a panic, which is a `BUG()`.
#[no_mangle]
pub extern "C" fn phyr_broken_overflow(by: u32) -> u32 {
    core::hint::black_box(u32::MAX) + by
}

/// A byte that is freed, read by Rust: KASAN sees the code of Rust modules, too.
#[no_mangle]
pub extern "C" fn phyr_broken_rust_uaf() -> u8 {
    let Ok(bytes) = KBox::new([0x42_u8; 256], GFP_KERNEL) else {
        return 0;
    };
    let freed = core::hint::black_box(bytes.as_ptr());
    drop(bytes);
    // SAFETY: none: it is freed, on purpose.
    unsafe { freed.read_volatile() }
}
