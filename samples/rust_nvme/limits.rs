// SPDX-License-Identifier: GPL-2.0

//! Limits of a namespace as a disk, in the block layer's units.
//!
//! Nothing here calls the kernel.
//!
//! C: `nvme_update_disk_info()`, `nvme_configure_atomic_write()`, `nvme_set_chunk_sectors()` and
//! `nvme_init_non_mdts_limits()` in [`drivers/nvme/host/core.c`](srctree/drivers/nvme/host/core.c)

use super::{
    identify::ControllerIdentity,
    layout::Layout,
    namespace::Namespace, //
};

/// A sector of the block layer is `1 << SECTOR_SHIFT` bytes.
const SECTOR_SHIFT: u32 = 9;

/// Most blocks of a write zeroes command, whose field has 16 bits and is one less.
const MAX_ZEROES_BLOCKS: u32 = 1 << 16;

/// Limits of discard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiscardLimits {
    pub(crate) max_sectors: u32,
    pub(crate) max_ranges: u16,
    /// In bytes.
    pub(crate) granularity: u32,
}

/// Limits of atomic writes, in bytes. The smallest is a logical block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtomicLimits {
    pub(crate) max: u32,
    /// They may not cross a multiple of this, a power of two, unless it is 0.
    pub(crate) boundary: u32,
}

/// Limits of a disk. Sizes are in bytes, unless they are sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskLimits {
    pub(crate) max_sectors: u32,
    pub(crate) logical_block: u32,
    pub(crate) physical_block: u32,
    pub(crate) io_min: u32,
    /// 0: there is no hint.
    pub(crate) io_opt: u32,
    /// I/O does not cross multiples of this, unless it is 0.
    pub(crate) chunk_sectors: u32,
    /// 0: there is no write zeroes.
    pub(crate) max_zeroes_sectors: u32,
    pub(crate) discard: Option<DiscardLimits>,
    pub(crate) atomic: Option<AtomicLimits>,
}

impl DiskLimits {
    /// Computes the limits of `namespace` on a controller of `identity` with queues of `layout`.
    pub(crate) fn new(
        namespace: &Namespace,
        identity: &ControllerIdentity,
        layout: &Layout,
    ) -> Self {
        let hints = &namespace.hints;
        let block = 1u32 << namespace.shift;
        // CAST: A transfer is 4 MiB at most.
        let max_sectors = (layout.max_transfer >> SECTOR_SHIFT) as u32;
        // A block is 4 KiB at most, and there are no more than 2^16 of them.
        let preferred = block * hints.write_granularity.max(1);
        let atomic = AtomicLimits {
            max: block * hints.atomic.max(1),
            boundary: block * hints.atomic_boundary,
        };
        let whole = if hints.has_atomic_offset {
            block
        } else {
            atomic.max
        };
        let boundary = u32::from(hints.boundary) << (namespace.shift - SECTOR_SHIFT);
        let chunk_sectors = if boundary.is_power_of_two() {
            boundary
        } else {
            0
        };

        Self {
            max_sectors,
            logical_block: block,
            // File systems rely on writes of a physical block to be atomic. The block layer wants a
            // power of two.
            physical_block: (1 << 31) >> preferred.min(whole).leading_zeros(),
            io_min: preferred,
            io_opt: block * hints.write_size,
            chunk_sectors,
            max_zeroes_sectors: max_zeroes(namespace, identity, max_sectors),
            discard: identity.has_discard.then(|| DiscardLimits {
                max_sectors: max_discard(namespace, identity),
                max_ranges: match identity.max_discard_ranges {
                    0 => layout.max_dsm_ranges(),
                    ranges => layout.max_dsm_ranges().min(ranges.into()),
                },
                granularity: block
                    .checked_mul(
                        hints
                            .discard_granularity
                            .max(hints.discard_alignment)
                            .max(1),
                    )
                    .unwrap_or(block),
            }),
            atomic: Some(atomic)
                .filter(|atomic| !hints.has_atomic_offset && atomic.fits(chunk_sectors)),
        }
    }
}

impl AtomicLimits {
    /// Returns whether the block layer accepts the limits beside chunks of `chunk_sectors`, which
    /// is a power of two or 0. Of others it warns.
    fn fits(&self, chunk_sectors: u32) -> bool {
        let within = |limit: u32| limit == 0 || self.max <= limit;
        let is_boundary = self.boundary == 0 || self.boundary.is_power_of_two();

        is_boundary
            && within(self.boundary)
            && (chunk_sectors == 0 || self.max >> SECTOR_SHIFT <= chunk_sectors)
    }
}

/// Returns the most sectors of a write zeroes command: the controller's limit; without one, as it
/// may take as long, no more than a write has.
fn max_zeroes(namespace: &Namespace, identity: &ControllerIdentity, max_sectors: u32) -> u32 {
    if !identity.has_write_zeroes {
        return 0;
    }
    let max = match identity.max_zeroes {
        0 => max_sectors,
        bytes => u32::try_from(bytes >> SECTOR_SHIFT).unwrap_or(u32::MAX),
    };
    max.min(MAX_ZEROES_BLOCKS << (namespace.shift - SECTOR_SHIFT))
}

/// Returns the most sectors of a discard, of each range and of all.
fn max_discard(namespace: &Namespace, identity: &ControllerIdentity) -> u32 {
    let limit = |blocks: u64| match blocks {
        0 => u64::MAX,
        // Cut so that it does not overflow: the result has 32 bits.
        blocks => blocks.min(u32::MAX.into()) << (namespace.shift - SECTOR_SHIFT),
    };
    let max = limit(identity.max_discard_blocks.into()).min(limit(identity.max_discard_total));
    u32::try_from(max).unwrap_or(u32::MAX)
}

#[kernel::prelude::kunit_tests(rust_nvme_limits)]
mod tests {
    // PANIC: An `unwrap` that fails is a failed test.

    use super::{
        super::{
            format::Format,
            namespace::Hints, //
        },
        *, //
    };

    fn layout() -> Layout {
        Layout {
            entries: 2,
            max_transfer: 512 << 10,
            max_segments: 129,
            format: Format::Either,
        }
    }

    fn namespace(shift: u32, hints: Hints) -> Namespace {
        Namespace {
            hints,
            ..Namespace::plain(shift, 1 << 40)
        }
    }

    fn limits(shift: u32, hints: Hints) -> DiskLimits {
        let mut identity = ControllerIdentity::parse(&[0; 4096], 12).unwrap();
        identity.has_discard = true;
        identity.has_write_zeroes = true;
        DiskLimits::new(&namespace(shift, hints), &identity, &layout())
    }

    #[test]
    fn what_is_not_said_is_a_block() {
        for shift in [9, 12] {
            let block = 1 << shift;
            assert_eq!(
                limits(shift, Hints::NONE),
                DiskLimits {
                    max_sectors: 1024,
                    logical_block: block,
                    physical_block: block,
                    io_min: block,
                    io_opt: 0,
                    chunk_sectors: 0,
                    max_zeroes_sectors: 1024,
                    discard: Some(DiscardLimits {
                        max_sectors: u32::MAX,
                        max_ranges: 256,
                        granularity: block,
                    }),
                    atomic: Some(AtomicLimits {
                        max: block,
                        boundary: 0,
                    }),
                }
            );
        }
    }

    #[test]
    fn a_physical_block_is_preferred_atomic_and_a_power_of_two() {
        // Preferred, atomic, in blocks; the physical block.
        for (write_granularity, atomic, offset, physical) in [
            (8, 0, false, 512),
            (8, 8, false, 4096),
            (8, 16, false, 4096),
            (16, 8, false, 4096),
            (8, 8, true, 512),
            (24, 64, false, 8192),
            (64, 24, false, 8192),
            (1 << 16, 1 << 16, false, 32 << 20),
        ] {
            let limits = limits(
                9,
                Hints {
                    write_granularity,
                    atomic,
                    has_atomic_offset: offset,
                    ..Hints::NONE
                },
            );
            assert_eq!(limits.physical_block, physical);
            assert_eq!(limits.io_min, 512 * write_granularity);
            assert_eq!(limits.atomic.is_none(), offset);
        }
    }

    #[test]
    fn atomic_writes_are_what_the_block_layer_can_do_with() {
        // Blocks of an atomic write, of its boundary, and of I/O.
        for (atomic, atomic_boundary, boundary, fits) in [
            (8, 0, 0, true),
            (8, 8, 0, true),
            (8, 16, 0, true),
            (8, 24, 0, false),
            (8, 4, 0, false),
            (8, 0, 8, true),
            (8, 0, 4, false),
            // No power of two, and so not a limit.
            (8, 0, 3, true),
            (8, 32, 16, true),
            (1 << 16, 1 << 16, 1 << 15, false),
        ] {
            let limits = limits(
                12,
                Hints {
                    atomic,
                    atomic_boundary,
                    boundary,
                    ..Hints::NONE
                },
            );
            assert_eq!(limits.atomic.is_some(), fits);
            let power = boundary.is_power_of_two();
            assert_eq!(
                limits.chunk_sectors,
                if power { 8 * u32::from(boundary) } else { 0 }
            );
        }
    }

    #[test]
    fn discards_stay_within_what_is_said() {
        let mut identity = ControllerIdentity::parse(&[0; 4096], 12).unwrap();
        let of = |shift, identity: &ControllerIdentity| {
            DiskLimits::new(&namespace(shift, Hints::NONE), identity, &layout()).discard
        };
        assert!(of(9, &identity).is_none());
        identity.has_discard = true;
        // Blocks of a range, and of all; sectors of blocks of 512 bytes, and of 4 KiB.
        for (one, all, small, large) in [
            (0, 0, u32::MAX, u32::MAX),
            (1, 0, 1, 8),
            (0, 7, 7, 56),
            (9, 7, 7, 56),
            (7, 9, 7, 56),
            (1 << 29, 0, 1 << 29, u32::MAX),
            (u32::MAX, u64::MAX, u32::MAX, u32::MAX),
            ((1 << 29) - 1, 0, (1 << 29) - 1, u32::MAX - 7),
        ] {
            identity.max_discard_blocks = one;
            identity.max_discard_total = all;
            assert_eq!(of(9, &identity).unwrap().max_sectors, small);
            assert_eq!(of(12, &identity).unwrap().max_sectors, large);
        }
        for (said, ranges) in [(0, 256), (1, 1), (255, 255)] {
            identity.max_discard_ranges = said;
            assert_eq!(of(9, &identity).unwrap().max_ranges, ranges);
        }
    }

    #[test]
    fn a_discard_is_as_coarse_as_both_say() {
        for (discard_granularity, discard_alignment, bytes) in [
            (0, 0, 512),
            (8, 0, 4096),
            (0, 8, 4096),
            (8, 16, 8192),
            (1 << 22, 1, 1 << 31),
            (1 << 23, 1, 512),
        ] {
            let hints = Hints {
                discard_granularity,
                discard_alignment,
                ..Hints::NONE
            };
            assert_eq!(limits(9, hints).discard.unwrap().granularity, bytes);
        }
    }

    #[test]
    fn zeroes_are_written_as_is_said() {
        let mut identity = ControllerIdentity::parse(&[0; 4096], 12).unwrap();
        let of = |shift, identity: &ControllerIdentity| {
            DiskLimits::new(&namespace(shift, Hints::NONE), identity, &layout()).max_zeroes_sectors
        };
        assert_eq!(of(9, &identity), 0);
        identity.has_write_zeroes = true;
        for (bytes, small, large) in [
            (0, 1024, 1024),
            (8192, 16, 16),
            (2 << 20, 4096, 4096),
            (64 << 20, 65536, 131_072),
            (1 << 63, 65536, 524_288),
        ] {
            identity.max_zeroes = bytes;
            assert_eq!(of(9, &identity), small);
            assert_eq!(of(12, &identity), large);
        }
    }
}
