// SPDX-License-Identifier: GPL-2.0

//! As `rust/phyr/source.rs`, without what calls the kernel.

#[path = "../../rust/phyr/source/segments.rs"]
pub(crate) mod segments;

#[cfg_attr(coverage, coverage(off))]
pub mod oracle;

pub use self::segments::Segments;
