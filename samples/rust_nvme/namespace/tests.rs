// SPDX-License-Identifier: GPL-2.0

//! Tests of [`namespace`](super).

#[kernel::prelude::kunit_tests(rust_nvme_namespace)]
mod cases {
    // PANIC: An `unwrap` or an index that fails is a failed test.

    use super::super::{
        super::tests::{
            is_written,
            needs,
            zeroed, //
        },
        *, //
    };

    /// Makes an Identify structure with the format `(index, metadata, shift)` in use.
    fn identify(blocks: u64, formats: u8, format: (u8, u16, u8)) -> KVec<u8> {
        let mut data = KVec::from_elem(0, 4096, GFP_KERNEL).unwrap();
        let (index, metadata, shift) = format;
        let at = Namespace::LBAF + 4 * usize::from(index);

        data[..8].copy_from_slice(&blocks.to_le_bytes());
        data[8..16].copy_from_slice(&blocks.to_le_bytes());
        data[Namespace::NLBAF] = formats - 1;
        data[Namespace::FLBAS] = index & 0xf | index >> 4 << 5;
        data[at..at + 2].copy_from_slice(&metadata.to_le_bytes());
        data[at + 2] = shift;
        data
    }

    fn parse(data: &[u8]) -> Result<Namespace, NamespaceError> {
        Namespace::parse(1, (1, 4), Ids::NONE, data)
    }

    #[test]
    fn formats_are_found_or_refused() {
        // CAST: A positive number.
        const MAX: u64 = i64::MAX as u64;
        let large = |blocks, shift| Err(NamespaceError::TooLarge { blocks, shift });
        // Blocks, number of formats, the one in use, what becomes of it.
        let table = [
            (1, 1, (0, 0, 9), Ok(9)),
            (1, 2, (1, 0, 12), Ok(12)),
            (1, 16, (15, 0, 10), Ok(10)),
            (1, 17, (16, 0, 11), Ok(11)),
            (1, 64, (63, 0, 9), Ok(9)),
            (1, 1, (0, 0, 8), Err(NamespaceError::BlockSize(8))),
            (1, 1, (0, 0, 13), Err(NamespaceError::BlockSize(13))),
            (1, 1, (0, 0, 255), Err(NamespaceError::BlockSize(255))),
            (
                1,
                1,
                (0, 8, 9),
                Err(NamespaceError::Metadata {
                    bytes: 8,
                    protection: 0,
                }),
            ),
            (MAX >> 9, 1, (0, 0, 9), Ok(9)),
            ((MAX >> 9) + 1, 1, (0, 0, 9), large((MAX >> 9) + 1, 9)),
            (u64::MAX, 1, (0, 0, 12), large(u64::MAX, 12)),
            // Not active: all is zero.
            (0, 1, (0, 0, 0), Err(NamespaceError::Empty)),
        ];

        for (blocks, formats, format, want) in table {
            let got = parse(&identify(blocks, formats, format));
            assert_eq!(got.map(|namespace| namespace.shift), want);
        }
    }

    #[test]
    fn what_has_no_capacity_is_not_there() {
        let mut data = identify(1, 1, (0, 0, 9));
        data[Namespace::NCAP] = 0;
        assert_eq!(parse(&data).map(|_| ()), Err(NamespaceError::Empty));
    }

    #[test]
    fn refusals_name_the_field_and_its_value() {
        for (refusal, text) in [
            (
                NamespaceError::Unidentified(0x10b),
                "Identify fails, sct 0x1 / sc 0xb",
            ),
            (NamespaceError::CommandSet(2), "CSI is 2: a zoned namespace"),
            (
                NamespaceError::CommandSet(1),
                "CSI is 1: not the NVM command set",
            ),
            (NamespaceError::NotReady(4), "NSTAT is 0x4: not ready"),
            (NamespaceError::Empty, "NCAP or NSZE is 0: not there"),
            (
                NamespaceError::Metadata {
                    bytes: 8,
                    protection: 0x8,
                },
                "MS is 8: blocks have metadata; DPS is 0x8: no protection information",
            ),
            (
                NamespaceError::Metadata {
                    bytes: 16,
                    protection: 3,
                },
                "MS is 16: blocks have metadata; DPS is 0x3: protection information of type 3",
            ),
            (
                NamespaceError::BlockSize(13),
                "LBADS is 13: blocks are not 512 to 4096 bytes",
            ),
            (
                NamespaceError::TooLarge {
                    blocks: 1 << 60,
                    shift: 9,
                },
                "NSZE is 0x1000000000000000, of blocks of 2^9 bytes: 2^63 bytes or more",
            ),
            (
                NamespaceError::from(EIO),
                "its Identify structure is cut short",
            ),
        ] {
            assert!(is_written(fmt!("{refusal}"), text));
        }
    }

    #[test]
    fn zeroes_deallocate_where_both_are_said() {
        for (dlfeat, deallocates) in [
            (0x0, false),
            (0x1, false),
            (0x8, false),
            (0x9, true),
            (0xa, false),
            (0x1f, false),
            (0x19, true),
        ] {
            let mut data = identify(1, 1, (0, 0, 9));
            data[Namespace::DLFEAT] = dlfeat;
            assert_eq!(parse(&data).unwrap().zeroes_when_deallocated, deallocates);
        }
    }

    #[test]
    fn sizes_are_in_blocks() {
        for (shift, sectors) in [(9, 10), (10, 20), (12, 80)] {
            let namespace = parse(&identify(10, 1, (0, 0, shift))).unwrap();
            assert_eq!(namespace.sectors(), sectors);
        }
    }

    #[test]
    fn a_short_structure_is_an_error() {
        // All that may be there is: hints, atomic writes, identifiers, the last of all formats.
        let mut data = identify(1, 64, (63, 0, 9));
        data[Namespace::NSFEAT] = 3 << 4 | Namespace::NSFEAT_ATOMICS;
        data[Namespace::NAWUPF] = 1;
        assert!(needs(383, &data, NamespaceError::Short, |data| {
            Namespace::parse(1, (2, 1), Ids::NONE, data).map(|_| ())
        }));
        // Nothing but the first format.
        let data = identify(1, 1, (0, 0, 9));
        assert!(needs(131, &data, NamespaceError::Short, |data| {
            Namespace::parse(1, (1, 0), Ids::NONE, data).map(|_| ())
        }));
        // What is no disk is refused for that reason only if nothing of it is cut off.
        for (data, refusal) in [
            (identify(0, 1, (0, 0, 9)), NamespaceError::Empty),
            (identify(1, 1, (0, 0, 8)), NamespaceError::BlockSize(8)),
        ] {
            let refuse = |data: &[u8]| match parse(data).map(|_| ()) {
                Err(NamespaceError::Short) => Err(NamespaceError::Short),
                other => {
                    assert_eq!(other, Err(refusal));
                    Ok(())
                }
            };
            assert!(needs(131, &data, NamespaceError::Short, refuse));
        }
    }

    /// Makes a structure with each of these 16-bit fields, and with `optperf` in its features.
    fn with_hints(optperf: u8, fields: &[(usize, u16)]) -> KVec<u8> {
        let mut data = identify(1, 1, (0, 0, 9));
        data[Namespace::NSFEAT] = optperf << 4;
        for &(at, value) in fields {
            data[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        data
    }

    #[test]
    fn hints_count_where_they_are_said_to() {
        let fields = [
            (Namespace::NPWG, 7),
            (Namespace::NPDG, 15),
            (Namespace::NPDA, 31),
            (Namespace::NOWS, 63),
            (Namespace::NOIOB, 128),
            (Namespace::NAWUPF, 8),
            (Namespace::NABSPF, 16),
        ];
        let none = Hints {
            boundary: 128,
            ..Hints::NONE
        };
        let all = Hints {
            write_granularity: 8,
            write_size: 64,
            discard_granularity: 16,
            discard_alignment: 32,
            ..none
        };
        let large = Hints {
            discard_granularity: 0,
            ..all
        };
        for (version, optperf, hints, has_large) in [
            ((1, 4), 0, none, false),
            ((1, 4), 1, all, false),
            ((2, 0), 2, none, false),
            ((2, 0), 3, all, false),
            ((2, 1), 1, all, false),
            ((2, 1), 2, large, true),
            ((2, 1), 3, all, true),
            ((2, 1), 4, none, false),
        ] {
            let data = with_hints(optperf, &fields);
            let namespace = Namespace::parse(1, version, Ids::NONE, &data).unwrap();
            assert_eq!(namespace.hints, hints);
            assert_eq!(namespace.has_large_hints, has_large);
        }

        let mut data = with_hints(0, &fields);
        data[Namespace::NSFEAT] |= Namespace::NSFEAT_ATOMICS;
        let hints = parse(&data).unwrap().hints;
        assert_eq!((hints.atomic, hints.atomic_boundary), (9, 17));
        data[Namespace::NAWUPF] = 0;
        let hints = parse(&data).unwrap().hints;
        assert_eq!((hints.atomic, hints.atomic_boundary), (0, 0));
        data[Namespace::NABO] = 1;
        assert!(parse(&data).unwrap().hints.has_atomic_offset);
    }

    #[test]
    fn larger_hints_come_first() {
        let mut namespace = parse(&with_hints(1, &[(Namespace::NPDG, 15)])).unwrap();
        let of = |namespace: &Namespace| {
            let hints = namespace.hints;
            (hints.discard_granularity, hints.discard_alignment)
        };
        namespace.add_nvm(&zeroed()).unwrap();
        assert_eq!(of(&namespace), (16, 1));
        let mut data = zeroed();
        data[268..272].copy_from_slice(&0x1_0000u32.to_le_bytes());
        data[284..288].copy_from_slice(&0x2_0000u32.to_le_bytes());
        namespace.add_nvm(&data).unwrap();
        assert_eq!(of(&namespace), (0x1_0000, 0x2_0000));
        assert!(needs(288, &data, EIO, |data| namespace.add_nvm(data)));
    }

    #[test]
    fn what_all_command_sets_have_is_read() {
        let mut namespace = parse(&identify(1, 1, (0, 0, 9))).unwrap();
        let mut data = zeroed();
        assert_eq!(namespace.add_any(&data), Err(NamespaceError::NotReady(0)));
        data[14] = 1;
        assert_eq!(namespace.add_any(&data), Ok(()));
        assert!(!namespace.rotational && !namespace.no_write_cache && !namespace.read_only);
        data[0] = 1 << 4;
        assert_eq!(namespace.add_any(&data), Ok(()));
        assert!(namespace.rotational && !namespace.no_write_cache && !namespace.read_only);
        data[0] = 1 << 5;
        data[8] = 1;
        assert_eq!(namespace.add_any(&data), Ok(()));
        assert!(!namespace.rotational && namespace.no_write_cache && namespace.read_only);
        let short = NamespaceError::Short;
        assert!(needs(15, &data, short, |data| namespace.add_any(data)));
    }

    #[test]
    fn identifiers_are_those_of_the_list_or_of_the_structure() {
        let mut data = identify(1, 1, (0, 0, 9));
        data[Namespace::NGUID..][..16].fill(1);
        data[Namespace::EUI64..][..8].fill(2);
        let none = Ids::NONE;
        let listed = Ids {
            eui64: [4; 8],
            nguid: [3; 16],
            uuid: [5; 16],
            command_set: 0,
        };
        for (version, ids, nguid, eui64) in [
            ((1, 0), none, 0, 0),
            ((1, 1), none, 0, 2),
            ((1, 2), none, 1, 2),
            ((1, 4), listed, 3, 4),
        ] {
            let namespace = Namespace::parse(1, version, ids, &data).unwrap();
            assert_eq!(namespace.ids.nguid, [nguid; 16]);
            assert_eq!(namespace.ids.eui64, [eui64; 8]);
            assert_eq!(namespace.ids.uuid, ids.uuid);
        }
    }
}
