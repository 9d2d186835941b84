// SPDX-License-Identifier: GPL-2.0

//! The files of `rust/phyr/source` that call no kernel function.

#[path = "../../rust/phyr/source/segments.rs"]
pub(crate) mod segments;

#[cfg_attr(coverage, coverage(off))]
pub mod oracle;

pub use self::segments::Segments;
