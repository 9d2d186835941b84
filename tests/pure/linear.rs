// SPDX-License-Identifier: GPL-2.0

//! The files of `rust/phyr/linear` that call no kernel function.

#[path = "../../rust/phyr/linear/error.rs"]
pub(crate) mod error;
#[cfg_attr(coverage, coverage(off))]
#[path = "../../rust/phyr/linear/model.rs"]
pub(crate) mod model;
#[path = "../../rust/phyr/linear/plan.rs"]
mod plan;
#[cfg(test)]
#[path = "../../rust/phyr/linear/plan_test.rs"]
mod plan_test;

#[cfg_attr(coverage, coverage(off))]
pub mod oracle;

pub use self::error::{
    Edge,
    Limit,
    LinearError, //
};
