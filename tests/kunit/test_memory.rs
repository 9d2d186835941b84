// SPDX-License-Identifier: GPL-2.0

//! Kinds of memory on a device, and what a device may do with each.

mod changing;
mod examples;
mod pinned;
mod rights;
pub(crate) mod sources;
pub(crate) mod user;

use crate::{
    check::Outcome,
    fixture::{
        mapper_like,
        with_device, //
    }, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    uaccess::UserPtr, //
};
use phyr::{
    memory::UserPages,
    DataDirection,
    DmaVec,
    Limits, //
};

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

    #[test]
    fn vectors_and_boxes_of_vmalloc() -> Outcome {
        with_device(sources::vmalloc)
    }

    #[test]
    fn vectors_and_boxes_of_kmalloc() -> Outcome {
        with_device(sources::kmalloc)
    }

    #[test]
    fn chunks_of_each_order() -> Outcome {
        with_device(sources::chunks)
    }

    #[test]
    fn a_shared_cache_line_is_refused() -> Outcome {
        sources::shared_lines()
    }

    #[test]
    fn what_has_no_bytes_is_refused() -> Outcome {
        with_device(|_, mapper| sources::nothing(mapper))
    }

    #[test]
    fn read_only_memory_is_read_by_both() -> Outcome {
        with_device(sources::read_only)
    }

    #[test]
    fn the_same_memory_twice() -> Outcome {
        with_device(|_, mapper| sources::twice(mapper))
    }

    /// A KUnit case runs in a kernel thread.
    #[test]
    fn a_task_without_memory_has_no_pages_to_pin() -> Outcome {
        for dir in [DataDirection::ToDevice, DataDirection::FromDevice] {
            let pinned = UserPages::pin(UserPtr::from_addr(PAGE_SIZE), PAGE_SIZE, dir);
            check_eq!(pinned.map(|_| ()), Err(EFAULT));
        }
        Ok(())
    }

    #[test]
    fn tables_come_in_by_pages_and_go_out_by_addresses() -> Outcome {
        with_device(|_, mapper| sources::tables(mapper))
    }

    #[test]
    fn a_table_of_c_is_carried() -> Outcome {
        with_device(pinned::table)
    }

    #[test]
    fn bio_vecs_are_carried() -> Outcome {
        with_device(pinned::bio_vecs)
    }

    #[test]
    fn a_range_is_carried() -> Outcome {
        with_device(pinned::range)
    }

    /// In a domain of the driver's own there is no coherent memory.
    #[test]
    fn coherent_memory_is_carried() -> Outcome {
        with_device(|pdev, mapper| match crate::wants_domain() {
            true => Ok(()),
            false => pinned::coherent(pdev, mapper),
        })
    }

    #[test]
    fn a_source_that_changes_is_refused() -> Outcome {
        with_device(|_, mapper| changing::changing(mapper))
    }

    #[test]
    fn a_source_may_change_between_plan_and_mapping() -> Outcome {
        with_device(|_, mapper| changing::rereading(mapper))
    }

    #[test]
    fn memory_of_a_program_is_carried() -> Outcome {
        with_device(user::carried)
    }

    #[test]
    fn memory_of_a_program_has_the_rights_of_its_pin() -> Outcome {
        with_device(|_, mapper| user::rights(mapper))
    }

    #[test]
    fn memory_of_a_program_is_dirty_if_it_was_written() -> Outcome {
        with_device(|_, mapper| user::dirtied(mapper))
    }

    #[test]
    fn memory_of_a_program_is_pinned_as_often_as_it_is_used() -> Outcome {
        with_device(user::twice)
    }

    #[test]
    fn memory_that_a_program_does_not_have_is_refused() -> Outcome {
        user::refused()
    }

    #[test]
    fn memory_of_a_program_is_charged_to_its_user() -> Outcome {
        user::charged_to_the_user()
    }

    #[test]
    fn a_signal_ends_the_pinning() -> Outcome {
        user::interrupted()
    }

    /// They start no device.
    #[test]
    fn examples_of_the_documentation() -> Outcome {
        struct Nothing;

        impl examples::Start for Nothing {
            fn start(&self, vec: DmaVec) {
                pr_debug!("{vec:?}\n");
            }
        }
        with_device(|_, mapper| {
            // As a driver limits its segments to what can be bounced.
            // CAST: a `usize` is at most 64 bits wide.
            let max = mapper.max_mapping_size() as u64;
            let mapper = mapper_like(mapper, check_some!(Limits::NONE.with_max_segment(max)))?;
            Ok(examples::run(&mapper, &Nothing, crate::wants_domain())?)
        })
    }

    /// Only where it is asked for (`faults=1`), as the kernel logs the fault.
    #[test]
    fn a_write_to_read_only_memory_faults() -> Outcome {
        with_device(|pdev, mapper| {
            if mapper.granule().is_none() || !crate::wants_faults() {
                return Ok(());
            }
            user::faults(pdev, mapper)?;
            sources::faults(pdev, mapper)
        })
    }
}
