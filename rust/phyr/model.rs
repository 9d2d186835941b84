// SPDX-License-Identifier: GPL-2.0

//! Random numbers and lists of phyrs, for tests.
//!
//! Plain Rust, without a kernel call.

use super::types::{
    Granule,
    Phyr, //
    PhysAddr,
};

/// Numbers that look random and are the same in every run (xorshift64).
pub struct Random(u64);

impl Random {
    /// Begins a sequence.
    pub const fn new(seed: u64) -> Self {
        // Zero is the one state that xorshift does not leave.
        Self(if seed == 0 { 1 } else { seed })
    }

    /// Returns a number below `limit`, or zero if `limit` is zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.checked_rem(limit).unwrap_or(0)
    }
}

/// The most phyrs of a random list.
pub(crate) const MAX: usize = 24;

/// A list of phyrs, at most [`MAX`].
pub(crate) struct List {
    phyrs: [Option<Phyr>; MAX],
}

impl List {
    /// Makes up to [`MAX`] phyrs of up to four granules, many of them aligned, none adjacent to the
    /// one before.
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

    /// Makes a list that is likely to be linear: most phyrs are whole granules or adjacent to the
    /// one before.
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

/// Phyrs over [`MAX`] are left out.
impl FromIterator<Phyr> for List {
    fn from_iter<I: IntoIterator<Item = Phyr>>(list: I) -> Self {
        let mut phyrs = [None; MAX];
        for (place, phyr) in phyrs.iter_mut().zip(list) {
            *place = Some(phyr);
        }
        Self { phyrs }
    }
}
