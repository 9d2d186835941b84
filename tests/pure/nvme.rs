// SPDX-License-Identifier: GPL-2.0

//! As `samples/rust_nvme/rust_nvme.rs`, without what calls the kernel.

#[path = "../../samples/rust_nvme/cmd.rs"]
mod cmd;
#[path = "../../samples/rust_nvme/desc.rs"]
mod desc;
#[path = "../../samples/rust_nvme/format.rs"]
mod format;
#[path = "../../samples/rust_nvme/identify.rs"]
mod identify;
#[path = "../../samples/rust_nvme/layout.rs"]
mod layout;
#[path = "../../samples/rust_nvme/limits.rs"]
mod limits;
#[path = "../../samples/rust_nvme/map.rs"]
mod map;
#[path = "../../samples/rust_nvme/names.rs"]
mod names;
#[path = "../../samples/rust_nvme/namespace.rs"]
mod namespace;
#[path = "../../samples/rust_nvme/prp.rs"]
mod prp;
#[path = "../../samples/rust_nvme/sgl.rs"]
mod sgl;
#[cfg(test)]
#[cfg_attr(coverage, coverage(off))]
#[path = "../../samples/rust_nvme/tests.rs"]
mod tests;
#[path = "../../samples/rust_nvme/uapi.rs"]
mod uapi;
#[path = "../../samples/rust_nvme/user_command.rs"]
mod user_command;

#[cfg_attr(coverage, coverage(off))]
pub mod commands;
#[cfg_attr(coverage, coverage(off))]
mod controller;
#[cfg_attr(coverage, coverage(off))]
pub mod descriptors;
#[cfg_attr(coverage, coverage(off))]
pub mod places;
