// SPDX-License-Identifier: GPL-2.0

//! For tests: random numbers, and a naive model of what an IOMMU does with a list of phyrs.
//!
//! The model knows nothing of runs: it lays page after page into a table, and then looks up every
//! byte in it. Plain Rust, without a kernel call.

use super::{
    linear::{
        Edge,
        NotLinear, //
    },
    plan::{
        Limits,
        Place,
        Planner, //
    },
    types::{
        Granule,
        Phyr, //
        PhysAddr,
    }, //
};

/// Numbers that look random and are the same in every run (xorshift64).
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        // Zero is the one state that xorshift does not leave.
        Self(if seed == 0 { 1 } else { seed })
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The most phyrs of a random list.
pub(crate) const MAX: usize = 24;

/// A list of phyrs, at most [`MAX`].
pub(crate) struct List {
    phyrs: [Option<Phyr>; MAX],
}

impl List {
    /// Up to [`MAX`] phyrs of up to four granules, many of them aligned, none adjacent to the one
    /// before.
    pub(crate) fn random(random: &mut Random, granule: Granule) -> Self {
        let g = granule.size();
        let mut phyrs = [None; MAX];
        // CAST: at most `MAX`.
        let nr = 1 + random.below(MAX as u64) as usize;
        let mut last = 0;

        for phyr in phyrs.iter_mut().take(nr) {
            let (offset, mut len) = match random.below(3) {
                0 => (random.below(g), 1 + random.below(4 * g)),
                1 => (0, 1 + random.below(4 * g)),
                _ => (0, g * (1 + random.below(4))),
            };
            // One in four ends where a granule does.
            if random.below(4) == 0 {
                len = granule.align_up(offset + len).unwrap_or(len) - offset;
            }
            let mut paddr = g * (1 + random.below(1 << 20)) + offset;
            if paddr == last {
                paddr += 8 * g;
            }
            // CAST: a few granules fit in any `usize`.
            *phyr = Phyr::new(PhysAddr::from_raw(paddr), len as usize).ok();
            last = paddr + len;
        }
        Self { phyrs }
    }

    /// As [`List::random`], but likely to be linear: most phyrs are whole granules or adjacent to
    /// the one before.
    pub(crate) fn almost_linear(random: &mut Random, granule: Granule) -> Self {
        let g = granule.size();
        let mut phyrs = [None; MAX];
        // CAST: at most `MAX`.
        let nr = 1 + random.below(MAX as u64) as usize;
        let mut end = g * (1 + random.below(64)) + random.below(2) * random.below(g);

        for phyr in phyrs.iter_mut().take(nr) {
            let start = match random.below(16) {
                0 => g * (1 + random.below(64)) + random.below(g),
                1..=4 => end,
                _ => g * (1 + random.below(64)),
            };
            let len = match random.below(16) {
                0 => 1 + random.below(3 * g),
                // To the end of a granule.
                1..=4 => granule.align_up(start + 1).unwrap_or(start) - start,
                _ => g * (2 + random.below(3)) - granule.offset(start),
            };
            // CAST: a few granules fit in any `usize`.
            *phyr = Phyr::new(PhysAddr::from_raw(start), len.max(1) as usize).ok();
            end = start + len.max(1);
        }
        Self { phyrs }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Phyr> + Clone + '_ {
        self.phyrs.iter().flatten().copied()
    }
}

/// What is over [`MAX`] is left out.
impl FromIterator<Phyr> for List {
    fn from_iter<I: IntoIterator<Item = Phyr>>(list: I) -> Self {
        let mut phyrs = [None; MAX];
        for (place, phyr) in phyrs.iter_mut().zip(list) {
            *place = Some(phyr);
        }
        Self { phyrs }
    }
}

/// Checks the planner's word on `list` against the model; says what is wrong.
pub(crate) fn check(list: &List, granule: Granule, limits: Limits) -> Result<(), &'static str> {
    let mut planner = Planner::new(granule, limits);
    // Of each run: its place in the packed allocation and its length.
    let mut runs = [(0u64, 0u64); MAX];
    let mut nr = 0usize;

    for phyr in list.iter() {
        match planner.push(phyr).map_err(|_| "a phyr was refused")? {
            Place::Begins => nr += 1,
            Place::Joins if nr == 0 => return Err("the first phyr joined nothing"),
            Place::Joins => {}
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

/// The runs are as few as can be: counted again, by the rule as it is written in the documentation.
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
        if meets && len + size <= limits.room(start) {
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

/// What a device reads through the packed allocation is what the phyrs say, byte for byte at each
/// granule's edges, and the allocation has no granule that nobody needs.
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
        if len > limits.room(start) {
            return Err("a run is over a limit");
        }
        let mut pos = start;
        while pos < start + len {
            if left == 0 {
                let phyr = phyrs.next().ok_or("the runs are too long")?;
                // CAST: as above.
                (addr, left) = (phyr.paddr().into_raw(), phyr.len() as u64);
            }
            // CAST: the table is short.
            let behind = table.clone().nth((pos / g) as usize).ok_or("not linked")?;
            if behind + pos % g != addr {
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

/// Why one range cannot lead to the phyrs of `list`, or `None` if it can: at the first phyr with
/// which it cannot, as found out byte by byte.
pub(crate) fn first_break(list: &List, granule: Option<Granule>) -> Option<NotLinear> {
    let nr = (1..=list.iter().count()).find(|&nr| !is_linear(list.iter().take(nr), granule))?;
    let phyr = nr - 1;
    // CAST: a `usize` is at most 64 bits wide.
    let offset = list.iter().take(phyr).map(|phyr| phyr.len() as u64).sum();
    let Some(granule) = granule else {
        return Some(NotLinear::NotTranslated { phyr, offset });
    };
    let misaligned = |phyr, edge| NotLinear::Misaligned {
        phyr,
        edge,
        offset,
        granule: granule.size(),
    };
    let end = list.iter().nth(phyr - 1)?.end();
    let start = list.iter().nth(phyr)?.paddr().into_raw();
    Some(match (end % granule.size(), start % granule.size()) {
        (0, _) => misaligned(phyr, Edge::Start),
        (_, 0) => misaligned(phyr - 1, Edge::End),
        _ => NotLinear::Gap { phyr, offset },
    })
}

/// Whether one range can lead to `phyrs`: each granule of the range leads to one granule of memory,
/// or without an IOMMU each byte to the one behind the last.
fn is_linear(phyrs: impl Iterator<Item = Phyr> + Clone, granule: Option<Granule>) -> bool {
    let first = phyrs
        .clone()
        .next()
        .map_or(0, |phyr| phyr.paddr().into_raw());
    let mut bytes = phyrs.flat_map(|phyr| phyr.paddr().into_raw()..phyr.end());
    let Some(granule) = granule else {
        return bytes.zip(first..).all(|(byte, expected)| byte == expected);
    };
    let mut behind = None;
    (granule.offset(first)..)
        .zip(&mut bytes)
        .all(|(addr, byte)| {
            if granule.aligned(addr) {
                behind = None;
            }
            granule.offset(addr) == granule.offset(byte)
                && *behind.get_or_insert(granule.align_down(byte)) == granule.align_down(byte)
        })
}
