// SPDX-License-Identifier: GPL-2.0

//! As `rust/iommu`, without what calls the kernel.

#[path = "../../rust/iommu/pages.rs"]
mod pages;

#[cfg_attr(coverage, coverage(off))]
pub mod oracle;
