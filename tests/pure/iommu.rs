// SPDX-License-Identifier: GPL-2.0

//! As `rust/phyr/iommu.rs`, without what calls the kernel.

#[path = "../../rust/phyr/iommu/pages.rs"]
mod pages;

#[cfg_attr(coverage, coverage(off))]
pub mod oracle;
