// SPDX-License-Identifier: GPL-2.0

//! Kinds of memory on a device, and what a device may do with each.

mod rights;

use crate::{
    check::Outcome,
    fixture::with_device, //
};
use kernel::prelude::*;

#[kunit_tests(phyr_device_memory)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_checked_by_each_way_to_map() -> Outcome {
        with_device(|_, mapper| {
            if crate::wants_domain() {
                return Ok(());
            }
            rights::by_mapper(mapper)
        })
    }

    #[test]
    fn rights_to_a_list_are_those_to_all_of_it() -> Outcome {
        with_device(|_, mapper| rights::of_others(mapper))
    }

    #[test]
    fn rights_are_checked_in_a_domain() -> Outcome {
        rights::in_a_domain()
    }
}
