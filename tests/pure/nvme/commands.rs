// SPDX-License-Identifier: GPL-2.0

//! Oracles: commands of user space, the words of commands, and what a controller says of itself.

use super::{
    cmd::{
        dsm_range,
        Blocks,
        Cid,
        Command,
        SubmissionEntry, //
    },
    desc::{
        DataPointer,
        DescriptorKind, //
    },
    format::Format,
    identify::ControllerIdentity,
    layout::Layout,
    limits::DiskLimits,
    names::Ids,
    namespace::{
        Hints,
        Namespace,
        NamespaceError, //
    },
    uapi,
    user_command::{
        UserCommand,
        UserOp, //
    }, //
};
use crate::{
    FileMode, //
    Input,
};
use kernel::prelude::*;

pub fn check_user_command(input: &mut Input<'_>) {
    let blocks = input.number();
    let namespace = Namespace {
        read_only: input.once_in(4),
        ..Namespace::plain(9 + input.below(4) as u32, blocks)
    };
    let layout = Layout {
        entries: 2,
        max_transfer: input.pick(&[1 << 20, 4096, 1 << 31, usize::MAX]),
        max_segments: 1,
        format: Format::Prp,
    };
    let mode = FileMode {
        read: !input.once_in(8),
        write: !input.once_in(8),
    };
    let cmd = uapi::Cmd {
        offset: input.number(),
        slba: input.number(),
        len: (1 + input.below(300) as u32) << input.below(24) >> input.below(4),
        handle: input.below(1 << 32) as u32,
        flags: if input.once_in(2) {
            input.below(4) as u32
        } else {
            0
        },
        reserved: input.once_in(8).into(),
    };
    let op = match input.below(8) {
        0 => input.number() as u32,
        n if n % 2 == 0 => uapi::CMD_READ,
        _ => uapi::CMD_WRITE,
    };
    let (is_read, is_write) = (op == uapi::CMD_READ, op == uapi::CMD_WRITE);
    assert_eq!(UserCommand::is_command(op), is_read || is_write);

    let block = 1u64 << namespace.shift;
    let end = u128::from(cmd.slba) + u128::from(cmd.len) / u128::from(block);
    let fua = cmd.flags == uapi::CMD_FUA && is_write;
    // In the order in which they are said.
    let refused = [
        (!is_read && !is_write, ENOTTY),
        (
            cmd.reserved != 0 || cmd.offset % 4 != 0 || cmd.flags != 0 && !fua,
            EINVAL,
        ),
        (!(is_read && mode.read || is_write && mode.write), EBADF),
        (is_write && namespace.read_only, EROFS),
        (cmd.len == 0 || u64::from(cmd.len) % block != 0, EINVAL),
        (u128::from(cmd.len) > layout.max_transfer as u128, EMSGSIZE),
        (end > namespace.blocks.into(), ENXIO),
        (u64::from(cmd.len) / block > 65536, EMSGSIZE),
    ]
    .into_iter()
    .find_map(|(wrong, e)| wrong.then_some(e));

    match UserCommand::new(op, &cmd, mode, &namespace, &layout) {
        Err(e) => assert_eq!(Some(e), refused),
        Ok(command) => {
            assert_eq!(refused, None);
            let want = if is_read {
                UserOp::Read
            } else {
                UserOp::Write { fua }
            };
            assert_eq!(command.op, want);
            assert_eq!(
                (command.handle, command.offset, command.len),
                (cmd.handle, cmd.offset, cmd.len)
            );
            assert_eq!(command.blocks.first, cmd.slba);
            let bytes = (u64::from(command.blocks.count_less_one) + 1) * block;
            assert_eq!(bytes, cmd.len.into());
        }
    }
}

pub fn check_words(input: &mut Input<'_>) {
    let cid = input.below(1 << 16) as u16;
    let parts = Cid::from_raw(cid);
    assert!(parts.tag < Cid::TAGS && parts.generation < 16);
    assert_eq!(parts.into_raw(), cid);

    let shift = 9 + input.below(4) as u32;
    let (sector, bytes) = (input.number(), input.number() as u32);
    let sectors = input.number() as u32;
    let (first, count) = (sector / (1 << (shift - 9)), bytes >> shift);
    match Blocks::new(sector, bytes, shift) {
        None => assert!(count == 0 || count > 65536),
        Some(blocks) => {
            assert_eq!(
                (blocks.first, u32::from(blocks.count_less_one) + 1),
                (first, count)
            );

            let kind = input.pick(&[DescriptorKind::Prp, DescriptorKind::Sgl]);
            let words = [input.number(), input.number()];
            let data = DataPointer {
                kind,
                words,
                entries: 1,
            };
            let fua = input.once_in(2);
            let (command, opcode) = match input.below(2) {
                0 => (Command::read(7, blocks, &data), 2),
                _ => (Command::write(7, blocks, &data, fua), 1),
            };
            assert_eq!(command.opcode(), opcode);
            let entry = command.with_cid(cid).to_entry().map(u64::from_le);
            let got: [u32; 16] =
                std::array::from_fn(|word| (entry[word / 2] >> (word % 2 * 32)) as u32);
            let pair = |at: usize| u64::from(got[at]) | u64::from(got[at + 1]) << 32;
            let psdt = u32::from(kind == DescriptorKind::Sgl) << 14;
            assert_eq!(got[0], u32::from(cid) << 16 | psdt | u32::from(opcode));
            assert_eq!((pair(6), pair(8), pair(10)), (words[0], words[1], first));
            let control = u32::from(fua && opcode == 1) << 30;
            assert_eq!(got[12], (count - 1) | control);
        }
    }
    assert_eq!(
        dsm_range(sector, sectors, shift),
        [u64::from(sectors >> (shift - 9)) << 32, first]
    );
}

/// Parses what a controller says, which can be anything.
pub fn check_identify(input: &mut Input<'_>) {
    let shift = 12 + input.below(16) as u32;
    let version = input.pick(&[(1, 0), (1, 1), (1, 2), (1, 4), (2, 0), (2, 1), (3, 0)]);
    let listed = Ids {
        nguid: [input.below(2) as u8; 16],
        eui64: [input.below(2) as u8; 8],
        ..Ids::NONE
    };
    let mut data = vec![0; input.pick(&[4096, 4096, 4096, 600, 100])];
    // Rarely all of it: what is not said is zero.
    for _ in 0..input.below(40) {
        let at = input.pick(&[
            0, 1, 2, 3, 4, 5, 8, 14, 24, 25, 26, 29, 33, 36, 42, 44, 46, 64, 68, 70, 72, 77, 88,
            99, 104, 120, 128, 130, 268, 284, 516, 520, 525, 536,
        ]);
        if let Some(byte) = data.get_mut(at + input.below(2) as usize) {
            *byte = input.below(256) as u8;
        }
    }
    for (byte, from) in data.iter_mut().zip(input.rest()) {
        *byte ^= from;
    }
    let le = |at: usize, n: usize| {
        let bytes = data.get(at..at + n)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |value, &byte| value << 8 | u64::from(byte)),
        )
    };
    let pages = |power: u64| match u64::from(shift) + power {
        bits if power == 0 || bits > 63 => 0,
        bits => 1usize << bits,
    };

    match ControllerIdentity::parse(&data, shift) {
        Err(e) => assert!(e == EIO && data.len() < 540),
        Ok(mut identity) => {
            assert_eq!(identity.max_transfer, pages(le(77, 1).expect("MDTS")));
            let secs = le(88, 4).expect("RTD3E") / 1_000_000;
            assert_eq!(u64::from(identity.shutdown_secs), secs.clamp(5, 60));
            assert_eq!(Some(u64::from(identity.namespaces)), le(516, 4));
            let oncs = le(520, 2).expect("ONCS");
            assert_eq!(identity.has_discard, oncs >> 2 & 1 == 1);
            assert_eq!(identity.has_write_zeroes, oncs >> 3 & 1 == 1);
            assert_eq!(
                Some(u64::from(identity.has_write_cache)),
                le(525, 1).map(|v| v & 1)
            );
            let sgls = le(536, 1).expect("SGLS") & 3;
            assert_eq!(identity.has_sgl, sgls == 1 || sgls == 2);
            identity
                .add_nvm_limits(&data, shift)
                .expect("it is long enough");
            assert_eq!(identity.max_zeroes, pages(le(1, 1).expect("WZSL")));
            assert_eq!(Some(u64::from(identity.max_discard_ranges)), le(3, 1));
            assert_eq!(Some(u64::from(identity.max_discard_blocks)), le(4, 4));
            assert_eq!(Some(identity.max_discard_total), le(8, 8));
            assert_eq!(Some(u64::from(identity.names.vendor)), le(0, 2));
            assert_eq!(Some(&identity.names.serial[..]), data.get(4..24));
            assert_eq!(Some(&identity.names.model[..]), data.get(24..64));
            assert_eq!(Some(&identity.names.firmware[..]), data.get(64..72));
        }
    }

    let flbas = le(26, 1).unwrap_or(0);
    let index = match le(25, 1) {
        Some(nlbaf) if nlbaf > 15 => flbas & 15 | (flbas >> 5 & 3) << 4,
        _ => flbas & 15,
    };
    let format = 128 + 4 * index as usize;
    let (blocks, metadata, bits) = (le(0, 8), le(format, 2), le(format + 2, 1));
    match Namespace::parse(9, version, listed, &data) {
        Err(NamespaceError::Short) => assert!(data.len() < 128 + 4 * 64),
        Err(NamespaceError::Empty) => assert!(blocks == Some(0) || le(8, 8) == Some(0)),
        Err(NamespaceError::Metadata { bytes, protection }) => {
            assert!(bytes != 0 && metadata == Some(bytes.into()));
            assert_eq!(le(29, 1), Some(protection.into()));
        }
        Err(NamespaceError::BlockSize(shift)) => {
            assert!(bits == Some(shift.into()) && !(9..=12).contains(&shift));
        }
        Err(NamespaceError::TooLarge {
            blocks: said,
            shift,
        }) => {
            assert_eq!((blocks, bits), (Some(said), Some(shift.into())));
            assert!(u128::from(said) << shift > i64::MAX as u128);
        }
        Err(other) => panic!("{other:?}"),
        Ok(mut namespace) => {
            assert_eq!((namespace.id, Some(namespace.blocks)), (9, blocks));
            assert_eq!(Some(u64::from(namespace.shift)), bits);
            let dlfeat = le(33, 1).expect("DLFEAT");
            assert_eq!(namespace.zeroes_when_deallocated, dlfeat & 0xf == 9);
            assert_eq!(
                Some(u64::from(namespace.read_only)),
                le(99, 1).map(|v| v & 1)
            );
            assert_eq!(metadata, Some(0));
            let bytes = u128::from(namespace.sectors()) * 512;
            assert_eq!(bytes, u128::from(namespace.blocks) << namespace.shift);
            assert!(bytes <= i64::MAX as u128);
            check_hints(&namespace, version, &le);

            let nguid = match listed.nguid {
                ids if ids != [0; 16] => ids,
                _ if version < (1, 2) => [0; 16],
                _ => data[104..120].try_into().expect("NGUID"),
            };
            let eui64 = match listed.eui64 {
                ids if ids != [0; 8] => ids,
                _ if version < (1, 1) => [0; 8],
                _ => data[120..128].try_into().expect("EUI64"),
            };
            assert_eq!((namespace.ids.nguid, namespace.ids.eui64), (nguid, eui64));

            let before = namespace.hints;
            assert_eq!(namespace.add_nvm(&data).is_ok(), data.len() >= 288);
            if let (Some(granularity), Some(alignment)) = (le(268, 4), le(284, 4)) {
                let either = |said: u64, before: u32| if said == 0 { before.into() } else { said };
                let hints = namespace.hints;
                assert_eq!(
                    u64::from(hints.discard_granularity),
                    either(granularity, before.discard_granularity)
                );
                assert_eq!(
                    u64::from(hints.discard_alignment),
                    either(alignment, before.discard_alignment)
                );
            }
            match (namespace.add_any(&data), le(14, 1), le(0, 1)) {
                (Err(NamespaceError::NotReady(status)), said, _) => {
                    assert!(said == Some(status.into()) && status & 1 == 0);
                }
                (Ok(()), Some(status), Some(features)) => {
                    assert_eq!(status & 1, 1);
                    assert_eq!(namespace.rotational, features >> 4 & 1 == 1);
                    assert_eq!(namespace.no_write_cache, features >> 5 & 1 == 1);
                    assert_eq!(
                        Some(u64::from(namespace.read_only)),
                        le(8, 1).map(|v| v & 1)
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn check_hints(
    namespace: &Namespace,
    version: (u32, u32),
    le: &dyn Fn(usize, usize) -> Option<u64>,
) {
    let field = |at| le(at, 2).expect("all of it was read");
    let features = le(24, 1).expect("NSFEAT");
    let known = if version >= (2, 1) { 3 } else { 1 };
    let optperf = features >> 4 & known;
    let more = |value: u64| if value == 0 { 0 } else { value + 1 };
    let given = |on: bool, value: u64| if on { value } else { 0 };
    let hints = &namespace.hints;

    assert_eq!(
        [
            u64::from(hints.write_granularity),
            hints.write_size.into(),
            hints.discard_granularity.into(),
            hints.discard_alignment.into(),
            hints.boundary.into(),
        ],
        [
            given(optperf != 0, field(64) + 1),
            given(optperf != 0, more(field(72))),
            given(optperf & 1 != 0, field(68) + 1),
            given(optperf != 0, field(70) + 1),
            field(46),
        ]
    );
    let atomic = given(features & 2 != 0, more(field(36)));
    assert_eq!(u64::from(hints.atomic), atomic);
    let boundary = given(atomic != 0, more(field(44)));
    assert_eq!(u64::from(hints.atomic_boundary), boundary);
    assert_eq!(hints.has_atomic_offset, field(42) != 0);
    assert_eq!(namespace.has_large_hints, optperf & 2 != 0);
}

/// Checks that the block layer refuses no limit, and warns of none, whatever a controller says.
pub fn check_disk_limits(input: &mut Input<'_>) {
    let mut some = |most: u64| match input.below(3) {
        0 => 0,
        1 => 1 << input.below(u64::from(most.ilog2()) + 1),
        _ => input.number() % most + 1,
    };
    let write_granularity = some(1 << 16) as u32;
    let hints = Hints {
        write_granularity,
        write_size: some(1 << 16) as u32,
        discard_granularity: some(u32::MAX.into()) as u32,
        discard_alignment: some(u32::MAX.into()) as u32,
        boundary: some(u16::MAX.into()) as u16,
        atomic: some(1 << 16) as u32,
        atomic_boundary: some(1 << 16) as u32,
        has_atomic_offset: some(4) == 1,
    };
    let namespace = &Namespace {
        hints,
        ..Namespace::plain(9 + input.below(4) as u32, 1)
    };
    let layout = Layout {
        entries: 2,
        max_transfer: input.pick(&[4096, 8192, 512 << 10, 4 << 20]),
        max_segments: 1 + input.below(256) as u16,
        format: input.pick(&[Format::Prp, Format::Sgl, Format::Either]),
    };
    let mut identity = ControllerIdentity::parse(&[0; 4096], 12).expect("it is long enough");
    identity.has_discard = !input.once_in(4);
    identity.has_write_zeroes = !input.once_in(4);
    identity.max_zeroes = input.number() as usize >> input.below(64);
    identity.max_discard_ranges = input.below(256) as u8;
    identity.max_discard_blocks = input.number() as u32;
    identity.max_discard_total = input.number();
    let limits = DiskLimits::new(namespace, &identity, &layout);
    let block = 1u64 << namespace.shift;

    assert_eq!(u64::from(limits.logical_block), block);
    assert!(limits.physical_block.is_power_of_two());
    assert!(limits.physical_block >= limits.logical_block);
    assert!(limits.physical_block <= limits.io_min);
    assert!(limits.chunk_sectors == 0 || limits.chunk_sectors.is_power_of_two());
    let zeroes = u64::from(limits.max_zeroes_sectors) * 512;
    assert!(zeroes / block <= 65536);
    assert!(identity.has_write_zeroes || zeroes == 0);
    if identity.max_zeroes != 0 {
        assert!(zeroes <= identity.max_zeroes as u64);
    }
    if let Some(atomic) = limits.atomic {
        assert!(u64::from(atomic.max) >= block);
        assert!(atomic.boundary == 0 || atomic.boundary.is_power_of_two());
        assert!(atomic.boundary == 0 || atomic.max <= atomic.boundary);
        assert!(limits.chunk_sectors == 0 || atomic.max / 512 <= limits.chunk_sectors);
        assert!(limits.physical_block <= atomic.max && !namespace.hints.has_atomic_offset);
    }
    assert_eq!(limits.discard.is_some(), identity.has_discard);
    if let Some(discard) = limits.discard {
        let blocks = u64::from(discard.max_sectors) * 512 / block;
        let within = |said: u64| said == 0 || blocks <= said;
        assert!(within(identity.max_discard_blocks.into()) && within(identity.max_discard_total));
        let ranges = u32::from(discard.max_ranges);
        assert!((1..=256).contains(&ranges));
        let said = u32::from(identity.max_discard_ranges);
        assert!(said == 0 || ranges <= said);
        assert!(ranges as usize * 2 <= layout.list_words());
        assert_eq!(u64::from(discard.granularity) % block, 0);
    }
}

/// Parses a list of identifiers, of any bytes.
pub fn check_descriptors(input: &mut Input<'_>) {
    let mut data = Vec::new();
    let mut expected = Ids::NONE;
    let mut goes_on = true;
    for _ in 0..input.below(8) {
        let kind = input.below(6) as u8;
        let len = match input.below(8) {
            0 => input.below(20) as u8,
            _ => [5, 8, 16, 16, 1, 7][usize::from(kind)],
        };
        let value = input.below(256) as u8;
        data.extend([kind, len, value, value]);
        data.extend(vec![value; len.into()]);
        goes_on &= len != 0;
        match (kind, len) {
            _ if !goes_on => {}
            (1, 8) => expected.eui64 = [value; 8],
            (2, 16) => expected.nguid = [value; 16],
            (3, 16) => expected.uuid = [value; 16],
            (4, 1) => expected.command_set = value,
            (1..=4, _) => goes_on = false,
            _ => {}
        }
    }
    assert_eq!(Ids::parse(&data), expected);
    data.truncate(input.below(data.len() as u64 + 1) as usize);
    Ids::parse(&data);
    Ids::parse(input.rest());
}
