// SPDX-License-Identifier: GPL-2.0

//! The pure part of the project in user space: the same files, in a tree of modules with the same
//! names, on top of a stand-in for the kernel crate (`kernel.rs`).
//!
//! Beside the files' own tests there is an oracle for each: [`ORACLES`]. An oracle makes a case out
//! of bytes ([`Input`]), gives it to the code, and to a reference that works in another way, and
//! panics where the two differ. The tests run them on random bytes, the fuzzer (`--cfg fuzz`) on
//! those that it finds to lead to new places in the code.

#![cfg_attr(fuzz, no_main)]
#![cfg_attr(coverage, feature(coverage_attribute))]
// Half of the callers are in the kernel.
#![allow(dead_code)]

extern crate self as phyr;
extern crate self as phyr_blk;

#[path = "../../rust/phyr/dma_vec.rs"]
mod dma_vec;
#[path = "../../rust/phyr/limits.rs"]
mod limits;
#[cfg_attr(coverage, coverage(off))]
#[path = "../../rust/phyr/model.rs"]
mod model;
#[path = "../../rust/phyr/types.rs"]
mod types;

mod dma_buf;
mod linear;
mod map;
mod nvme;
mod source;
#[cfg(test)]
#[cfg_attr(coverage, coverage(off))]
mod strategies;

#[cfg_attr(coverage, coverage(off))]
mod input;
#[cfg_attr(coverage, coverage(off))]
mod numbers;
#[cfg_attr(coverage, coverage(off))]
mod planner;
#[cfg_attr(coverage, coverage(off))]
mod ranges;

pub use self::{
    dma_vec::part,
    input::Input,
    limits::Limits,
    types::{
        BadPhyr,
        DmaAddr,
        DmaVec,
        Granule,
        Phyr, //
        PhysAddr,
    }, //
};

/// Stands in for the one of `rust/blk/char_dev.rs`, a file that calls the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode {
    pub read: bool,
    pub write: bool,
}

/// `oracles!(NAME PATH, ...)`: the table of them, and a test for each.
macro_rules! oracles {
    ($($name:ident $check:path,)*) => {
        /// All oracles by name, in an order that the fuzzer's corpus relies on: append.
        pub const ORACLES: &[(&str, fn(&mut Input<'_>))] = &[$((stringify!($name), $check),)*];

        #[cfg(test)]
        #[cfg_attr(coverage, coverage(off))]
        mod oracles {
            use super::*;

            $(#[test]
            fn $name() {
                input::run_random(stringify!($name), $check);
            })*
        }
    };
}

oracles! {
    types ranges::check,
    planner planner::check,
    planner_at_the_model planner::check_model,
    linear linear::oracle::check,
    linear_at_the_model linear::oracle::check_model,
    segments source::oracle::check,
    entries dma_buf::oracle::check_cut,
    clipped dma_buf::oracle::check_clip,
    joined dma_buf::oracle::check_join,
    prp nvme::descriptors::check_prp,
    sgl nvme::descriptors::check_sgl,
    format nvme::descriptors::check_format,
    lists nvme::descriptors::check_lists,
    map nvme::places::check,
    commands nvme::commands::check_user_command,
    words nvme::commands::check_words,
    identify nvme::commands::check_identify,
    limits numbers::check_limits,
    part numbers::check_part,
    map_error numbers::check_map_error,
    descriptors nvme::commands::check_descriptors,
    disk_limits nvme::commands::check_disk_limits,
}

/// Entry point of libFuzzer. The first byte is the oracle's number.
///
/// # Safety
///
/// There are `len` bytes at `data`, valid for reads.
#[cfg(fuzz)]
#[no_mangle]
pub unsafe extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, len: usize) -> i32 {
    if len == 0 {
        return -1;
    }
    // SAFETY: the caller promises that `data` is valid for reads of `len` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(data, len) };
    let Some((_, check)) = ORACLES.get(usize::from(bytes[0])) else {
        // Not to be kept in the corpus.
        return -1;
    };
    check(&mut Input::new(&bytes[1..]));
    0
}
