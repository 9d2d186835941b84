// SPDX-License-Identifier: GPL-2.0

//! Generated bindings of what the kernel's own do not carry.

phyr::include_bindings!("iommu");
