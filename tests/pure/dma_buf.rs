// SPDX-License-Identifier: GPL-2.0

//! As `rust/phyr/dma_buf.rs`, without what calls the kernel.

#[path = "../../rust/phyr/dma_buf/ranges.rs"]
mod ranges;
#[path = "../../rust/phyr/dma_buf/route.rs"]
mod route;

#[cfg_attr(coverage, coverage(off))]
pub mod oracle;
