// SPDX-License-Identifier: GPL-2.0

//! As `rust/phyr/map.rs`, without what calls the kernel.

#[path = "../../rust/phyr/map/choose.rs"]
pub(crate) mod choose;
#[path = "../../rust/phyr/map/failure.rs"]
pub(crate) mod failure;
#[path = "../../rust/phyr/map/plan.rs"]
pub(crate) mod plan;
#[cfg_attr(coverage, coverage(off))]
#[path = "../../rust/phyr/map/plan_model.rs"]
pub(crate) mod plan_model;
#[cfg_attr(coverage, coverage(off))]
#[path = "../../rust/phyr/map/plan_test.rs"]
mod plan_test;
