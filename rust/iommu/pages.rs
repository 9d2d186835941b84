// SPDX-License-Identifier: GPL-2.0

//! With which sizes of page an IOMMU maps a range: what `iommu_map()` does, worked out beforehand.
//!
//! Plain Rust, without a kernel call.
//!
//! C: `iommu_pgsize()` ([`drivers/iommu/iommu.c`](srctree/drivers/iommu/iommu.c)).

/// How many pages of each size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSizes {
    /// The number of pages of `1 << n` bytes, at `n`.
    counts: [u64; 64],
}

impl Default for PageSizes {
    fn default() -> Self {
        Self { counts: [0; 64] }
    }
}

impl PageSizes {
    /// The number of pages of `size` bytes; zero for what is no power of two.
    pub fn count(&self, size: u64) -> u64 {
        if !size.is_power_of_two() {
            return 0;
        }
        // CAST: below 64.
        self.counts
            .get(size.trailing_zeros() as usize)
            .copied()
            .unwrap_or(0)
    }

    /// Calls `f` with each size of which there are pages, in ascending order, and their number.
    pub fn for_each(&self, mut f: impl FnMut(u64, u64)) {
        for (shift, &count) in self.counts.iter().enumerate() {
            if count != 0 {
                f(1 << shift, count);
            }
        }
    }

    /// Adds the pages with which `len` bytes at `paddr` are mapped at `iova`, by an IOMMU with the
    /// page sizes `bits`. All are multiples of the smallest size.
    pub(crate) fn add(&mut self, bits: u64, mut iova: u64, mut paddr: u64, mut len: u64) {
        while len != 0 {
            let Some(shift) = largest_fit(bits, iova | paddr, len) else {
                return;
            };
            let size = 1u64 << shift;
            // On to where a larger page could begin, or to the end.
            let larger = bits & !(size | (size - 1));
            let mut step = len - len % size;
            if larger != 0 {
                let next = larger & larger.wrapping_neg();
                let to_next = next - ((iova | paddr) & (next - 1));
                if (iova ^ paddr) & (next - 1) == 0 && to_next < step {
                    step = to_next;
                }
            }
            // CAST: below 64.
            if let Some(count) = self.counts.get_mut(shift as usize) {
                *count += step / size;
            }
            iova = iova.wrapping_add(step);
            paddr = paddr.wrapping_add(step);
            len -= step;
        }
    }
}

/// The largest size in `bits` of which `address` is a multiple and that fits in `len`.
fn largest_fit(bits: u64, address: u64, len: u64) -> Option<u32> {
    let mut fits = bits & (u64::MAX >> len.leading_zeros());
    if address != 0 {
        fits &= u64::MAX >> (63 - address.trailing_zeros());
    }
    fits.checked_ilog2()
}

/// The largest size in `bits` that fits in `len`, or else the smallest: what an IOVA is aligned to
/// for memory of that length.
pub(crate) fn largest(bits: u64, len: usize) -> u64 {
    // CAST: a `usize` is at most 64 bits wide.
    match largest_fit(bits, 0, (len as u64).max(1)) {
        Some(shift) => 1 << shift,
        None => bits & bits.wrapping_neg(),
    }
}

/// The largest size in `bits` below `size`.
pub(crate) fn next_smaller(bits: u64, size: u64) -> Option<u64> {
    (bits & size.wrapping_sub(1))
        .checked_ilog2()
        .map(|shift| 1 << shift)
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(phyr_iommu_pages)]
mod tests {
    use super::*;

    const K4: u64 = 1 << 12;
    const M2: u64 = 1 << 21;
    const G1: u64 = 1 << 30;
    /// As x86 has them.
    const BITS: u64 = K4 | M2 | G1;

    fn sizes(iova: u64, paddr: u64, len: u64) -> (u64, u64, u64) {
        let mut sizes = PageSizes::default();
        sizes.add(BITS, iova, paddr, len);
        (sizes.count(K4), sizes.count(M2), sizes.count(G1))
    }

    #[test]
    fn small_pages_where_no_larger_fits() {
        assert_eq!(sizes(0, 0, K4), (1, 0, 0));
        assert_eq!(sizes(K4, 5 * K4, 7 * K4), (7, 0, 0));
        // As far into a large page, but too short.
        assert_eq!(sizes(M2, 3 * M2, M2 - K4), (511, 0, 0));
        // Long enough, but not as far into one.
        assert_eq!(sizes(M2, M2 + K4, 4 * M2), (2048, 0, 0));
    }

    #[test]
    fn large_pages_where_address_and_length_allow() {
        assert_eq!(sizes(M2, 3 * M2, M2), (0, 1, 0));
        assert_eq!(sizes(M2 - K4, 3 * M2 - K4, M2 + 2 * K4), (2, 1, 0));
        assert_eq!(sizes(G1 - M2, 5 * G1 - M2, G1 + 2 * M2), (0, 2, 1));
        assert_eq!(sizes(G1 - K4, 2 * G1 - K4, 2 * G1), (512, 511, 1));
        assert_eq!(sizes(0, 0, 4 * G1), (0, 0, 4));
    }

    #[test]
    fn what_an_address_is_aligned_to() {
        assert_eq!(largest(BITS, 1), K4);
        assert_eq!(largest(BITS, 4096), K4);
        assert_eq!(largest(BITS, (M2 - 1) as usize), K4);
        assert_eq!(largest(BITS, M2 as usize), M2);
        assert_eq!(largest(BITS, usize::MAX), G1);
        assert_eq!(next_smaller(BITS, G1), Some(M2));
        assert_eq!(next_smaller(BITS, M2), Some(K4));
        assert_eq!(next_smaller(BITS, K4), None);
    }

    /// The model takes page after page, each the largest that can be there.
    #[test]
    fn random_ranges_match_the_model() {
        let mut random = phyr::model::Random::new(0x70616765);
        for _ in 0..500 {
            let near = |random: &mut phyr::model::Random| {
                random.below(4) * G1 + random.below(3) * M2 + random.below(3) * K4
            };
            let paddr = near(&mut random);
            let iova = match random.below(3) {
                0 => near(&mut random),
                1 => paddr ^ G1,
                _ => paddr ^ M2,
            };
            let len = random.below(2) * G1 + random.below(600) * M2 + (1 + random.below(600)) * K4;

            let mut model = (0, 0, 0);
            let mut at = 0;
            while at < len {
                let both = (iova + at) | (paddr + at);
                let fits = |size| both % size == 0 && len - at >= size;
                if fits(G1) {
                    model.2 += 1;
                    at += G1;
                } else if fits(M2) {
                    model.1 += 1;
                    at += M2;
                } else {
                    model.0 += 1;
                    at += K4;
                }
            }
            assert_eq!(sizes(iova, paddr, len), model);
        }
    }
}
