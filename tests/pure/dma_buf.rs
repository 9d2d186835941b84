// SPDX-License-Identifier: GPL-2.0

//! As `rust/dma_buf`, without what calls the kernel.

#[path = "../../rust/dma_buf/ranges.rs"]
mod ranges;
#[path = "../../rust/dma_buf/route.rs"]
mod route;

#[cfg_attr(coverage, coverage(off))]
pub mod oracle;
