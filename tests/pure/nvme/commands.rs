// SPDX-License-Identifier: GPL-2.0

//! Oracles: commands of user space, the words of commands, and what a controller says of itself.

use super::{
    cmd::{
        dsm_range,
        Blocks,
        Cid,
        Command, //
    },
    desc::{
        Kind,
        Pointer, //
    },
    identify::{
        Identity,
        Namespace, //
    },
    layout::{
        Format,
        Layout, //
    },
    plan::{
        Plan,
        Way, //
    },
    uapi, //
};
use crate::{
    Input,
    Mode, //
};
use kernel::prelude::*;

pub fn check_plan(input: &mut Input<'_>) {
    let namespace = Namespace {
        id: 1,
        blocks: input.number(),
        shift: 9 + input.below(4) as u32,
        zeroes_when_deallocated: false,
        read_only: input.once_in(4),
    };
    let layout = Layout {
        entries: 2,
        max_transfer: input.pick(&[1 << 20, 4096, 1 << 31, usize::MAX]),
        max_segments: 1,
        format: Format::Prp,
        chain: false,
    };
    let mode = Mode {
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
    assert_eq!(Plan::is_command(op), is_read || is_write);

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

    match Plan::new(op, &cmd, mode, &namespace, &layout) {
        Err(e) => assert_eq!(Some(e), refused),
        Ok(plan) => {
            assert_eq!(refused, None);
            let way = if is_read {
                Way::Read
            } else {
                Way::Write { fua }
            };
            assert_eq!(plan.way, way);
            assert_eq!(
                (plan.handle, plan.offset, plan.len),
                (cmd.handle, cmd.offset, cmd.len)
            );
            assert_eq!(plan.blocks.first, cmd.slba);
            let bytes = (u64::from(plan.blocks.count_less_one) + 1) * block;
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
    let (first, count) = (sector / (1 << (shift - 9)), bytes >> shift);
    match Blocks::new(sector, bytes, shift) {
        None => assert!(count == 0 || count > 65536),
        Some(blocks) => {
            assert_eq!(
                (blocks.first, u32::from(blocks.count_less_one) + 1),
                (first, count)
            );

            let kind = input.pick(&[Kind::Prp, Kind::Sgl]);
            let words = [input.number(), input.number()];
            let data = Pointer {
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
            let psdt = u32::from(kind == Kind::Sgl) << 14;
            assert_eq!(got[0], u32::from(cid) << 16 | psdt | u32::from(opcode));
            assert_eq!((pair(6), pair(8), pair(10)), (words[0], words[1], first));
            let control = u32::from(fua && opcode == 1) << 30;
            assert_eq!(got[12], (count - 1) | control);
        }
    }
    assert_eq!(
        dsm_range(sector, bytes, shift),
        [u64::from(count) << 32, first]
    );
}

/// A controller can say anything.
pub fn check_identify(input: &mut Input<'_>) {
    let shift = 12 + input.below(16) as u32;
    let mut data = vec![0; input.pick(&[4096, 4096, 4096, 600, 100])];
    // Rarely all of it: what is not said is zero.
    for _ in 0..input.below(40) {
        let at = input.pick(&[
            0, 1, 2, 4, 5, 25, 26, 33, 77, 88, 99, 128, 130, 516, 520, 525, 536,
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

    match Identity::parse(&data, shift) {
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
            assert_eq!(Some(u64::from(identity.max_discard_blocks)), le(4, 4));
        }
    }

    let flbas = le(26, 1).unwrap_or(0);
    let index = match le(25, 1) {
        Some(nlbaf) if nlbaf > 15 => flbas & 15 | (flbas >> 5 & 3) << 4,
        _ => flbas & 15,
    };
    let format = 128 + 4 * index as usize;
    let (blocks, metadata, bits) = (le(0, 8), le(format, 2), le(format + 2, 1));
    match Namespace::parse(9, &data) {
        Err(e) if e == EIO => assert!(data.len() < 128 + 4 * 64),
        Err(e) => {
            let odd = metadata != Some(0) || !(9..=12).contains(&bits.expect("LBADS"));
            assert_ne!(blocks, Some(0));
            assert_eq!(e, if odd { EOPNOTSUPP } else { EOVERFLOW });
            let bytes = blocks.map(|blocks| u128::from(blocks) << bits.unwrap_or(0).min(12));
            assert!(odd || bytes.is_some_and(|bytes| bytes > i64::MAX as u128));
        }
        Ok(namespace) => {
            assert_eq!((namespace.id, Some(namespace.blocks)), (9, blocks));
            assert_eq!(Some(u64::from(namespace.shift)), bits);
            let dlfeat = le(33, 1).expect("DLFEAT");
            assert_eq!(namespace.zeroes_when_deallocated, dlfeat & 0xf == 9);
            assert_eq!(
                Some(u64::from(namespace.read_only)),
                le(99, 1).map(|v| v & 1)
            );
            // What has no blocks is no disk.
            if namespace.blocks != 0 {
                assert_eq!(metadata, Some(0));
                let bytes = u128::from(namespace.sectors()) * 512;
                assert_eq!(bytes, u128::from(namespace.blocks) << namespace.shift);
                assert!(bytes <= i64::MAX as u128);
            }
        }
    }
}
