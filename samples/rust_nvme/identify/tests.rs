// SPDX-License-Identifier: GPL-2.0

//! Tests of [`identify`](super).

#[kernel::prelude::kunit_tests(rust_nvme_identify)]
mod cases {
    // PANIC: An `unwrap` or an index that fails is a failed test.
    // CAST: A `usize` has 64 bits at most.

    use super::super::{
        super::tests::{
            needs,
            zeroed, //
        },
        *, //
    };

    /// Smallest memory page of the controller, as a power of two.
    const SHIFT: u32 = 12;

    #[test]
    fn a_shutdown_gets_5_to_60_seconds() {
        for (micros, secs) in [
            (0, 5),
            (5_999_999, 5),
            (6_000_000, 6),
            (60_000_000, 60),
            (61_000_000, 60),
            (u32::MAX, 60),
        ] {
            let mut data = zeroed();
            data[ControllerIdentity::RTD3E..][..4].copy_from_slice(&micros.to_le_bytes());
            let identity = ControllerIdentity::parse(&data, SHIFT).unwrap();
            assert_eq!(identity.shutdown_secs, secs);
        }
    }

    #[test]
    fn limits_are_powers_of_two_pages() {
        for (power, bytes) in [
            (0, 0),
            (1, 8192),
            (7, 512 << 10),
            ((usize::BITS - 13) as u8, 1 << (usize::BITS - 1)),
            ((usize::BITS - 12) as u8, 0),
            (255, 0),
        ] {
            assert_eq!(pages(power, SHIFT), bytes);
        }
    }

    #[test]
    fn nvm_limits_have_their_layout() {
        let mut data = zeroed();
        data[1] = 5;
        data[3] = 7;
        data[4..8].copy_from_slice(&0x1234_5678u32.to_le_bytes());
        data[8..16].copy_from_slice(&0x8877_6655_4433_2211u64.to_le_bytes());

        let of = |identity: &ControllerIdentity| {
            (
                identity.max_zeroes,
                identity.max_discard_ranges,
                identity.max_discard_blocks,
                identity.max_discard_total,
            )
        };
        let mut identity = ControllerIdentity::parse(&zeroed(), SHIFT).unwrap();
        assert_eq!(of(&identity), (0, 0, 0, 0));
        identity.add_nvm_limits(&data, SHIFT).unwrap();
        assert_eq!(
            of(&identity),
            (128 << 10, 7, 0x1234_5678, 0x8877_6655_4433_2211)
        );
        // Cut short they change nothing.
        let none = zeroed();
        let add = |data: &[u8]| {
            let mut identity = ControllerIdentity::parse(&none, SHIFT)?;
            let result = identity.add_nvm_limits(data, SHIFT);
            let unchanged = of(&identity) == (0, 0, 0, 0);
            assert_eq!(unchanged, result.is_err());
            result
        };
        assert!(needs(16, &data, EIO, add));
    }

    #[test]
    fn names_have_their_layout() {
        let mut data = zeroed();
        data[..2].copy_from_slice(&0x1b36u16.to_le_bytes());
        data[4..24].copy_from_slice(b"serial              ");
        data[24..64].fill(b'm');
        data[64..72].copy_from_slice(b"firmware");
        let names = ControllerIdentity::parse(&data, SHIFT).unwrap().names;
        assert_eq!(names.vendor, 0x1b36);
        assert_eq!(names.serial, *b"serial              ");
        assert_eq!(names.model, [b'm'; 40]);
        assert_eq!(names.firmware, *b"firmware");
    }

    #[test]
    fn a_short_controller_structure_is_an_error() {
        assert!(needs(540, &zeroed(), EIO, |data| {
            ControllerIdentity::parse(data, SHIFT).map(|_| ())
        }));
    }
}
