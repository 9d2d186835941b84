// SPDX-License-Identifier: GPL-2.0

//! Mapping: from memory to the ranges that the device sees, and back.
//!
//! In the order in which memory passes them:
//!
//! - `scatter`, [`mapping`], [`batch`]: the ways to ask for it; `mapping` has the CPU's turn, too.
//! - `choose`: the one decision, by which strategy it is mapped.
//! - `plan`: runs, for memory that may have gaps.
//! - `exec`: one function a strategy; `layout`: slots meanwhile; `range`, `segments`: what is
//!   mapped so far, to be undone where it fails.
//! - `dma_api`: the calls of the kernel; `diagnose`, `failure`: why one has failed.
//! - [`state`]: what is kept to unmap.
//! - `unsynced`: many mappings made visible to the device at once.
//! - `unmap_batch`: many mappings ended with one flush.

pub mod batch;
pub(crate) mod choose;
mod diagnose;
pub(crate) mod dma_api;
mod exec;
mod failure;
mod layout;
pub mod mapping;
pub(crate) mod plan;
#[cfg(CONFIG_KUNIT = "y")]
mod plan_model;
#[cfg(CONFIG_KUNIT = "y")]
mod plan_test;
pub(crate) mod range;
mod scatter;
mod segments;
pub(crate) mod state;
pub(crate) mod unmap_batch;
pub(crate) mod unsynced;
