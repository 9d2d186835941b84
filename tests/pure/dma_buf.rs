// SPDX-License-Identifier: GPL-2.0

//! The files of `rust/dma_buf` that call no kernel function.

#[path = "../../rust/dma_buf/ranges.rs"]
mod ranges;
#[path = "../../rust/dma_buf/route.rs"]
mod route;

#[cfg_attr(coverage, coverage(off))]
pub mod oracle;
