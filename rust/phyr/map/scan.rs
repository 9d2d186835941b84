// SPDX-License-Identifier: GPL-2.0

//! A look at the phyrs of a source before they are mapped: whether they are one run, and within the
//! limits of the device. Entry points: [`run_len`] for a source, [`Scan::push`] for a phyr each.

use crate::{
    limits::Limits,
    pinned::PinnedPhyr,
    types::{
        Granule,
        Phyr, //
    }, //
};
use core::num::NonZeroUsize;
use kernel::prelude::*;

/// Facts that a look at the phyrs of a source has found.
pub(super) struct Scan {
    granule: Granule,
    /// Number of phyrs.
    pub(super) phyrs: usize,
    /// Their length in bytes.
    len: usize,
    /// The physical end of the last.
    end: u64,
    /// The offset in its granule of the first.
    offset: u64,
    /// No gap was found.
    joins: bool,
}

impl Scan {
    #[inline]
    pub(super) fn new(granule: Granule) -> Self {
        Self {
            granule,
            phyrs: 0,
            len: 0,
            end: 0,
            offset: 0,
            joins: true,
        }
    }

    /// Looks at the next phyr.
    ///
    /// # Errors
    ///
    /// - `EMSGSIZE`: it is over a limit.
    /// - `EOVERFLOW`: the length of all overflows.
    #[inline]
    pub(super) fn push(&mut self, phyr: Phyr, limits: &Limits) -> Result {
        check(limits, phyr)?;
        let start = phyr.paddr().into_raw();
        if self.phyrs == 0 {
            self.offset = self.granule.offset(start);
        } else {
            self.joins &= self.granule.joins(self.end, start);
        }
        self.phyrs += 1;
        self.end = phyr.end();
        self.len = self.len.checked_add(phyr.len()).ok_or(EOVERFLOW)?;
        Ok(())
    }

    /// Returns the length of all phyrs, if they are one run.
    #[inline]
    pub(super) fn run(&self, limits: &Limits) -> Option<NonZeroUsize> {
        // CAST: a `usize` is at most 64 bits wide.
        let is_run = self.joins && limits.allow_range(self.offset, self.len as u64);
        NonZeroUsize::new(self.len).filter(|_| is_run)
    }
}

/// Returns the length of all phyrs of a source, if they are one run: the look ends at the first
/// gap.
///
/// # Errors
///
/// Those of [`Scan::push`]; what the source fails with.
#[inline]
pub(super) fn run_len(
    phyrs: impl Iterator<Item = Result<PinnedPhyr>>,
    granule: Granule,
    limits: &Limits,
) -> Result<Option<NonZeroUsize>> {
    let mut scan = Scan::new(granule);
    for phyr in phyrs {
        scan.push(phyr?.phyr(), limits)?;
        if !scan.joins {
            return Ok(None);
        }
    }
    Ok(scan.run(limits))
}

/// Checks that `phyr` is a segment within `limits`.
///
/// # Errors
///
/// - `EMSGSIZE`: it is not.
#[inline]
pub(super) fn check(limits: &Limits, phyr: Phyr) -> Result {
    // CAST: a `usize` is at most 64 bits wide.
    if limits.allow_range(phyr.paddr().into_raw(), phyr.len() as u64) {
        return Ok(());
    }
    Err(EMSGSIZE)
}
