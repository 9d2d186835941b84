// SPDX-License-Identifier: GPL-2.0

//! A reference model of the planner, for tests: what an IOMMU does with a list of phyrs.
//!
//! The model knows nothing of runs: it lays page after page into a table, and then looks up every
//! byte in it. Plain Rust, without a kernel call.

use super::plan::{
    Join,
    Planner, //
};
use crate::{
    limits::Limits,
    model::{
        List,
        MAX, //
    },
    types::{
        Granule,
        Phyr, //
    }, //
};

/// Checks what the planner says of `list` against the model.
pub(crate) fn check(list: &List, granule: Granule, limits: Limits) -> Result<(), &'static str> {
    let mut planner = Planner::new(granule, limits);
    // Of each run: its place in the packed allocation and its length.
    let mut runs = [(0u64, 0u64); MAX];
    let mut nr = 0usize;

    for phyr in list.iter() {
        match planner.push(phyr).map_err(|_| "a phyr was refused")? {
            Join::Begins => nr += 1,
            Join::Extends if nr == 0 => return Err("the first phyr joined nothing"),
            Join::Extends => {}
        }
        *runs.get_mut(nr - 1).ok_or("more runs than phyrs")? = planner.last_run();
    }
    let plan = planner.plan().map_err(|_| "no plan")?;

    if plan.runs != nr || plan.phyrs != list.iter().count() {
        return Err("miscounted");
    }
    // CAST: a `usize` is at most 64 bits wide.
    if plan.bytes != list.iter().map(|phyr| phyr.len() as u64).sum() {
        return Err("the length of all is wrong");
    }
    let runs = runs.get(..nr).ok_or("more runs than phyrs")?;
    check_minimal(list, granule, limits, nr)?;
    match plan.packed {
        Some(packed) => check_table(list, granule, limits, runs, packed.len),
        None if limits.allow(u64::MAX) => Err("not packed for no reason"),
        None => Ok(()),
    }
}

/// Checks that the runs are as few as can be: counted again, by the rule as it is written in the
/// documentation.
fn check_minimal(
    list: &List,
    granule: Granule,
    limits: Limits,
    runs: usize,
) -> Result<(), &'static str> {
    let (mut nr, mut start, mut len) = (0, 0, 0);
    let mut before: Option<Phyr> = None;

    for phyr in list.iter() {
        // CAST: a `usize` is at most 64 bits wide.
        let (addr, size) = (phyr.paddr().into_raw(), phyr.len() as u64);
        let meets = before
            .is_some_and(|before| before.end() % granule.size() == 0 && addr % granule.size() == 0);
        if meets && len + size <= limits.max_len_at(start) {
            len += size;
        } else {
            nr += 1;
            start = addr % granule.size();
            len = size;
        }
        before = Some(phyr);
    }
    if nr == runs {
        Ok(())
    } else {
        Err("a run too many or too few")
    }
}

/// Checks that a device reads through the packed allocation what the phyrs say, byte for byte at
/// each granule's edges, and that the allocation has no granule that nobody needs.
fn check_table(
    list: &List,
    granule: Granule,
    limits: Limits,
    runs: &[(u64, u64)],
    packed: u64,
) -> Result<(), &'static str> {
    let g = granule.size();
    // The page table: the physical granule behind each granule of IOVA, in order of linking.
    let table = list.iter().flat_map(|phyr| {
        let first = phyr.paddr().into_raw() / g;
        (first..phyr.end().div_ceil(g)).map(move |nr| nr * g)
    });
    // CAST: a few granules a phyr.
    if table.clone().count() as u64 * g != packed {
        return Err("the allocation is not what the phyrs need");
    }

    let mut phyrs = list.iter();
    let (mut addr, mut left) = (0, 0);
    for &(start, len) in runs {
        if len > limits.max_len_at(start) {
            return Err("a run is over a limit");
        }
        let mut pos = start;
        while pos < start + len {
            if left == 0 {
                let phyr = phyrs.next().ok_or("the runs are too long")?;
                // CAST: a `usize` is at most 64 bits wide.
                (addr, left) = (phyr.paddr().into_raw(), phyr.len() as u64);
            }
            // CAST: the table is short.
            let memory = table.clone().nth((pos / g) as usize).ok_or("not linked")?;
            if memory + pos % g != addr {
                return Err("the device would see another byte");
            }
            // On to the next granule, or to the end of what is left of the phyr.
            let step = left.min(g - pos % g);
            pos += step;
            addr += step;
            left -= step;
        }
    }
    if left != 0 || phyrs.next().is_some() {
        return Err("the runs are too short");
    }
    Ok(())
}
