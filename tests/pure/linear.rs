// SPDX-License-Identifier: GPL-2.0

//! As `rust/phyr/linear.rs`, without what calls the kernel.

#[path = "../../rust/phyr/linear/plan.rs"]
mod plan;
#[cfg(test)]
#[path = "../../rust/phyr/linear/plan_test.rs"]
mod plan_test;
#[path = "../../rust/phyr/linear/reason.rs"]
mod reason;

#[cfg_attr(coverage, coverage(off))]
pub mod oracle;

pub use self::reason::{
    Edge,
    Limit,
    NotLinear, //
};
